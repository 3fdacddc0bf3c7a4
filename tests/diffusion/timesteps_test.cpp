#include "lithe/diffusion/timesteps.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "message_of.h"

namespace lithe {
namespace {

using test::message_of;
using Steps = std::vector<std::int64_t>;

Steps of(const char* name, std::int64_t count) {
  return make_timesteps(name, NoiseSchedule::cosine(), count);
}

TEST(Timesteps, PublishedLists) {
  EXPECT_EQ(of("leading", 4), (Steps{0, 250, 500, 750}));
  EXPECT_EQ(of("leading", 5), (Steps{0, 200, 400, 600, 800}));
  EXPECT_EQ(of("leading", 6), (Steps{0, 167, 334, 501, 668, 835}));
  EXPECT_EQ(of("leading", 7), (Steps{0, 143, 286, 429, 572, 715, 858}));
  EXPECT_EQ(of("leading", 15).back(), 938);
  EXPECT_EQ(of("leading", 30)[1], 34);
  EXPECT_EQ(of("leading", 30).back(), 986);
  EXPECT_EQ(of("section", 4), (Steps{0, 333, 666, 999}));
  EXPECT_EQ(of("section", 6), (Steps{0, 200, 400, 599, 799, 999}));
  EXPECT_EQ(of("section", 10), (Steps{0, 111, 222, 333, 444, 555, 666, 777, 888, 999}));
  EXPECT_EQ(of("plms", 4), (Steps{1, 251, 501, 751}));
  EXPECT_EQ(of("plms", 6), (Steps{1, 168, 335, 502, 669, 836}));
  EXPECT_EQ(of("plms", 15).back(), 939);
  EXPECT_EQ(of("centred", 4), (Steps{125, 375, 625, 875}));
  EXPECT_EQ(of("centred", 6), (Steps{83, 250, 416, 583, 750, 916}));
  EXPECT_EQ(of("centred", 10), (Steps{50, 150, 250, 350, 450, 550, 650, 750, 850, 950}));
  EXPECT_EQ(of("trailing", 4), (Steps{249, 499, 749, 999}));
  EXPECT_EQ(of("trailing", 6), (Steps{166, 332, 499, 666, 832, 999}));
  EXPECT_EQ(of("trailing", 10), (Steps{99, 199, 299, 399, 499, 599, 699, 799, 899, 999}));
  EXPECT_EQ(of("diffusers_leading", 6), (Steps{0, 166, 332, 498, 664, 830}));
  EXPECT_EQ(of("quadratic", 4), (Steps{0, 88, 355, 800}));
  EXPECT_EQ(of("quadratic", 6), (Steps{0, 32, 128, 288, 512, 800}));
  EXPECT_EQ(of("quadratic", 10), (Steps{0, 9, 39, 88, 158, 246, 355, 483, 632, 800}));
  EXPECT_EQ(of("leading_without_0", 4), (Steps{200, 400, 600, 800}));
  EXPECT_EQ(make_timesteps("linspace", NoiseSchedule::cosine(50), 4), (Steps{0, 16, 33, 49}));
  EXPECT_EQ(make_timesteps("trailing", NoiseSchedule::cosine(50), 4), (Steps{11, 24, 37, 49}));
}

TEST(Timesteps, EvenInLogSnr) {
  const auto noise = NoiseSchedule::cosine();
  const Steps all = of("log_snr", 4), later = of("log_snr_980", 4);
  EXPECT_EQ(all.front(), 0);
  EXPECT_EQ(all.back(), 999);
  EXPECT_EQ(later.back(), 980);
  const double third = (noise.lambda(980) - noise.lambda(0)) / 3;
  EXPECT_NEAR(noise.lambda(later[1]), noise.lambda(0) + third, 0.02);
  EXPECT_NEAR(noise.lambda(later[2]), noise.lambda(0) + 2 * third, 0.02);
  // In ten steps several fall on the last ones.
  EXPECT_THAT(of("log_snr", 10), testing::IsSupersetOf({997, 998, 999}));
}

TEST(Timesteps, EveryScheduleIsDistinctAndInRange) {
  for (const std::int64_t steps : {25, 50, 1000})
    for (const auto& noise :
         {NoiseSchedule::linear(steps), NoiseSchedule::cosine(steps), NoiseSchedule::scaled_linear(steps)})
      for (const Spacing& spacing : spacings())
        for (const std::int64_t count : {std::int64_t{1}, std::int64_t{2}, std::int64_t{5}, steps}) {
          const Steps made = make_timesteps(spacing.name, noise, count);
          EXPECT_EQ(static_cast<std::int64_t>(made.size()), count) << spacing.name;
          EXPECT_EQ(std::adjacent_find(made.begin(), made.end(), std::greater_equal<>()), made.end())
              << spacing.name << " " << steps << " " << count;
          EXPECT_GE(made.front(), 0) << spacing.name;
          EXPECT_LT(made.back(), steps) << spacing.name;
        }
}

TEST(Timesteps, SeparateMovesLittle) {
  EXPECT_EQ(separate({3, 3, 3, 9, 9}, 10), (Steps{3, 4, 5, 8, 9}));
  EXPECT_EQ(separate({0, 4, 9}, 10), (Steps{0, 4, 9}));
}

TEST(Timesteps, RefusesWhatIsNone) {
  const auto noise = NoiseSchedule::cosine();
  EXPECT_THAT(message_of([&] { make_timesteps("even", noise, 4); }), testing::HasSubstr("centred"));
  EXPECT_THAT(message_of([&] { make_timesteps("centred", noise, 1001); }), testing::HasSubstr("1 to 1000"));
  EXPECT_THAT(message_of([&] { make_timesteps("centred", noise, 0); }), testing::HasSubstr("1 to 1000"));
  EXPECT_THAT(message_of([&] { make_timesteps("leading", noise, 600); }), testing::HasSubstr("stride"));
  EXPECT_THAT(message_of([&] { make_timesteps("plms", noise, 600); }), testing::HasSubstr("stride"));
  EXPECT_THAT(message_of([&] { make_plan("time_uniform", noise, 4); }), testing::HasSubstr("dpmpp2m"));
  EXPECT_THAT(message_of([&] { make_plan("even", noise, 4, SamplerKind::DpmSolver); }),
              testing::HasSubstr("time_uniform"));
}

TEST(Times, PublishedPoints) {
  const auto near = [](std::vector<double> expected, double tolerance) {
    std::reverse(expected.begin(), expected.end());
    return testing::Pointwise(testing::DoubleNear(tolerance), expected);
  };
  const auto linear = NoiseSchedule::linear(), cosine = NoiseSchedule::cosine(),
             scaled = NoiseSchedule::scaled_linear();
  EXPECT_THAT(make_times("log_snr", linear, 4), near({1, .722564, .303308, .031144, .001}, 1e-5));
  EXPECT_THAT(make_times("log_snr", cosine, 4), near({1, .998585, .943947, .161928, .001}, 1e-5));
  EXPECT_THAT(make_times("log_snr", scaled, 4), near({1, .681666, .234208, .021002, .001}, 1e-5));
  EXPECT_THAT(make_times("log_snr", linear, 5), near({1, .785817, .493114, .139040, .017803, .001}, 1e-5));
  EXPECT_THAT(make_times("log_snr", cosine, 5), near({1, .999133, .987410, .760757, .074189, .001}, 1e-5));
  EXPECT_THAT(make_times("time_uniform", cosine, 4), near({1, .75025, .5005, .25075, .001}, 1e-12));
  EXPECT_THAT(make_times("time_quadratic", cosine, 4),
              near({1, 0.57442104123, 0.26606138830, 0.074921041226, 0.001}, 1e-10));
}

TEST(Times, PlansOfDpmSolver) {
  const auto times = [](const char* name, std::int64_t count) {
    std::vector<double> steps;
    for (const PlanStep& point : make_plan(name, NoiseSchedule::cosine(), count, SamplerKind::DpmSolver))
      steps.push_back(point.timestep);
    return steps;
  };
  EXPECT_THAT(times("time_uniform", 4),
              testing::Pointwise(testing::DoubleNear(1e-9), {0.0, 249.75, 499.5, 749.25, 999.0}));
  EXPECT_THAT(times("trailing", 4), testing::ElementsAre(0, 249, 499, 749, 999));
  EXPECT_THAT(times("linspace", 3), testing::ElementsAre(0, 333, 666, 999));
}

}  // namespace
}  // namespace lithe
