#include "lithe/kernels/subset_lookup.h"

#include <gmock/gmock.h>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/vector_targets.h"
#include "lithe/base/error.h"
#include "lithe/base/random.h"

namespace lithe {
namespace {

using ::testing::ElementsAre;
using Floats = std::vector<float>;
using Points = std::vector<std::int16_t>;

Points random_points(int count, std::uint64_t seed) {
  Rng rng(seed);
  Points points;
  for (int i = 0; i < count; ++i) points.push_back(static_cast<std::int16_t>(rng.below(2049)) - 1024);
  std::sort(points.begin(), points.end());
  return points;
}

/// The argmin over all points, the last of equally near ones.
float brute(const Points& points, float y) {
  double best = INFINITY;
  std::int16_t nearest = 0;
  const double limited = std::min(std::max(static_cast<double>(y), -1.0), 1.0);
  for (const std::int16_t point : points) {
    const double distance = std::abs(limited - point / 1024.0);
    if (distance <= best) {
      best = distance;
      nearest = point;
    }
  }
  return static_cast<float>(nearest) / 1024.0f;
}

std::vector<std::uint32_t> bits_of(const Floats& values) {
  std::vector<std::uint32_t> bits;
  for (const float value : values) bits.push_back(std::bit_cast<std::uint32_t>(value));
  return bits;
}

TEST(SubsetLookup, TiesGoUp) {
  const SubsetTable table(Points{0, 180, 384, 656});
  EXPECT_EQ(table.nearest(90.0f / 1024), 180.0f / 1024);
  EXPECT_EQ(table.nearest(std::nextafter(90.0f / 1024, 0.0f)), 0);
}

// Two channels of three by two, normalised by mean and largest deviation, or by the largest value alone.
TEST(SubsetLookup, GoldenActivations) {
  const Floats x{1, 2, 3, 4, 5, 9, -1, 0, 2, 0.5f, 0.25f, -3};
  const auto quantised = [](const Floats& values, const Points& points, bool centre) {
    const PlaneStatistics seen = plane_statistics(values.data(), 6, centre);
    Floats out(6);
    subset_lookup(values.data(), out.data(), 6, SubsetTable(points), {seen.mean, seen.scale, true});
    return out;
  };
  const auto near = [](const Floats& got, const Floats& wanted) {
    for (std::size_t i = 0; i < 6; ++i) EXPECT_NEAR(got[i], wanted[i], 1e-6) << i;
  };
  const Floats first(x.begin(), x.begin() + 6), second(x.begin() + 6, x.end());
  const auto codes = [](const Floats& values, const Points& points, bool centre) {
    const PlaneStatistics seen = plane_statistics(values.data(), 6, centre);
    Floats out(6);
    subset_lookup(values.data(), out.data(), 6, SubsetTable(points), {seen.mean, seen.scale, false});
    std::vector<int> whole;
    for (const float value : out) whole.push_back(static_cast<int>(1024 * value));
    return whole;
  };
  const PlaneStatistics mean_of_first = plane_statistics(first.data(), 6, true),
                        mean_of_second = plane_statistics(second.data(), 6, true);
  EXPECT_EQ(mean_of_first.mean, 4);
  EXPECT_NEAR(mean_of_first.scale, 5, 1e-6);
  EXPECT_NEAR(mean_of_second.mean, -0.20833333, 1e-7);
  EXPECT_NEAR(mean_of_second.scale, 2.7916667, 1e-6);
  EXPECT_THAT(codes(first, {-404, 0, 256, 560}, true), ElementsAre(-404, -404, -404, 0, 256, 560));
  EXPECT_THAT(codes(second, {-1024, -385, 0, 512}, true), ElementsAre(-385, 0, 512, 512, 0, -1024));
  near(quantised(first, {-404, 0, 256, 560}, true),
       {2.02734375f, 2.02734375f, 2.02734375f, 4, 5.25f, 6.734375f});
  near(quantised(second, {-1024, -385, 0, 512}, true),
       {-1.25793469f, -0.20833333f, 1.1875f, 1.1875f, -0.20833333f, -3});
  Floats rectified = x;
  for (float& value : rectified) value = std::max(value, 0.0f);
  EXPECT_NEAR(plane_statistics(rectified.data(), 6, false).scale, 9, 1e-6);
  EXPECT_THAT(codes({rectified.begin(), rectified.begin() + 6}, {0, 180, 384, 656}, false),
              ElementsAre(180, 180, 384, 384, 656, 656));
  near(quantised({rectified.begin(), rectified.begin() + 6}, {0, 180, 384, 656}, false),
       {1.58203125f, 1.58203125f, 3.375f, 3.375f, 5.765625f, 5.765625f});
  near(quantised({rectified.begin() + 6, rectified.end()}, {0, 82, 512, 1024}, false),
       {0, 0, 2, 0.16015625f, 0.16015625f, 0});
}

TEST(SubsetLookup, DeadAndConstantChannels) {
  const SubsetTable table(Points{-404, 0, 256, 560});
  for (const bool centre : {true, false}) {
    const Floats zeros(20, 0.0f);
    const PlaneStatistics seen = plane_statistics(zeros.data(), 20, centre);
    EXPECT_EQ(seen.scale, kSubsetEpsilon);
    Floats out(20);
    subset_lookup(zeros.data(), out.data(), 20, table, {seen.mean, seen.scale, true});
    EXPECT_EQ(out, zeros);
  }
  const Floats threes(20, 3.0f);
  const PlaneStatistics seen = plane_statistics(threes.data(), 20, true);
  Floats out(20);
  subset_lookup(threes.data(), out.data(), 20, table, {seen.mean, seen.scale, true});
  EXPECT_EQ(out, threes);
}

TEST(SubsetLookup, EqualsTheNearestPoint) {
  Rng rng(3);
  for (int table = 0; table < 16; ++table) {
    const Points points = random_points(4 << (table % 5), static_cast<std::uint64_t>(table));
    Floats y(1024), out(1024);
    for (float& value : y) value = static_cast<float>(2.2 * rng.uniform() - 1.1);
    for (std::size_t i = 0; i < 64; ++i)  // on borders
      y[i] = static_cast<float>(static_cast<int>(rng.below(kSubsetEntries)) - 2048) / 2048.0f;
    subset_lookup(y.data(), out.data(), 1024, SubsetTable(points), {});
    for (std::size_t i = 0; i < y.size(); ++i) EXPECT_EQ(out[i], brute(points, y[i])) << y[i];
  }
}

class SubsetLookupSizes : public ::testing::TestWithParam<int> {};

TEST_P(SubsetLookupSizes, EveryTargetEqualsTheReference) {
  const SubsetTable table(random_points(GetParam(), 7));
  Rng rng(8);
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const std::int64_t count : {0, 1, 7, 8, 63, 1000})
    for (const bool restore : {false, true}) {
      Floats x(static_cast<std::size_t>(count));
      for (float& value : x) value = static_cast<float>(3 * rng.normal());
      const Floats specials{std::nanf(""), kInfinity, -kInfinity, -0.0f, 1e-30f, 3e38f};
      for (std::size_t i = 0; i < specials.size() && 5 * i < x.size(); ++i) x[5 * i] = specials[i];
      const SubsetTransform transform{0.3f, 2.7f, restore};
      Floats wanted(x.size());
      subset_lookup_reference(x.data(), wanted.data(), count, table, transform);
      on_every_target([&] {
        Floats y = x;  // in place
        subset_lookup(y.data(), y.data(), count, table, transform);
        EXPECT_EQ(bits_of(y), bits_of(wanted));
      });
    }
}

INSTANTIATE_TEST_SUITE_P(Points, SubsetLookupSizes, ::testing::Values(1, 2, 4, 5, 8, 15, 16, 17, 64, 256));

TEST(SubsetLookup, StatisticsOfEveryTarget) {
  Rng rng(9);
  Floats x(1003);
  double sum = 0, most = 0;
  for (float& value : x) sum += value = static_cast<float>(rng.normal() + 5);
  for (const float value : x) most = std::max(most, std::abs(value - sum / 1003));
  on_every_target([&] {
    const PlaneStatistics seen = plane_statistics(x.data(), 1003, true);
    EXPECT_NEAR(seen.mean, sum / 1003, 1e-6);
    EXPECT_NEAR(seen.scale, most, 1e-6);
    EXPECT_EQ(plane_statistics(x.data(), 1003, false).mean, 0);
    EXPECT_EQ(plane_statistics(x.data(), 1003, false).scale, *std::max_element(x.begin(), x.end()));
    Floats bad = x;
    bad[500] = std::nanf("");
    EXPECT_TRUE(std::isnan(plane_statistics(bad.data(), 1003, false).scale));
  });
}

TEST(SubsetLookup, RefusesWhatIsNoTable) {
  EXPECT_THROW(SubsetTable(Points{}), Error);
  EXPECT_THROW(SubsetTable(Points(257, 0)), Error);
  EXPECT_THROW(SubsetTable(Points{5, 4}), Error);
  EXPECT_THROW(SubsetTable(Points{0, 1025}), Error);
}

}  // namespace
}  // namespace lithe
