#include "lithe/quantize/dfsq/select_points.h"

#include <gmock/gmock.h>

#include <cmath>
#include <numeric>

#include "lithe/base/error.h"
#include "lithe/quantize/dfsq/universal_set.h"

namespace lithe {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;
using Points = std::vector<std::int16_t>;

/// The quantile function of the standard normal distribution, by Newton's steps.
double probit(double p) {
  double x = 0;
  for (int i = 0; i < 60; ++i)
    x -= (0.5 * std::erfc(-x / std::sqrt(2.0)) - p) / (std::exp(-x * x / 2) / std::sqrt(2 * M_PI));
  return x;
}

/// A thousand normal values with largest magnitude 1; `rectified`: every second is 0, the others positive.
std::vector<float> golden_data(bool rectified) {
  std::vector<double> values;
  double most = 0;
  for (int i = 1; i <= 1000; ++i) {
    values.push_back(probit(i / 1001.0));
    most = std::max(most, std::abs(values.back()));
  }
  std::vector<float> out;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double scaled = values[i] / most;
    out.push_back(static_cast<float>(!rectified ? scaled : i % 2 == 0 ? std::abs(scaled) : 0));
  }
  return out;
}

/// The data at evenly spread quantiles (of the positive part for rectified data), each moved to the nearest
/// value.
std::vector<double> golden_centres(const std::vector<float>& data, int count, bool rectified) {
  std::vector<double> sorted;
  for (const float value : data)
    if (!rectified || value > 0) sorted.push_back(value);
  std::sort(sorted.begin(), sorted.end());
  std::vector<double> centres;
  for (int j = 0; j + 1 < count; ++j) {
    const double place = (j + 0.5) / (count - 1) * static_cast<double>(sorted.size() - 1);
    const auto low = static_cast<std::size_t>(place);
    const double wanted = sorted[low] + (place - std::floor(place)) * (sorted[low + 1] - sorted[low]);
    double nearest = sorted[0];  // of equally near ones the larger, in signed data that nearer to 0
    for (const double value : sorted) {
      const double gain = std::abs(nearest - wanted) - std::abs(value - wanted);
      const bool inwards = rectified || std::abs(value) <= std::abs(nearest) + 1e-7;
      if (gain > 1e-7 || (gain > -1e-7 && inwards)) nearest = value;
    }
    centres.push_back(nearest);
  }
  return centres;
}

SubsetHistogram histogram_of(const std::vector<float>& values) {
  SubsetHistogram histogram;
  histogram.add(values);
  return histogram;
}

TEST(UniversalSet, IsThePublishedOne) {
  const Points all = universal_set();
  ASSERT_EQ(all.size(), 377u);
  const Points upper(all.begin() + 188, all.end());
  for (std::size_t i = 0; i < all.size(); ++i) EXPECT_EQ(all[i], -all[all.size() - 1 - i]);
  EXPECT_EQ(
      upper,
      (Points{0,   1,   2,   3,   4,   5,   6,   7,   8,   9,   10,  11,  12,  13,  14,  15,  16,  18,  20,
              22,  24,  26,  28,  30,  32,  33,  36,  37,  40,  41,  44,  45,  48,  52,  56,  60,  64,  65,
              66,  67,  72,  73,  74,  75,  80,  82,  88,  90,  96,  97,  104, 105, 112, 120, 128, 129, 130,
              131, 132, 133, 134, 135, 144, 146, 148, 150, 160, 161, 164, 165, 176, 180, 192, 193, 194, 195,
              208, 210, 224, 225, 240, 256, 257, 258, 259, 260, 261, 262, 263, 264, 265, 266, 267, 268, 269,
              270, 272, 274, 276, 278, 280, 282, 284, 288, 289, 292, 293, 296, 297, 300, 304, 308, 312, 320,
              321, 322, 323, 328, 329, 330, 336, 338, 344, 352, 353, 360, 368, 384, 385, 386, 387, 388, 389,
              390, 400, 402, 404, 416, 417, 420, 432, 448, 449, 450, 464, 480, 512, 513, 514, 515, 516, 517,
              518, 520, 521, 522, 524, 528, 530, 532, 536, 544, 545, 548, 552, 560, 576, 577, 578, 584, 592,
              608, 640, 641, 642, 644, 656, 672, 704, 768, 769, 770, 772, 776, 784, 800, 832, 896, 1024}));
  EXPECT_EQ(universal_set(1).size(), 2u);
  EXPECT_EQ(universal_set(2).size(), 32u);
  EXPECT_EQ(universal_set(3).size(), 162u);
  EXPECT_THROW(universal_set(5), Error);
}

TEST(UniversalSet, OfSubsetQuantization) {
  EXPECT_EQ(subset_quantization_set(), (Points{0, 1, 2, 3, 4, 6, 8, 9, 12, 16, 17, 18, 20, 24, 32}));
}

struct GoldenMeans {
  bool rectified;
  Points points;
  double loss;
};

class KMeans : public ::testing::TestWithParam<GoldenMeans> {};

TEST_P(KMeans, GoldenPoints) {
  const auto& [rectified, points, loss] = GetParam();
  const std::vector<float> data = golden_data(rectified);
  Rng rng(0);
  const KMeansResult result =
      kmeans(SortedValues(data), golden_centres(data, static_cast<int>(points.size()), rectified), rng);
  EXPECT_EQ(snap(result.centres), points);
  EXPECT_NEAR(subset_loss(histogram_of(data), points), loss, 2e-6);
}

INSTANTIATE_TEST_SUITE_P(
    All, KMeans,
    ::testing::Values(
        GoldenMeans{false, {-404, 0, 256, 560}, 13.676378},
        GoldenMeans{false, {-656, -385, -180, 0, 144, 292, 464, 704}, 3.542312},
        GoldenMeans{false,
                    {-832, -608, -480, -360, -260, -165, -82, 0, 72, 144, 224, 300, 400, 512, 640, 832},
                    0.930120},
        GoldenMeans{true, {0, 180, 384, 656}, 2.174069},
        GoldenMeans{true, {0, 82, 165, 257, 360, 480, 608, 832}, 0.520209},
        GoldenMeans{
            true, {0, 28, 56, 88, 120, 160, 193, 240, 278, 328, 384, 448, 521, 608, 704, 896}, 0.155778}));

TEST(KMeans, GoldenStarts) {
  const auto starts = [](int count, bool rectified) {
    return golden_centres(golden_data(rectified), count, rectified);
  };
  const auto near = [](double value) { return DoubleNear(value, 1e-6); };
  EXPECT_THAT(starts(4, false), ElementsAre(near(-.311522), near(.000405), near(.311522)));
  EXPECT_THAT(starts(8, false), ElementsAre(near(-.472922), near(-.255596), near(-.118028), near(.000405),
                                            near(.118028), near(.255596), near(.472922)));
  EXPECT_THAT(starts(4, true), ElementsAre(near(.068157), near(.218498), near(.446268)));
}

TEST(KMeans, GoldenCentres) {
  const std::vector<float> data = golden_data(false);
  Rng rng(0);
  const KMeansResult result = kmeans(SortedValues(data), golden_centres(data, 4, false), rng);
  EXPECT_EQ(result.rounds, 15);
  EXPECT_THAT(result.centres,
              ElementsAre(DoubleNear(-.39393, 1e-5), DoubleNear(.24353, 1e-5), DoubleNear(.549785, 1e-5), 0));
}

struct GoldenExact {
  bool rectified;
  int count;
  double loss;
  Points points;
};

class ExactPoints : public ::testing::TestWithParam<GoldenExact> {};

TEST_P(ExactPoints, Golden) {
  const auto& [rectified, count, loss, points] = GetParam();
  const SubsetHistogram data = histogram_of(golden_data(rectified));
  const PointSelection selection = select_points_exactly(data, count);
  EXPECT_NEAR(selection.loss, loss, 2e-6);
  if (!points.empty()) {
    EXPECT_EQ(selection.points, points);
  }
  EXPECT_EQ(selection.used, count);
}

INSTANTIATE_TEST_SUITE_P(
    All, ExactPoints,
    ::testing::Values(
        GoldenExact{false, 4, 11.877350, {-512, -161, 135, 480}},
        GoldenExact{false, 8, 3.396540, {-704, -448, -256, -88, 73, 240, 432, 704}},
        GoldenExact{false,
                    16,
                    0.905247,
                    {-832, -644, -512, -400, -300, -210, -128, -45, 37, 120, 208, 300, 400, 512, 644, 832}},
        GoldenExact{false, 64, 0.062534, {}}, GoldenExact{true, 4, 2.128699, {10, 194, 400, 672}},
        GoldenExact{true, 8, 0.511626, {2, 90, 180, 280, 388, 512, 644, 832}},
        GoldenExact{true,
                    16,
                    0.128177,
                    {1, 44, 88, 132, 176, 224, 270, 320, 368, 420, 480, 544, 608, 704, 832, 1024}},
        GoldenExact{true, 64, 0.013491, {}}));

// The normal values are their own mirror image, and so a mirrored choice is as good: the lower points win.
TEST(ExactPoints, OfEquallyGoodOnesTheLowerWin) {
  const SubsetHistogram data = histogram_of(golden_data(false));
  for (const int count : {3, 4, 5, 8, 16}) {
    const PointSelection chosen = select_points_exactly(data, count);
    Points mirrored;
    for (const std::int16_t point : chosen.points)
      mirrored.insert(mirrored.begin(), static_cast<std::int16_t>(-point));
    EXPECT_NEAR(subset_loss(data, mirrored), chosen.loss, 1e-9);
    EXPECT_TRUE(std::lexicographical_compare(chosen.points.rbegin(), chosen.points.rend(), mirrored.rbegin(),
                                             mirrored.rend()) ||
                chosen.points == mirrored)
        << count;
    EXPECT_EQ(select_points_exactly(data, count, {}, true).points, chosen.points);
  }
}

std::vector<float> random_values(std::int64_t count, std::uint64_t seed) {
  Rng rng(seed);
  std::vector<float> values;
  float most = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const double one = seed % 2 == 0 ? rng.normal() : std::max(0.0, rng.normal() * rng.normal());
    values.push_back(static_cast<float>(one));
    most = std::max(most, std::abs(values.back()));
  }
  for (float& value : values) value /= most;
  return values;
}

// All choices of a few candidates, one by one.
TEST(ExactPoints, EqualsBruteForce) {
  const Points candidates{-1024, -700, -512, -256, -100, -32, 0, 16, 64, 200, 384, 640, 1024};
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    const SubsetHistogram data = histogram_of(random_values(300, seed));
    for (const int count : {1, 2, 4, 7, 13}) {
      double least = INFINITY;
      for (unsigned mask = 0; mask < 1u << candidates.size(); ++mask) {
        Points chosen;
        for (std::size_t i = 0; i < candidates.size(); ++i)
          if (mask >> i & 1) chosen.push_back(candidates[i]);
        if (static_cast<int>(chosen.size()) == count) least = std::min(least, subset_loss(data, chosen));
      }
      const PointSelection selection = select_points_exactly(data, count, candidates);
      EXPECT_NEAR(selection.loss, least, 1e-9) << count;
    }
  }
}

// The loss from counts and sums is the loss over the values themselves.
TEST(ExactPoints, HistogramLosesNothing) {
  const std::vector<float> values = random_values(2000, 4);
  for (const int count : {4, 16, 64}) {
    const PointSelection selection = select_points_exactly(histogram_of(values), count);
    double loss = 0;
    for (const float value : values) {
      double least = INFINITY;
      for (const std::int16_t point : selection.points)
        least = std::min(least, std::abs(value - point / 1024.0));
      loss += least * least;
    }
    EXPECT_NEAR(selection.loss, loss, 1e-9);
  }
}

TEST(ExactPoints, DivideAndConquerEqualsAllPairs) {
  for (std::uint64_t seed = 0; seed < 6; ++seed) {
    const SubsetHistogram data = histogram_of(random_values(5000, seed));
    for (const int count : {4, 8, 16, 64, 256}) {
      const PointSelection fast = select_points_exactly(data, count),
                           full = select_points_exactly(data, count, {}, true);
      EXPECT_NEAR(fast.loss, full.loss, 1e-9 * data.squares()) << count;
    }
  }
}

TEST(ExactPoints, IsNeverWorseThanKMeans) {
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    const std::vector<float> values = random_values(3000, seed);
    for (const int count : {4, 8, 16, 64}) {
      const PointSelection published = select_points_by_kmeans(SortedValues(values), count, seed);
      EXPECT_LE(select_points_exactly(histogram_of(values), count).loss, published.loss + 1e-9);
      EXPECT_EQ(published.points.size(), static_cast<std::size_t>(count));
    }
  }
}

TEST(UniformPoints, AreEvenAndWorse) {
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    const SubsetHistogram data = histogram_of(random_values(3000, seed));
    const PointSelection even = select_uniform_points(data, 16);
    ASSERT_EQ(even.points.size(), 16u);
    const double step = (even.points.back() - even.points.front()) / 15.0;
    for (std::size_t i = 1; i < 16; ++i) EXPECT_NEAR(even.points[i] - even.points[i - 1], step, 1.01);
    EXPECT_GT(even.loss, select_points_exactly(data, 16).loss);
  }
}

TEST(KMeans, SeedsDecideAndRepeat) {
  const SortedValues values(random_values(3000, 2));
  const PointSelection a = select_points_by_kmeans(values, 16, 1), b = select_points_by_kmeans(values, 16, 1),
                       c = select_points_by_kmeans(values, 16, 2);
  EXPECT_EQ(a.points, b.points);
  EXPECT_NE(a.points, c.points);
}

// Behind a Relu many values are 0, where a centre stands for ever: starts and new seeds meet it and each
// other.
TEST(KMeans, CopesWithManyZeros) {
  for (const int zeros_of_ten : {3, 5, 8})
    for (const int count : {8, 16}) {
      SCOPED_TRACE(testing::Message() << zeros_of_ten << " zeros of ten, " << count << " points");
      Rng rng(11);
      std::vector<float> values;
      for (int i = 0; i < 4000; ++i)
        values.push_back(
            i % 10 < zeros_of_ten ? 0 : static_cast<float>(std::min(1.0, std::abs(rng.normal()) / 4)));
      const PointSelection means = select_points_by_kmeans(SortedValues(values), count, 3, 5);
      EXPECT_LT(means.loss, 2 * select_points_exactly(histogram_of(values), count).loss);
    }
}

TEST(KMeans, OfEqualCentresTheFirstTakesAll) {
  Rng rng(0);
  const std::vector<float> values{0, 0, 0, 0.5f, 0.5f, 1};
  const KMeansResult result = kmeans(SortedValues(values), {0.5, 1, 0.9}, rng);
  EXPECT_THAT(result.centres, ElementsAre(0.5, 1, testing::AnyOf(0, 0.5, 1), 0));
}

TEST(KMeans, FewerValuesThanPoints) {
  const PointSelection one = select_points_by_kmeans(SortedValues({0.25f, 0.25f, -0.5f}), 16, 1);
  EXPECT_EQ(one.points.size(), 16u);
  EXPECT_EQ(one.used, 2);
  EXPECT_NEAR(one.loss, 0, 1e-12);
  const PointSelection dead = select_points_exactly(histogram_of(std::vector<float>(50, 0.0f)), 16);
  EXPECT_EQ(dead.loss, 0);
  EXPECT_EQ(dead.used, 1);
  EXPECT_THROW(select_points_by_kmeans(SortedValues({}), 4, 1), Error);
  EXPECT_THROW(select_points_exactly(SubsetHistogram(), 400), Error);
}

// Behind a Relu no value is nearest to a point below 0.
TEST(ExactPoints, CountsThoseOfUse) {
  const SubsetHistogram positive = histogram_of(random_values(200000, 5));
  EXPECT_LE(select_points_exactly(positive, 256).used, 189);
  EXPECT_EQ(count_used(histogram_of({-1, -0.25f, 0.25f, 1}), Points{-1024, -256, 0, 256, 256, 1024}), 4);
  EXPECT_FALSE(histogram_of({0.5f, 0.5f}).varies());
  EXPECT_TRUE(histogram_of({0.5f, 0.25f}).varies());
}

TEST(SubsetHistogram, MergesAndNormalises) {
  const std::vector<float> values = random_values(100, 6);
  SubsetHistogram whole = histogram_of(values), part;
  part.add(std::span<const float>(values).first(40));
  SubsetHistogram rest;
  rest.add(std::span<const float>(values).subspan(40));
  part.merge(rest);
  EXPECT_EQ(part.counts(), whole.counts());
  EXPECT_EQ(part.count(), 100);
  SubsetHistogram scaled;
  scaled.add(std::vector<float>{3, 5, 9, -100}, 4, 4);  // -0.25, 0.25, 1.25, -26
  EXPECT_EQ(scaled.counts()[2048 - 512], 1);
  EXPECT_EQ(scaled.counts()[2048 + 512], 1);
  EXPECT_EQ(scaled.counts()[4096], 1);
  EXPECT_EQ(scaled.sums()[4096], 1.25);
  EXPECT_EQ(scaled.counts()[0], 1);
}

}  // namespace
}  // namespace lithe
