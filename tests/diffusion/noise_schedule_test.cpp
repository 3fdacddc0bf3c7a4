#include "lithe/diffusion/noise_schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "message_of.h"

namespace lithe {
namespace {

using test::message_of;

void expect_close(double value, double expected, double tolerance = 1e-9) {
  EXPECT_NEAR(value, expected, tolerance * std::abs(expected));
}

TEST(NoiseSchedule, AlphaBars) {
  struct Row {
    std::int64_t step;
    double linear, cosine, scaled;
  };
  const std::vector<Row> rows{{0, 9.999000000000e-01, 9.999587157752e-01, 9.991500000000e-01},
                              {1, 9.997800920721e-01, 9.999125759274e-01, 9.982960278385e-01},
                              {10, 9.978065725078e-01, 9.992789037733e-01, 9.904313091143e-01},
                              {100, 8.951415908975e-01, 9.715756818078e-01, 8.942234775866e-01},
                              {250, 5.214230306185e-01, 8.458879864969e-01, 6.737926252333e-01},
                              {500, 7.779665836502e-02, 4.922851724488e-01, 2.763326838230e-01},
                              {750, 3.300158361569e-03, 1.431786464261e-01, 5.616984800294e-02},
                              {900, 2.702445195583e-04, 2.361610879439e-02, 1.415114196967e-02},
                              {998, 4.118193638138e-05, 2.428766907035e-06, 4.716698899876e-03},
                              {999, 4.035829765376e-05, 2.428766907035e-09, 4.660098513077e-03}};
  const auto linear = NoiseSchedule::linear(), cosine = NoiseSchedule::cosine(),
             scaled = NoiseSchedule::scaled_linear();
  for (const Row& row : rows) {
    expect_close(linear.alpha_bar(row.step), row.linear);
    expect_close(cosine.alpha_bar(row.step), row.cosine);
    expect_close(scaled.alpha_bar(row.step), row.scaled);
  }
  expect_close(cosine.beta(0), 4.128422482196914e-05);
  expect_close(cosine.beta(1), 4.614175273665033e-05);
  expect_close(cosine.beta(998), 0.7499993929011166);
  expect_close(cosine.beta(999), 0.999);
}

TEST(NoiseSchedule, OtherNumbersOfSteps) {
  const auto linear = NoiseSchedule::linear(100);
  expect_close(linear.alpha_bar(0), 0.999);
  expect_close(linear.alpha_bar(50), 6.666562681830e-02);
  expect_close(linear.alpha_bar(99), 2.039008975564e-05);
  const auto cosine = NoiseSchedule::cosine(50);
  expect_close(cosine.alpha_bar(0), 9.98252486e-01, 1e-8);
  expect_close(cosine.alpha_bar(25), 4.62706862e-01, 1e-8);
  expect_close(cosine.alpha_bar(49), 9.71193030e-07, 1e-8);
}

TEST(NoiseSchedule, RespacedBetas) {
  const std::vector<std::int64_t> searched{94, 217, 354, 574, 834, 944}, even{0, 250, 500, 750};
  const std::vector<double> cosine{0.0253908594, 0.0958956312, 0.1910202371,
                                   0.4694525025, 0.8289783512, 0.8866854141},
      linear{0.0001, 0.4785248219, 0.8507993437, 0.9575796900};
  using testing::DoubleNear;
  using testing::Pointwise;
  EXPECT_THAT(NoiseSchedule::cosine().respaced_betas(searched), Pointwise(DoubleNear(1e-10), cosine));
  EXPECT_THAT(NoiseSchedule::linear().respaced_betas(even), Pointwise(DoubleNear(1e-10), linear));
}

TEST(NoiseSchedule, ContinuousTime) {
  const auto check = [](const NoiseSchedule& noise, double start, double middle, double end) {
    EXPECT_NEAR(noise.lambda_at(1), start, 2e-10);
    EXPECT_NEAR(noise.lambda_at(0.5), middle, 2e-10);
    EXPECT_NEAR(noise.lambda_at(0.001), end, 2e-10);
    for (const double time : {0.001, 0.0123456, 0.5, 0.99951, 1.0}) {
      EXPECT_NEAR(noise.time_of_lambda(noise.lambda_at(time)), time, 1e-9);
      const double alpha = noise.alpha_at(time), sigma = noise.sigma_at(time);
      EXPECT_NEAR(alpha * alpha + sigma * sigma, 1, 1e-12);
      EXPECT_NEAR(std::log(alpha / sigma), noise.lambda_at(time), 1e-9);
    }
    EXPECT_EQ(noise.time_of_lambda(1e3), 0.001);
    EXPECT_EQ(noise.time_of_lambda(-1e3), 1);
    EXPECT_NEAR(noise.lambda_at(noise.time_of_step(321)), noise.lambda(321), 1e-9);
  };
  check(NoiseSchedule::linear(), -5.0588365917, -1.2308493579, 4.6051201835);
  check(NoiseSchedule::cosine(), -9.9179410758, -0.0123134414, 5.0474944057);
  check(NoiseSchedule::scaled_linear(), -2.6820238501, -0.4780252414, 3.5347119235);
}

TEST(NoiseSchedule, ClosestStepIsTheNearestOfAll) {
  const auto from = NoiseSchedule::cosine(), to = NoiseSchedule::linear();
  for (const std::int64_t step : {0, 94, 217, 500, 834, 944, 999}) {
    EXPECT_EQ(from.closest_step(from.lambda(step)), step);
    const double lambda = from.lambda(step);
    std::int64_t best = 0;
    for (std::int64_t t = 1; t < to.steps(); ++t)
      if (std::abs(to.lambda(t) - lambda) < std::abs(to.lambda(best) - lambda)) best = t;
    EXPECT_EQ(to.closest_step(lambda), best);
  }
}

TEST(NoiseSchedule, HashTellsSchedulesApart) {
  const auto cosine = NoiseSchedule::cosine();
  std::vector<double> values = cosine.alpha_bars();
  EXPECT_EQ(NoiseSchedule::from_alpha_bars(values, "mine").hash(), cosine.hash());
  values[500] -= 1e-6;
  EXPECT_NE(NoiseSchedule::from_alpha_bars(values).hash(), cosine.hash());
  EXPECT_NE(NoiseSchedule::linear().hash(), cosine.hash());
  EXPECT_NE(NoiseSchedule::cosine(100).hash(), cosine.hash());
}

TEST(NoiseSchedule, RefusesWhatIsNone) {
  EXPECT_THAT(message_of([] { NoiseSchedule::parse("sigmoid"); }), testing::HasSubstr("scaled_linear"));
  EXPECT_THAT(message_of([] { NoiseSchedule::linear(20); }), testing::HasSubstr("21 steps"));
  EXPECT_THAT(message_of([] { NoiseSchedule::cosine(0); }), testing::HasSubstr("0 steps"));
  EXPECT_THAT(message_of([] { NoiseSchedule::from_betas({0.1, 1.0}); }), testing::HasSubstr("step 1"));
  EXPECT_THAT(message_of([] { NoiseSchedule::from_betas({}); }), testing::HasSubstr("0 steps"));
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(message_of([&] { NoiseSchedule::from_alpha_bars({0.9, nan}); }), testing::HasSubstr("step 1"));
  EXPECT_THAT(message_of([] { NoiseSchedule::from_alpha_bars({0.9, 0.9}); }), testing::HasSubstr("fall"));
  EXPECT_THAT(message_of([] { NoiseSchedule::cosine().alpha_bar(1000); }), testing::HasSubstr("0 to 999"));
  EXPECT_THAT(message_of([] { NoiseSchedule::cosine().lambda_at(0); }), testing::HasSubstr("outside"));
  EXPECT_EQ(NoiseSchedule::parse("scaled_linear", 7).steps(), 7);
}

}  // namespace
}  // namespace lithe
