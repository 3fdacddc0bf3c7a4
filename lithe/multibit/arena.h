// Places for values whose lifetimes do not overlap share memory.
#pragma once

#include <cstdint>
#include <iterator>
#include <map>

namespace lithe {

/// Hands out places, first fit, in multiples of 16 elements.
class Arena {
 public:
  std::int64_t take(std::int64_t count) {
    constexpr std::int64_t kAlign = 16;
    count = (count + kAlign - 1) / kAlign * kAlign;
    for (auto gap = gaps_.begin(); gap != gaps_.end(); ++gap)
      if (gap->second >= count) {
        const std::int64_t at = gap->first, rest = gap->second - count;
        gaps_.erase(gap);
        if (rest > 0) gaps_[at + count] = rest;
        return remember(at, count);
      }
    const std::int64_t at = size_;
    size_ += count;
    return remember(at, count);
  }

  void give_back(std::int64_t at) {
    std::int64_t count = taken_.at(at);
    taken_.erase(at);
    auto next = gaps_.lower_bound(at);
    if (next != gaps_.end() && next->first == at + count) {
      count += next->second;
      next = gaps_.erase(next);
    }
    if (next != gaps_.begin()) {
      const auto before = std::prev(next);
      if (before->first + before->second == at) {
        before->second += count;
        return;
      }
    }
    gaps_[at] = count;
  }

  /// Elements that all places together need.
  std::int64_t size() const { return size_; }

 private:
  std::int64_t remember(std::int64_t at, std::int64_t count) {
    taken_[at] = count;
    return at;
  }

  std::map<std::int64_t, std::int64_t> gaps_, taken_;
  std::int64_t size_ = 0;
};

}  // namespace lithe
