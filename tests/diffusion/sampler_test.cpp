#include "lithe/diffusion/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>

#include "diffusion/analytic.h"
#include "diffusion/toy_denoiser.h"
#include "lithe/diffusion/solver_steps.h"
#include "lithe/diffusion/timesteps.h"
#include "lithe/models/models.h"
#include "message_of.h"

namespace lithe {
namespace {

using test::analytic_distance;
using test::AnalyticDenoiser;
using test::generated_deviations;
using test::message_of;
using testing::HasSubstr;

TEST(AnalyticSampling, ThousandSteps) {
  const auto noise = NoiseSchedule::cosine();
  AnalyticDenoiser model(noise);
  const auto distance = [&](const std::vector<std::int64_t>& steps) {
    return analytic_distance(model, noise, to_plan(steps));
  };
  EXPECT_THAT(generated_deviations(model, noise, to_plan({0, 250, 500, 750})),
              testing::Pointwise(testing::DoubleNear(1e-8), {1.15091903, 0.36150394, 0.03092356}));
  EXPECT_NEAR(distance({0, 250, 500, 750}), 0.1458102371, 1e-9);
  EXPECT_NEAR(distance({249, 499, 749, 999}), 0.2249050205, 1e-9);
  EXPECT_NEAR(distance({0, 333, 666, 999}), 0.3668731440, 1e-9);
  EXPECT_NEAR(distance({94, 217, 354, 574, 834, 944}), 0.1103621168, 1e-9);
  EXPECT_NEAR(distance({249, 511}), 0.18599399602, 1e-9);
  EXPECT_NEAR(analytic_distance(model, noise, make_plan("leading", noise, 10)), 0.0357759151, 1e-9);
  EXPECT_NEAR(analytic_distance(model, noise, make_plan("leading", noise, 1000)), 5.3678e-06, 1e-10);
}

TEST(AnalyticSampling, FiftySteps) {
  const auto noise = NoiseSchedule::cosine(50);
  AnalyticDenoiser model(noise);
  const auto distance = [&](const std::vector<std::int64_t>& steps) {
    return analytic_distance(model, noise, to_plan(steps));
  };
  EXPECT_NEAR(distance({12, 25}), 0.186129454928996, 1e-12);
  EXPECT_NEAR(distance({9, 21, 31}), 0.13487606611951328, 1e-12);
  EXPECT_NEAR(distance({7, 17, 27, 35}), 0.10005805460961764, 1e-12);
  EXPECT_NEAR(distance({8, 18, 27, 35}), 0.10010012926, 1e-10);
  EXPECT_NEAR(distance({0, 12, 24, 36}), 0.1301933540, 1e-9);
  EXPECT_NEAR(analytic_distance(model, noise, make_plan("trailing", noise, 4)), 0.2211903074, 1e-9);
  EXPECT_NEAR(analytic_distance(model, noise, make_plan("linspace", noise, 4)), 0.3371062120, 1e-9);
}

// Along the exact trajectory the samples scale as the standard deviation of the noisy data does.
TEST(AnalyticSampling, OrderOfConvergence) {
  const auto noise = NoiseSchedule::scaled_linear();
  AnalyticDenoiser model(noise);
  const auto deviation = [&](std::int64_t step, double s) {
    const double a = noise.alpha_bar(step);
    return std::sqrt(a * s * s + 1 - a);
  };
  const auto error = [&](std::int64_t count, SamplerKind kind, const char* spacing) {
    const auto made =
        generated_deviations(model, noise, make_plan(spacing, noise, count, kind), {.kind = kind});
    double sum = 0;
    for (std::size_t i = 0; i < made.size(); ++i) {
      const double s = model.deviations()[i];
      sum += std::abs(made[i] - deviation(0, s) / deviation(noise.steps() - 1, s));
    }
    return sum;
  };
  const double coarse = error(40, SamplerKind::DpmSolver, "log_snr"),
               fine = error(80, SamplerKind::DpmSolver, "log_snr");
  EXPECT_NEAR(coarse / fine, 4, 0.6);
  EXPECT_LT(error(20, SamplerKind::Plms, "linspace"), error(20, SamplerKind::Ddim, "linspace"));
}

at::Tensor doubles(std::int64_t count = 2) {
  return start_noise({.seed = 5, .count = count, .shape = {3, 2, 2}}).to(at::kDouble);
}

TEST(Sampler, DpmSolverOfFirstOrderIsDdim) {
  const auto noise = NoiseSchedule::linear();
  AnalyticDenoiser model(noise);
  // Of two steps both are of the first order.
  const SamplingPlan plan = to_plan({0, 400, 900});
  at::Tensor x = doubles();
  const at::Tensor made = sample(model, noise, plan, {.kind = SamplerKind::DpmSolver}, {.start = x});
  for (const auto& [from, to] : {std::pair{900, 400}, {400, 0}}) {
    const double now = noise.alpha_bar(from), next = noise.alpha_bar(to);
    x = ddim_step(estimate(x, model.predict(x, from, {}, {}), now, Prediction::Epsilon), now, next);
  }
  EXPECT_TRUE(made.allclose(x, 1e-10, 1e-10));
}

TEST(Sampler, DdimWithAllItsNoiseIsDdpm) {
  const auto noise = NoiseSchedule::cosine();
  AnalyticDenoiser model(noise);
  const SamplingPlan plan = to_plan({3, 200, 490, 870});
  const SampleRequest request{.images = {.seed = 4, .first = 3}, .start = doubles()};
  const at::Tensor ddim = sample(model, noise, plan, {.eta = 1, .clip = false}, request);
  const at::Tensor ddpm = sample(model, noise, plan, {.kind = SamplerKind::Ddpm, .clip = false}, request);
  EXPECT_TRUE(ddim.allclose(ddpm, 1e-9, 1e-9));
  EXPECT_FALSE(ddim.allclose(sample(model, noise, plan, {.clip = false}, request), 1e-2, 1e-2));
}

TEST(Sampler, PlmsByHand) {
  const auto noise = NoiseSchedule::linear();
  AnalyticDenoiser model(noise);
  const std::vector<std::int64_t> steps{1, 334, 667};
  const auto ask = [&](const at::Tensor& x, std::int64_t step) {
    return model.predict(x, static_cast<double>(step), {}, {});
  };
  const auto move = [&](const at::Tensor& x, const at::Tensor& epsilon, std::int64_t from, std::int64_t to) {
    const double now = noise.alpha_bar(from), next = noise.alpha_bar(to);
    return std::sqrt(next) * (x - std::sqrt(1 - now) * epsilon) / std::sqrt(now) +
           std::sqrt(1 - next) * epsilon;
  };
  at::Tensor x = doubles();
  const at::Tensor made = sample(model, noise, to_plan(steps), {.kind = SamplerKind::Plms}, {.start = x});
  const at::Tensor e1 = ask(x, 667);
  x = move(x, (e1 + ask(move(x, e1, 667, 334), 334)) / 2, 667, 334);
  const at::Tensor e2 = ask(x, 334);
  x = move(x, 1.5 * e2 - 0.5 * e1, 334, 1);
  const at::Tensor e3 = ask(x, 1);
  x = move(x, (23 * e3 - 16 * e2 + 5 * e1) / 12, 1, 0);
  EXPECT_TRUE(made.allclose(x, 1e-10, 1e-10));
}

TEST(Sampler, MakesAsManyCallsAsItSays) {
  const auto noise = NoiseSchedule::cosine();
  const auto calls = [&](SamplerKind kind, std::int64_t count) {
    AnalyticDenoiser model(noise);
    const SamplingPlan plan = make_plan("centred", noise, count, kind);
    const SamplerOptions options{.kind = kind};
    sample(model, noise, plan, options, {.start = doubles()});
    EXPECT_EQ(network_calls(options, plan), model.calls);
    EXPECT_EQ(called_points(options, plan).size(), static_cast<std::size_t>(model.calls));
    return model.calls;
  };
  EXPECT_EQ(calls(SamplerKind::Ddim, 5), 5);
  EXPECT_EQ(calls(SamplerKind::Ddpm, 5), 5);
  EXPECT_EQ(calls(SamplerKind::Plms, 5), 6);
  EXPECT_EQ(calls(SamplerKind::Plms, 1), 2);
  EXPECT_EQ(calls(SamplerKind::DpmSolver, 5), 5);
  SamplerOptions guided;
  guided.guidance = {.kind = GuidanceKind::ClassifierFree, .scale = 3, .null_label = 2};
  EXPECT_EQ(network_calls(guided, to_plan({1, 2, 3})), 6);
  guided.guidance.scale = 1;
  EXPECT_EQ(network_calls(guided, to_plan({1, 2, 3})), 3);
  EXPECT_THAT(called_points({.kind = SamplerKind::Plms}, to_plan({1, 2, 3})),
              testing::ElementsAre(2, 1, 1, 0));
}

TEST(Sampler, ImagesDoNotDependOnTheBatch) {
  const auto noise = NoiseSchedule::cosine();
  GraphDenoiser denoiser(std::make_shared<const Graph>(build_unet({.image_size = 8,
                                                                   .base = 8,
                                                                   .multipliers = {1, 2},
                                                                   .residual_blocks = 1,
                                                                   .attention_sizes = {4},
                                                                   .groups = 4})));
  for (const SamplerKind kind : {SamplerKind::Ddim, SamplerKind::Ddpm, SamplerKind::Plms}) {
    const SamplingPlan plan = make_plan("centred", noise, 4, kind);
    const auto make = [&](std::int64_t first, std::int64_t count, std::int64_t batch) {
      return sample(denoiser, noise, plan,
                    {.kind = kind, .eta = kind == SamplerKind::Ddim ? 0.5 : 0, .batch = batch},
                    {.images = {.seed = 9, .first = first, .count = count, .shape = {3, 8, 8}}});
    };
    const at::Tensor all = make(0, 7, 7);
    EXPECT_TRUE(all.isfinite().all().item<bool>());
    EXPECT_TRUE(make(0, 7, 2).allclose(all, 1e-3, 1e-3)) << sampler_name(kind);
    EXPECT_TRUE(make(4, 3, 7).allclose(all.narrow(0, 4, 3), 1e-3, 1e-3)) << sampler_name(kind);
    EXPECT_EQ(make(0, 0, 7).size(0), 0);
  }
}

TEST(Sampler, ClassifierFreeGuidance) {
  const auto noise = NoiseSchedule::linear();
  const at::Tensor start = start_noise({.count = 3, .shape = {1, 2, 2}});
  SamplerOptions options{.prediction = Prediction::X0, .clip = false, .batch = 2};
  options.guidance = {.kind = GuidanceKind::ClassifierFree, .scale = 2.5, .null_label = 2};
  const SampleRequest request{.labels = at::tensor({0, 1, 2}, at::kLong), .start = start};
  for (const std::int64_t batch : {-1, 2}) {
    GraphDenoiser denoiser(test::toy_denoiser({.label = "y", .batch = batch}));
    // The network says x + t + 10 (label + 1), which is the image after one step.
    const at::Tensor guided =
        at::tensor({30 - 2.5 * 20, 30 - 2.5 * 10, 30.0}, at::kFloat).reshape({3, 1, 1, 1});
    const at::Tensor made = sample(denoiser, noise, to_plan({7}), options, request);
    EXPECT_TRUE(made.allclose(start + 7 + guided, 1e-5, 1e-5)) << made;
  }
  GraphDenoiser plain(test::toy_denoiser());
  EXPECT_THAT(message_of([&] { sample(plain, noise, to_plan({7}), options, request); }),
              HasSubstr("takes labels"));
  EXPECT_THAT(message_of([&] { sample(plain, noise, to_plan({7}), options, {.start = start}); }),
              HasSubstr("give labels"));
}

/// Pulls by a constant.
class Pull : public NoisyClassifier {
 public:
  at::Tensor gradient(const at::Tensor& x, double, const at::Tensor&) override {
    return at::full_like(x, 0.25);
  }
};

TEST(Sampler, ClassifierGuidance) {
  const auto noise = NoiseSchedule::linear();
  AnalyticDenoiser model(noise);
  Pull pull;
  SamplerOptions options;
  options.guidance = {.kind = GuidanceKind::Classifier, .scale = 2, .classifier = &pull};
  const at::Tensor x = 3 * doubles();
  const SampleRequest request{.labels = at::zeros({2}, at::kLong), .start = x};
  const double a = noise.alpha_bar(300);
  const at::Tensor clipped =
      estimate(x, model.predict(x, 300, {}, {}), a, Prediction::Epsilon).x0.clamp(-1, 1);
  const at::Tensor epsilon = epsilon_of(x, clipped, a) - std::sqrt(1 - a) * 0.5;
  const at::Tensor ddim = sample(model, noise, to_plan({300}), options, request);
  EXPECT_TRUE(ddim.allclose(x0_of(x, epsilon, a), 1e-9, 1e-9));  // beyond 1 where it is pulled there
  EXPECT_GT(ddim.max().item<double>(), 1);
  // Ancestral sampling moves the mean by the variance times the gradient, here in the first of two steps.
  options.kind = SamplerKind::Ddpm;
  std::vector<at::Tensor> seen;
  const auto see = [&](const SamplerStep& step) { seen.push_back(step.x); };
  sample(model, noise, to_plan({100, 300}), options, request, see);
  SamplerOptions plain{.kind = SamplerKind::Ddpm};
  sample(model, noise, to_plan({100, 300}), plain, request, see);
  const double variance = ddpm_posterior(a, noise.alpha_bar(100)).variance;
  EXPECT_TRUE((seen[1] - seen[3]).allclose(at::full_like(x, 0.5 * variance), 1e-9, 1e-9));
}

/// Says 0 for the noise and v for the range of the variance.
class WithRange : public Denoiser {
 public:
  explicit WithRange(double v) : v_(v) {}
  at::Tensor predict(const at::Tensor& x, double, const at::Tensor&, const std::vector<int>&) override {
    return at::cat({at::zeros_like(x), at::full_like(x, v_)}, 1);
  }

 private:
  double v_;
};

TEST(Sampler, LearnedVariance) {
  const auto noise = NoiseSchedule::linear();
  const SampleRequest request{.images = {.seed = 3}, .start = doubles()};
  const auto second_point = [&](double v) {
    WithRange denoiser(v);
    std::vector<at::Tensor> seen;
    sample(denoiser, noise, to_plan({100, 300}), {.kind = SamplerKind::Ddpm, .clip = false}, request,
           [&](const SamplerStep& step) { seen.push_back(step.x); });
    return seen.at(1);
  };
  const DdpmPosterior posterior = ddpm_posterior(noise.alpha_bar(300), noise.alpha_bar(100));
  const at::Tensor z = step_noise({.seed = 3, .count = 2, .shape = {3, 2, 2}}, 1).to(at::kDouble);
  const double difference = std::sqrt(posterior.beta) - std::sqrt(posterior.variance);
  EXPECT_TRUE((second_point(1) - second_point(-1)).allclose(difference * z, 1e-9, 1e-9));
  WithRange denoiser(0);
  EXPECT_EQ(sample(denoiser, noise, to_plan({100, 300}), {}, request).sizes(), request.start.sizes());
}

TEST(Sampler, ShowsItsSteps) {
  const auto noise = NoiseSchedule::cosine();
  AnalyticDenoiser model(noise);
  const SampleRequest request{.start = 2 * doubles()};
  std::vector<double> times;
  at::Tensor last;
  const at::Tensor made =
      sample(model, noise, to_plan({0, 300, 800}), {}, request, [&](const SamplerStep& step) {
        times.push_back(step.timestep);
        const double a = noise.alpha_bar(static_cast<std::int64_t>(step.timestep));
        EXPECT_TRUE(step.x.allclose(std::sqrt(a) * step.x0 + std::sqrt(1 - a) * step.epsilon, 1e-9, 1e-9));
        EXPECT_LE(step.x0.abs().max().item<double>(), 1);
        last = step.x0;
      });
  EXPECT_THAT(times, testing::ElementsAre(800, 300, 0));
  EXPECT_TRUE(made.equal(last));
}

TEST(Sampler, NotANumberIsNoError) {
  const auto noise = NoiseSchedule::cosine();
  WithRange wild(std::numeric_limits<double>::quiet_NaN());
  const at::Tensor made =
      sample(wild, noise, to_plan({1, 2}), {.kind = SamplerKind::Ddpm}, {.start = doubles()});
  EXPECT_TRUE(made.isnan().any().item<bool>());
}

TEST(Sampler, RefusesBadPlans) {
  const auto noise = NoiseSchedule::cosine();
  const auto refusal = [&](const SamplingPlan& plan, const SamplerOptions& options = {}) {
    return message_of([&] { check_plan(plan, noise, options); });
  };
  EXPECT_EQ(refusal(to_plan({0, 5, 999})), "");
  EXPECT_THAT(refusal({}), HasSubstr("no steps"));
  EXPECT_THAT(refusal(to_plan({0, 5, 5})), HasSubstr("distinct"));
  EXPECT_THAT(refusal(to_plan({5, 0})), HasSubstr("ascending"));
  EXPECT_THAT(refusal(to_plan({0, 1000})), HasSubstr("0 to 999"));
  EXPECT_THAT(refusal(to_plan({-1, 4})), HasSubstr("0 to 999"));
  EXPECT_THAT(refusal({{.timestep = std::numeric_limits<double>::quiet_NaN()}}), HasSubstr("0 to 999"));
  EXPECT_THAT(refusal({{.timestep = 2.5}}), HasSubstr("whole"));
  EXPECT_THAT(refusal({{.timestep = 2, .skipped = {3, 3}}}), HasSubstr("skipped layers"));
  EXPECT_THAT(refusal(to_plan({0, 5}), {.kind = SamplerKind::DpmSolver}), HasSubstr("three points"));
  EXPECT_EQ(
      refusal({{.timestep = 0.5}, {.timestep = 2.5}, {.timestep = 9}}, {.kind = SamplerKind::DpmSolver}), "");
  EXPECT_THAT(refusal(to_plan({5}), {.eta = 1.5}), HasSubstr("eta"));
  EXPECT_THAT(refusal(to_plan({5}), {.kind = SamplerKind::Plms, .eta = 0.5}), HasSubstr("eta"));
  EXPECT_THAT(refusal(to_plan({5}), {.batch = 0}), HasSubstr("1 or more"));
  EXPECT_THAT(refusal(to_plan({5}), {.guidance = {.kind = GuidanceKind::ClassifierFree, .scale = 2}}),
              HasSubstr("stands for none"));
  EXPECT_THAT(refusal(to_plan({5}), {.guidance = {.kind = GuidanceKind::Classifier}}),
              HasSubstr("its model"));
}

TEST(SamplerOptions, Names) {
  for (const auto kind : {SamplerKind::Ddim, SamplerKind::Ddpm, SamplerKind::Plms, SamplerKind::DpmSolver})
    EXPECT_EQ(parse_sampler(sampler_name(kind)), kind);
  for (const auto kind : {Prediction::Epsilon, Prediction::V, Prediction::X0})
    EXPECT_EQ(parse_prediction(prediction_name(kind)), kind);
  for (const auto kind : {GuidanceKind::None, GuidanceKind::ClassifierFree, GuidanceKind::Classifier})
    EXPECT_EQ(parse_guidance(guidance_name(kind)), kind);
  EXPECT_THAT(message_of([] { parse_sampler("euler"); }), HasSubstr("dpmpp2m"));
}

}  // namespace
}  // namespace lithe
