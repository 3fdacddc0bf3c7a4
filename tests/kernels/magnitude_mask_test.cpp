#include "lithe/kernels/magnitude_mask.h"

#include <gmock/gmock.h>

#include <cmath>

#include "lithe/base/random.h"
#include "lithe/kernels/nm_mask.h"
#include "lithe/kernels/spatial_sparsity.h"

namespace lithe {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;

const ChannelGroups kFilters{4, 4, 9};
const std::vector<std::int64_t> kKernel{3, 3};

/// Golden case G3: sin(n + 1), stronger towards the centre where `shaped`.
std::vector<double> golden(bool shaped) {
  const double factors[] = {.6, .9, .6, .9, 1.4, .9, .6, .9, .6};
  std::vector<double> weight;
  for (int n = 0; n < 144; ++n) weight.push_back(std::sin(n + 1.0) * (shaped ? factors[n % 9] : 1.0));
  return weight;
}

std::vector<std::int64_t> counts(const std::vector<double>& weight, std::int64_t n, std::int64_t m) {
  std::vector<std::int64_t> kept(9);
  spatial_counts(weight.data(), kFilters, n, m, kept.data());
  return kept;
}

std::vector<int> mask_of(const std::vector<std::int64_t>& kept, std::int64_t n, std::int64_t m) {
  std::vector<std::uint8_t> mask(kept.size());
  spatial_mask(kept.data(), kFilters, n, m, 0, mask.data());
  return {mask.begin(), mask.end()};
}

TEST(SpatialMask, GoldenHalf) {
  const auto kept = counts(golden(true), 2, 4);
  EXPECT_THAT(kept, ElementsAre(5, 10, 5, 10, 12, 9, 5, 11, 5));
  const SpatialSparsity s = spatial_sparsity(kept, kFilters, kKernel);
  EXPECT_THAT(s.zeros, ElementsAre(.6875, .375, .6875, .375, .25, .4375, .6875, .3125, .6875));
  EXPECT_NEAR(s.deviation * s.deviation, 0.0303819444, 1e-10);
  EXPECT_NEAR(s.noise_ratio, 0.0303819444 / (0.25 / 16), 1e-6);
  EXPECT_NEAR(s.centre, -0.25, 1e-12);
  EXPECT_NEAR(s.corner, 0.1875, 1e-12);
  EXPECT_THAT(mask_of(kept, 2, 4), ElementsAre(0, 1, 0, 1, 1, 1, 0, 1, 0));
}

TEST(SpatialMask, GoldenQuarter) {
  const auto kept = counts(golden(true), 1, 4);
  EXPECT_THAT(kept, ElementsAre(0, 7, 0, 6, 11, 5, 0, 7, 0));
  const SpatialSparsity s = spatial_sparsity(kept, kFilters, kKernel);
  EXPECT_NEAR(s.deviation * s.deviation, 0.0590277778, 1e-10);
  EXPECT_THAT(mask_of(kept, 1, 4), ElementsAre(0, 1, 0, 1, 1, 1, 0, 1, 0));
}

TEST(SpatialMask, GoldenStructuredMasksAreEven) {
  const std::vector<double> weight = golden(true);
  for (const std::int64_t n : {2, 1}) {
    std::vector<std::uint8_t> mask(weight.size());
    nm_mask(weight.data(), kFilters, n, 4, mask.data());
    const auto kept = kept_by(mask.data(), kFilters);
    EXPECT_THAT(kept, testing::Each(n * 4));
    EXPECT_EQ(spatial_sparsity(kept, kFilters, kKernel).deviation, 0);
    // The first filter's centre, golden case G3.
    std::vector<int> centre;
    for (std::size_t c = 0; c < 4; ++c) centre.push_back(mask[c * 9 + 4]);
    EXPECT_THAT(centre,
                ElementsAreArray(n == 2 ? std::vector<int>{1, 1, 0, 0} : std::vector<int>{0, 1, 0, 0}));
    // What both masks keep: the branch's weights.
    std::vector<std::int64_t> spread(9);
    spatial_counts(weight.data(), kFilters, n, 4, spread.data());
    const auto spatial = mask_of(spread, n, 4);
    int support = 0;
    for (std::size_t i = 0; i < mask.size(); ++i) support += mask[i] * spatial[i % 9];
    EXPECT_EQ(support, n == 2 ? 40 : 20);
  }
}

TEST(SpatialMask, EqualToTheShareIsOff) {
  const auto kept = counts(golden(false), 2, 4);
  EXPECT_THAT(kept, ElementsAre(8, 9, 8, 8, 8, 7, 8, 9, 7));
  EXPECT_THAT(mask_of(kept, 2, 4), ElementsAre(0, 1, 0, 0, 0, 0, 0, 1, 0));
}

// A factor on the whole layer changes nothing; factors on single output channels do.
TEST(SpatialMask, UnderScaling) {
  const std::vector<double> weight = golden(true);
  std::vector<double> whole = weight, rows = weight;
  for (double& value : whole) value *= 0.0123;
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] *= i < 36 ? 50.0 : 1.0;  // the first of four
  EXPECT_EQ(counts(whole, 2, 4), counts(weight, 2, 4));
  EXPECT_EQ(mask_of(counts(whole, 1, 4), 1, 4), mask_of(counts(weight, 1, 4), 1, 4));
  EXPECT_NE(counts(rows, 1, 4), counts(weight, 1, 4));
  EXPECT_NE(mask_of(counts(rows, 1, 4), 1, 4), mask_of(counts(weight, 1, 4), 1, 4));
}

TEST(SpatialMask, HysteresisKeepsWhatIsNear) {
  const std::vector<std::int64_t> kept{8, 9, 7, 10, 6, 16, 0, 8, 8};  // share: 8
  std::vector<std::uint8_t> mask{1, 0, 1, 0, 1, 0, 1, 0, 1};
  spatial_mask(kept.data(), kFilters, 2, 4, 0.2, mask.data());
  EXPECT_THAT(std::vector<int>(mask.begin(), mask.end()), ElementsAre(1, 0, 1, 1, 0, 1, 0, 0, 1));
}

TEST(MagnitudeMask, AgreesWithSorting) {
  Rng rng(3);
  for (int round = 0; round < 50; ++round) {
    std::vector<float> weight(1 + rng.below(300));
    for (float& value : weight) value = static_cast<float>(static_cast<int>(rng.below(7)) - 3) * 0.5f;
    const auto count = static_cast<std::int64_t>(weight.size());
    const auto pruned = static_cast<std::int64_t>(rng.below(weight.size() + 1));
    std::vector<std::uint8_t> mask(weight.size(), 9), wanted(weight.size(), 9);
    magnitude_mask(weight.data(), count, pruned, mask.data());
    magnitude_mask_reference(weight.data(), count, pruned, wanted.data());
    EXPECT_EQ(mask, wanted) << pruned << " of " << count;
    EXPECT_EQ(std::count(mask.begin(), mask.end(), 0), pruned);
  }
}

TEST(MagnitudeMask, RateInIntegers) {
  EXPECT_EQ(pruned_at(144, 2, 4), 72);
  EXPECT_EQ(pruned_at(144, 1, 4), 108);
  EXPECT_EQ(pruned_at(10, 2, 6), 6);  // floor(6.67)
  EXPECT_EQ(pruned_at(9, 3, 3), 0);
  EXPECT_EQ(pruned_at(std::int64_t{1} << 60, 1, 16), (std::int64_t{1} << 60) / 16 * 15);
}

TEST(GlobalThreshold, PrunesTheShareOverAllLayers) {
  const std::vector<float> a{1, -2, 3, -4}, b{10, 20, 30, 40};
  const std::vector<std::span<const float>> both{a, b};
  const float threshold = global_threshold(both, 0.5);
  EXPECT_EQ(threshold, 4);
  EXPECT_THAT(kept_above(a.data(), {1, 2, 2}, threshold), ElementsAre(0, 0));
  EXPECT_THAT(kept_above(b.data(), {1, 2, 2}, threshold), ElementsAre(2, 2));
}

}  // namespace
}  // namespace lithe
