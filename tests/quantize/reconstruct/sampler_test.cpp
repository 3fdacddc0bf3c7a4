#include "lithe/quantize/reconstruct/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace lithe {
namespace {

using Picks = std::vector<std::int64_t>;

std::vector<Picks> steps_of(Draw draw, std::uint64_t pass, std::uint64_t slice, int steps,
                            std::uint64_t seed = 3) {
  const ReconstructOptions options{.batch = 8, .draw = draw, .seed = seed};
  Sampler sampler(options, pass, slice, 24);
  std::vector<Picks> picks;
  for (int i = 0; i < steps; ++i) {
    const at::Tensor next = sampler.next();
    picks.emplace_back(next.data_ptr<std::int64_t>(), next.data_ptr<std::int64_t>() + next.numel());
    EXPECT_EQ(picks.back().size(), 8u);
    for (const std::int64_t sample : picks.back()) EXPECT_TRUE(sample >= 0 && sample < 24);
  }
  return picks;
}

std::size_t different(const Picks& picks) {
  return std::set<std::int64_t>(picks.begin(), picks.end()).size();
}

TEST(Sampler, DistinctDrawsNoSampleTwiceInAStepAndAllInTime) {
  std::set<std::int64_t> seen;
  for (const Picks& picks : steps_of(Draw::Distinct, 0, 0, 30)) {
    EXPECT_EQ(different(picks), 8u);
    seen.insert(picks.begin(), picks.end());
  }
  EXPECT_EQ(seen.size(), 24u);
}

TEST(Sampler, AnyDrawsWithReplacement) {
  const auto steps = steps_of(Draw::Any, 0, 0, 30);
  EXPECT_TRUE(std::any_of(steps.begin(), steps.end(), [](const Picks& p) { return different(p) < 8; }));
}

TEST(Sampler, BatchesAreCutOnceForAllSlices) {
  std::set<Picks> cut;
  for (const std::uint64_t slice : {0, 1, 2})
    for (Picks& picks : steps_of(Draw::Batches, slice, slice, 20)) cut.insert(picks);
  EXPECT_EQ(cut.size(), 3u);  // 24 samples in batches of 8
  std::set<std::int64_t> all;
  for (const Picks& picks : cut) all.insert(picks.begin(), picks.end());
  EXPECT_EQ(all.size(), 24u);
}

TEST(Sampler, SlicesPassesAndSeedsDrawOnTheirOwn) {
  for (const Draw draw : {Draw::Distinct, Draw::Any, Draw::Batches}) {
    const auto steps = steps_of(draw, 1, 2, 12);
    EXPECT_EQ(steps_of(draw, 1, 2, 12), steps);
    EXPECT_NE(steps_of(draw, 1, 3, 12), steps);
    EXPECT_NE(steps_of(draw, 0, 2, 12), steps);
    EXPECT_NE(steps_of(draw, 1, 2, 12, 4), steps);
  }
}

}  // namespace
}  // namespace lithe
