#include "lithe/points/edge_keys.h"

#include <algorithm>
#include <array>
#include <cstddef>

namespace lithe {
namespace {

constexpr int kBits = 8, kPasses = 4;
constexpr std::size_t kBuckets = std::size_t{1} << kBits;

std::size_t digit(std::uint64_t key, int pass) {
  return key >> (32 + kBits * pass) & (kBuckets - 1);
}

}  // namespace

void sort_edge_keys(std::vector<std::uint64_t>& keys) {
  constexpr std::size_t kFew = 256;
  if (keys.size() < kFew) {
    std::sort(keys.begin(), keys.end());
    return;
  }
  std::array<std::array<std::size_t, kBuckets>, kPasses> counts{};
  for (const std::uint64_t key : keys)
    for (int pass = 0; pass < kPasses; ++pass) ++counts[static_cast<std::size_t>(pass)][digit(key, pass)];
  std::vector<std::uint64_t> spare(keys.size());
  for (int pass = 0; pass < kPasses; ++pass) {
    auto& count = counts[static_cast<std::size_t>(pass)];
    if (count[digit(keys[0], pass)] == keys.size()) continue;  // all the same
    std::size_t start = 0;
    for (std::size_t& c : count) {
      const std::size_t size = c;
      c = start;
      start += size;
    }
    for (const std::uint64_t key : keys) spare[count[digit(key, pass)]++] = key;
    keys.swap(spare);
  }
}

}  // namespace lithe
