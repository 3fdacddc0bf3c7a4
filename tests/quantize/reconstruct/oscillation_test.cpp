#include "lithe/quantize/reconstruct/oscillation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "lithe/base/error.h"
#include "lithe/base/random.h"

namespace lithe {
namespace {

using testing::ElementsAre;

/// See grouping_test.cpp.
const std::vector<double> kCurve{1.0, 1.5, 7.0,   4.0,   5.15, 7.4,  5.2,   7.4, 8.15,
                                 9.4, 7.3, 10.05, 14.55, 6.8,  10.9, 16.65, 10.7};

std::vector<std::string> unit_names(std::size_t count) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < count; ++i) names.push_back("u" + std::to_string(i));
  return names;
}

TEST(Oscillation, OfThePublishedCurve) {
  const Oscillation result = describe_oscillation(kCurve);
  EXPECT_THAT(result.edges, ElementsAre(2, 5, 9, 12, 15));
  EXPECT_THAT(result.peaks, ElementsAre(2, 5, 9, 12, 15));
  EXPECT_NEAR(result.sum_squared, 235.25, 1e-9);
  EXPECT_NEAR(result.mean_absolute, 3.23125, 1e-12);
  EXPECT_EQ(result.largest, 16.65);
  EXPECT_EQ(result.largest_unit, 15);
  EXPECT_EQ(result.last, 10.7);
  EXPECT_TRUE(result.oscillates());
  EXPECT_EQ(summarise(result, kCurve, unit_names(17)),
            "the loss oscillates at 'u2', 'u5', 'u9', 'u12' and 1 more: it falls behind 5 of 17 units, most "
            "behind 'u12' (14.55 to 6.8)");
}

TEST(Oscillation, OneFallOfSeveralUnitsIsOnePeak) {
  const std::vector<double> losses{5, 4, 6, 3, 2, 2};
  const Oscillation result = describe_oscillation(losses);
  EXPECT_THAT(result.edges, ElementsAre(0, 2, 3));
  EXPECT_THAT(result.peaks, ElementsAre(0, 2));
}

TEST(Oscillation, FallsWithinTheMarginDoNotCount) {
  const std::vector<double> losses{1, 0.998, 2, 1.8, 3};
  EXPECT_THAT(describe_oscillation(losses).edges, ElementsAre(0, 2));
  EXPECT_THAT(describe_oscillation(losses, {}, 0.05).edges, ElementsAre(2));
  EXPECT_THAT(describe_oscillation(losses, {}, 0.05).peaks, ElementsAre(2));
}

TEST(Oscillation, AFallIntoTheOutputCanBeLeftOut) {
  const std::vector<double> rising{1, 2, 3, 0.5}, falling{1, 4, 3, 0.5}, inner{1, 4, 3, 5};
  Oscillation seen = describe_oscillation(rising);
  EXPECT_TRUE(forget_fall_into_output(seen, 4));
  EXPECT_FALSE(seen.oscillates());
  EXPECT_TRUE(seen.peaks.empty());
  seen = describe_oscillation(falling);
  EXPECT_TRUE(forget_fall_into_output(seen, 4));
  EXPECT_THAT(seen.edges, ElementsAre(1));
  EXPECT_THAT(seen.peaks, ElementsAre(1));
  EXPECT_EQ(summarise(seen, falling, unit_names(4)),
            "the loss oscillates at 'u1': it falls behind 1 of 4 units, most behind 'u1' (4 to 3)");
  seen = describe_oscillation(inner);
  EXPECT_FALSE(forget_fall_into_output(seen, 4));
  EXPECT_THAT(seen.edges, ElementsAre(1));
}

TEST(Oscillation, MonotoneCurvesDoNotOscillate) {
  // ResNet-20 at W2A4: no decreasing edge.
  const std::vector<double> losses{.057, .449, .773, .986, 1.88, 2.29, 2.56, 6.45, 7.48, 24.7, 37.6};
  const Oscillation result = describe_oscillation(losses);
  EXPECT_FALSE(result.oscillates());
  EXPECT_TRUE(result.peaks.empty());
  EXPECT_EQ(result.largest_unit, 10);
  EXPECT_EQ(summarise(result, losses, unit_names(11)),
            "the loss does not oscillate: it falls behind none of 11 units");
}

TEST(Oscillation, RelativeLosses) {
  const std::vector<double> losses{1, 3, 0, 2}, powers{4, 4, 0, 0};
  const Oscillation result = describe_oscillation(losses, powers);
  EXPECT_THAT(result.relative, ElementsAre(0.25, 0.75, 0.0, std::numeric_limits<double>::infinity()));
  EXPECT_TRUE(describe_oscillation(losses).relative.empty());
  const std::vector<double> one{2.5};
  EXPECT_EQ(describe_oscillation(one).mean_absolute, 0);
  EXPECT_EQ(describe_oscillation(one).last, 2.5);
  EXPECT_EQ(describe_oscillation({}).largest_unit, -1);
}

TEST(Oscillation, Errors) {
  EXPECT_THROW(describe_oscillation(std::vector<double>{1, 2}, std::vector<double>{1}), Error);
  EXPECT_THROW(describe_oscillation(std::vector<double>{1, std::nan("")}), Error);
  EXPECT_THROW(summarise(describe_oscillation(kCurve), kCurve, unit_names(3)), Error);
}

TEST(Correlation, GoldenCase) {
  const std::vector<double> x{1, 2, 4, 8, 3}, y{70, 69, 66, 60, 67.5};
  EXPECT_NEAR(correlation(x, y), -0.998853, 1e-6);
  const RankCorrelation rank = rank_correlation(x, y);
  EXPECT_NEAR(rank.rho, -1, 1e-12);
  EXPECT_NEAR(rank.p_value, 2.0 / 120, 1e-12);  // of all orders only the two sorted ones are as far
}

TEST(Correlation, TiesShareTheirRank) {
  const std::vector<double> x{1, 2, 2, 3}, y{1, 2, 3, 4};
  // Ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4: covariance 4.5 of variances 4.5 and 5.
  EXPECT_NEAR(rank_correlation(x, y).rho, 4.5 / std::sqrt(4.5 * 5), 1e-12);
  const std::vector<double> equal{7, 7, 7, 7};
  const RankCorrelation none = rank_correlation(equal, y);
  EXPECT_EQ(none.rho, 0);
  EXPECT_EQ(none.p_value, 1);
  EXPECT_EQ(correlation(equal, y), 0);
}

TEST(Correlation, PermutationsOfManyPairs) {
  Rng rng(3);
  std::vector<double> x, related, unrelated;
  for (int i = 0; i < 30; ++i) {
    x.push_back(rng.normal());
    related.push_back(x.back() + 0.3 * rng.normal());
    unrelated.push_back(rng.normal());
  }
  const RankCorrelation strong = rank_correlation(x, related, 1, 2000),
                        again = rank_correlation(x, related, 1, 2000);
  EXPECT_GT(strong.rho, 0.8);
  EXPECT_LT(strong.p_value, 0.002);
  EXPECT_GT(strong.p_value, 0);
  EXPECT_EQ(strong.p_value, again.p_value);
  EXPECT_GT(rank_correlation(x, unrelated, 1, 2000).p_value, 0.05);
  // Random orders agree with all of them.
  const std::vector<double> a{1, 2, 3, 4, 5, 6, 7, 8}, b{2, 1, 4, 3, 8, 5, 7, 6};
  const double exact = rank_correlation(a, b).p_value;
  std::vector<double> longer_a = a, longer_b = b;
  longer_a.push_back(9);
  longer_b.push_back(9);
  EXPECT_GT(exact, 0.02);
  EXPECT_LT(exact, 0.05);
  EXPECT_LT(rank_correlation(longer_a, longer_b, 5, 4000).p_value, exact);
}

TEST(Correlation, Errors) {
  const std::vector<double> two{1, 2}, three{1, 2, 3}, bad{1, std::nan(""), 3};
  EXPECT_THROW(correlation(two, three), Error);
  EXPECT_THROW(rank_correlation(two, two), Error);
  EXPECT_THROW(rank_correlation(three, bad), Error);
}

}  // namespace
}  // namespace lithe
