#include "lithe/diffusion/solver_steps.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "lithe/diffusion/noise_schedule.h"
#include "message_of.h"

namespace lithe {
namespace {

at::Tensor numbers(const std::vector<double>& values) {
  return at::tensor(values, at::kDouble);
}

void expect_near(const at::Tensor& made, const std::vector<double>& expected, double tolerance) {
  EXPECT_LE((made - numbers(expected)).abs().max().item<double>(), tolerance) << made;
}

TEST(SolverSteps, DdimOfOneNumber) {
  const at::Tensor x = numbers({1}), epsilon = numbers({0.5});
  const Estimate said = estimate(x, epsilon, 0.25, Prediction::Epsilon);
  expect_near(said.x0, {1.133974596216}, 1e-11);
  expect_near(ddim_step(said, 0.25, 0.64), {1.207179676972}, 1e-11);
  EXPECT_TRUE(ddim_step(said, 0.25, 1).equal(said.x0));
  EXPECT_NEAR(ddim_factors(0.25, 0.64, 1).sigma, 0.540832691320, 1e-11);
  EXPECT_NEAR(ddim_factors(0.25, 0.64, 1).direction, 0.259807621135, 1e-11);
}

TEST(SolverSteps, DdimOnTheCosineSchedule) {
  const auto noise = NoiseSchedule::cosine();
  const double now = noise.alpha_bar(574), next = noise.alpha_bar(354);
  EXPECT_NEAR(now, 0.37819081409551836, 1e-12);
  EXPECT_NEAR(next, 0.7128312090194038, 1e-12);
  const at::Tensor x = numbers({0.5, -1.2, 2.0}), epsilon = numbers({0.3, -0.7, 1.1});
  const Estimate said = estimate(x, epsilon, now, Prediction::Epsilon);
  expect_near(said.x0, {0.4283695459, -1.0537319320, 1.8417032930}, 1e-9);
  expect_near(ddim_step(said, now, next), {0.5224339423, -1.2647757557, 2.1444072403}, 1e-9);

  const at::Tensor clipped = said.x0.clamp(-1, 1), derived = epsilon_of(x, clipped, now);
  expect_near(derived, {0.3, -0.7419043760, 1.7564262616}, 1e-9);
  expect_near(ddim_step({derived, clipped}, now, next), {0.5224339423, -1.2418660169, 1.7855293459}, 1e-9);
  expect_near(ddim_step({epsilon, clipped}, now, next), {0.5224339423, -1.2194102445, 1.4337627732}, 1e-9);

  EXPECT_NEAR(ddim_factors(now, next, 1).sigma, 0.46562456283569903, 1e-9);
  expect_near(ddim_step(said, now, next, 1, numbers({0.1, 0.2, -0.3})),
              {0.4878098267, -0.9822155087, 1.7070357745}, 1e-9);
}

TEST(SolverSteps, DdpmPosterior) {
  const DdpmPosterior posterior = ddpm_posterior(0.25, 0.64);
  EXPECT_NEAR(posterior.beta, 0.609375, 1e-12);
  EXPECT_NEAR(posterior.clean, 0.65, 1e-12);
  EXPECT_NEAR(posterior.noisy, 0.30, 1e-12);
  EXPECT_NEAR(posterior.variance, 0.2925, 1e-12);
  EXPECT_NEAR(std::sqrt(posterior.variance), ddim_factors(0.25, 0.64, 1).sigma, 1e-12);
}

TEST(SolverSteps, LearnedVarianceLiesBetweenItsBounds) {
  const DdpmPosterior posterior = ddpm_posterior(0.25, 0.64);
  expect_near(learned_variance(numbers({-1, 0, 1}), posterior, 0.5),
              {0.2925, std::sqrt(0.2925 * 0.609375), 0.609375}, 1e-12);
  expect_near(learned_variance(numbers({-1}), ddpm_posterior(0.9, 1), 0.01), {0.01}, 1e-12);
}

TEST(SolverSteps, PredictionsSayTheSame) {
  const double a = 0.37;
  const at::Tensor x0 = numbers({0.3, -0.8}), epsilon = numbers({1.1, 0.4});
  const at::Tensor x = std::sqrt(a) * x0 + std::sqrt(1 - a) * epsilon;
  const at::Tensor v = std::sqrt(a) * epsilon - std::sqrt(1 - a) * x0;
  for (const Estimate& said : {estimate(x, epsilon, a, Prediction::Epsilon), estimate(x, v, a, Prediction::V),
                               estimate(x, x0, a, Prediction::X0)}) {
    expect_near(said.x0, {0.3, -0.8}, 1e-12);
    expect_near(said.epsilon, {1.1, 0.4}, 1e-12);
  }
}

TEST(SolverSteps, AdamsBashforth) {
  const std::vector<at::Tensor> history{numbers({1.0}), numbers({0.8}), numbers({0.5}), numbers({0.1})};
  const auto combined = [&](std::size_t order) {
    return weighted_sum(adams_bashforth(order), std::span(history).first(order));
  };
  expect_near(combined(1), {1}, 0);
  expect_near(combined(2), {1.1}, 1e-12);
  expect_near(combined(3), {1.058333333333}, 1e-11);
  expect_near(combined(4), {1.058333333333}, 1e-11);
  EXPECT_THAT(test::message_of([] { adams_bashforth(5); }), testing::HasSubstr("1 to 4"));
}

TEST(SolverSteps, DpmSolver) {
  const auto noise = NoiseSchedule::linear();
  const auto at_time = [&](double time) {
    return DpmPoint{noise.alpha_at(time), noise.sigma_at(time), noise.lambda_at(time)};
  };
  const DpmPoint start = at_time(1), middle = at_time(0.75), end = at_time(0.5);
  EXPECT_NEAR(start.lambda, -5.0588365917, 1e-9);
  EXPECT_NEAR(middle.lambda, -2.8476372302, 1e-9);
  EXPECT_NEAR(start.alpha, 0.00635281808757, 1e-12);
  EXPECT_NEAR(middle.alpha, 0.05788393938682, 1e-12);
  EXPECT_NEAR(end.alpha, 0.28033416288740, 1e-12);
  const at::Tensor x = numbers({1}), first_x0 = numbers({0.2}), second_x0 = numbers({0.3});
  const at::Tensor first = dpm_first_order(x, first_x0, start, middle);
  expect_near(first, {1.008651794069}, 1e-11);
  expect_near(dpm_second_order(first, second_x0, first_x0, middle.lambda - start.lambda, middle, end),
              {1.045450840504}, 1e-11);
  const double now = start.alpha * start.alpha, next = middle.alpha * middle.alpha;
  EXPECT_TRUE(
      at::allclose(ddim_step({epsilon_of(x, first_x0, now), first_x0}, now, next), first, 1e-12, 1e-12));
}

}  // namespace
}  // namespace lithe
