// The errors of matching in groups: alone, drawn together, and between two key frames.
#include <array>
#include <cmath>
#include <cstddef>

#include "lithe/base/error.h"
#include "lithe/video/match_group.h"

namespace lithe {
namespace {

/// Each has a running style of its own; only tracking joins them.
class Alone : public GroupMatcher {
 public:
  using GroupMatcher::GroupMatcher;

 protected:
  void begin_level(int level) override {
    targets_.resize(members_.size());
    for (std::size_t k = 0; k < members_.size(); ++k)
      targets_[k].set(pairs_[k].target_guide.level(level), nullptr, plan_.border());
  }
  void begin_iteration(const Fields& fields) override {
    for (std::size_t k = 0; k < members_.size(); ++k)
      vote(k, fields[k], targets_[k].style(), 8, targets_[k].row_step());
  }
  void evaluate(const Fields& fields, Errors& errors) override {
    for (std::size_t k = 0; k < members_.size(); ++k)
      measure(members_[k].source.image(), fields[k], targets_[k].image(), {}, plan_.guide_weight, 256,
              errors[k]);
  }

  std::vector<PatchPlane> targets_;
};

/// One target; its running style is the mean of what all members' candidates vote for.
class Aligned : public GroupMatcher {
 public:
  using GroupMatcher::GroupMatcher;

 protected:
  void begin_level(int level) override {
    target_.set(pairs_.front().target_guide.level(level), nullptr, plan_.border());
  }
  void begin_iteration(const Fields&) override {}
  void evaluate(const Fields& fields, Errors& errors) override {
    set_mean_style(fields);
    for (std::size_t k = 0; k < members_.size(); ++k)
      measure(members_[k].source.image(), fields[k], target_.image(), {}, plan_.guide_weight, 256, errors[k]);
  }

 private:
  void set_mean_style(const Fields& fields) {
    picture_.resize(fields.front().size() * 3);
    sums_.assign(picture_.size(), 0);
    for (std::size_t k = 0; k < members_.size(); ++k) {
      vote(k, fields[k], picture_.data(), 3, size_.width * 3);
      for (std::size_t i = 0; i < sums_.size(); ++i) sums_[i] += picture_[i];
    }
    const auto count = static_cast<std::int32_t>(members_.size());
    const std::int32_t* sum = sums_.data();
    for (int y = 0; y < size_.height; ++y) {
      std::int16_t* out = target_.style() + y * target_.row_step();
      for (int x = 0; x < size_.width; ++x, out += 8)
        for (int c = 0; c < 3; ++c) out[c] = static_cast<std::int16_t>((2 * *sum++ + count) / (2 * count));
    }
  }

  PatchPlane target_;
  std::vector<std::int16_t> picture_;
  std::vector<std::int32_t> sums_;
};

/// Two key frames, whose styles are compared with one another as far as `agreement` (in 256ths) goes.
class Between : public Alone {
 public:
  Between(const std::vector<MatchPair>& pairs, const MatchOptions& options, std::uint64_t key,
          std::int64_t agreement)
      : Alone(pairs, options, key), agreement_(agreement) {}

 private:
  void begin_iteration(const Fields& fields) override {
    if (agreement_ < 256) Alone::begin_iteration(fields);
  }
  void evaluate(const Fields& fields, Errors& errors) override {
    for (std::size_t k = 0; k < 2; ++k)
      measure(members_[k].source.image(), fields[k], targets_[k].image(), {}, plan_.guide_weight,
              256 - agreement_, errors[k]);
    if (agreement_ == 0) return;
    measure(members_[0].source.image(), fields[0], members_[1].source.image(), fields[1], 0, agreement_,
            apart_);
    for (std::size_t k = 0; k < 2; ++k)
      for (std::size_t i = 0; i < apart_.size(); ++i) errors[k][i] += apart_[i];
  }

  std::int64_t agreement_;
  std::vector<std::int64_t> apart_;
};

}  // namespace

std::vector<Matched> match_tracked(const std::vector<MatchPair>& pairs, const MatchOptions& options,
                                   std::uint64_t key) {
  return Alone(pairs, options, key).run();
}

std::vector<Matched> match_aligned(const std::vector<MatchPair>& pairs, const MatchOptions& options,
                                   std::uint64_t key) {
  return Aligned(pairs, options, key).run();
}

std::array<Matched, 2> match_between(const MatchPair& left, const MatchPair& right,
                                     const MatchOptions& options, std::uint64_t key, double agreement) {
  if (!(agreement >= 0 && agreement <= 1)) fail("agreement {} does not lie in 0..1", agreement);
  const std::vector<MatchPair> pairs{left, right};
  std::vector<Matched> both = Between(pairs, options, key, std::llround(agreement * 256)).run();
  return {std::move(both[0]), std::move(both[1])};
}

}  // namespace lithe
