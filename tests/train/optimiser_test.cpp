#include "lithe/train/optimiser.h"

#include <gtest/gtest.h>

#include <cmath>

#include "lithe/train/loss.h"
#include "lithe/train/recipe.h"
#include "tests/train/helpers.h"

namespace lithe {
namespace {

using test::expect_contains;
using test::message_of;

at::Tensor parameter(float value) {
  return at::full({1}, value).set_requires_grad(true);
}

std::vector<float> walk(const TrainOptions& options, bool decays, double rate,
                        const std::vector<float>& gradients) {
  at::Tensor w = parameter(1);
  Optimiser optimiser({{"w", w, decays}}, options);
  std::vector<float> values;
  for (const float gradient : gradients) {
    w.mutable_grad() = at::full({1}, gradient);
    optimiser.step(rate);
    EXPECT_FALSE(w.grad().defined());
    values.push_back(w.item<float>());
  }
  return values;
}

TEST(Sgd, FollowsItsFormula) {
  TrainOptions options{.optimiser = Sgd{.momentum = 0.9}, .weight_decay = 0};
  // v = 1, 1.9, 2.71
  auto values = walk(options, true, 0.1, {1, 1, 1});
  EXPECT_NEAR(values[0], 0.9, 1e-6);
  EXPECT_NEAR(values[1], 0.9 - 0.19, 1e-6);
  EXPECT_NEAR(values[2], 0.71 - 0.271, 1e-6);
  options.optimiser = Sgd{.momentum = 0.9, .nesterov = true};  // g + 0.9 v
  values = walk(options, true, 0.1, {1, 1});
  EXPECT_NEAR(values[0], 1 - 0.19, 1e-6);
  EXPECT_NEAR(values[1], 0.81 - 0.1 * (1 + 0.9 * 1.9), 1e-6);
  options = {.optimiser = Sgd{.momentum = 0}, .weight_decay = 0.5};
  EXPECT_NEAR(walk(options, true, 0.1, {1})[0], 1 - 0.1 * 1.5, 1e-6);
  EXPECT_NEAR(walk(options, false, 0.1, {1})[0], 1 - 0.1, 1e-6);
}

TEST(AdamW, FollowsItsFormula) {
  TrainOptions options{.optimiser = AdamW{.beta1 = 0.5, .beta2 = 0.75, .epsilon = 1e-12},
                       .weight_decay = 0.1};
  const auto values = walk(options, true, 0.2, {2, -1});
  // Step 1: decay to 0.98, then m / sqrt(v) = 1 after bias correction.
  EXPECT_NEAR(values[0], 0.98 - 0.2, 1e-6);
  // Step 2: m = 0.5 * 1 - 0.5 = 0; v = 0.75 * 1 + 0.25.
  EXPECT_NEAR(values[1], 0.78 * 0.98, 1e-6);
}

TEST(Optimiser, ComesBackFromItsState) {
  const TrainOptions options{.optimiser = AdamW{}, .weight_decay = 0.01};
  at::Tensor a = parameter(1), b = parameter(1);
  Optimiser straight({{"w", a, true}}, options), first({{"w", b, true}}, options);
  const auto step = [](Optimiser& optimiser, at::Tensor& w, float gradient) {
    w.mutable_grad() = at::full({1}, gradient);
    optimiser.step(0.1);
  };
  step(straight, a, 1), step(straight, a, -3);
  step(first, b, 1);
  Optimiser second({{"w", b, true}}, options);
  second.load_state(first.state());
  step(second, b, -3);
  EXPECT_EQ(a.item<float>(), b.item<float>());
  EXPECT_THROW(second.load_state({}), Error);
}

TEST(LearningRate, FollowsTheSchedules) {
  TrainOptions options{.epochs = 10, .learning_rate = 2, .warmup_epochs = 2};
  EXPECT_NEAR(learning_rate(options, 0, 4), 2.0 / 8, 1e-12);  // of eight steps of warm-up
  EXPECT_NEAR(learning_rate(options, 7, 4), 2, 1e-12);
  EXPECT_NEAR(learning_rate(options, 8, 4), 2, 1e-12);
  EXPECT_NEAR(learning_rate(options, 24, 4), 1, 1e-12);  // half way through the cosine
  EXPECT_GT(learning_rate(options, 39, 4), 0);
  options.schedule = Schedule::CosinePerEpoch;
  EXPECT_NEAR(learning_rate(options, 3, 4), 1, 1e-12);  // first epoch of two
  EXPECT_NEAR(learning_rate(options, 4, 4), 2, 1e-12);
  EXPECT_NEAR(learning_rate(options, 20, 4), 1, 1e-12);  // epoch 5 of 10
  EXPECT_EQ(learning_rate(options, 20, 4), learning_rate(options, 23, 4));
  options.schedule = Schedule::Step;
  options.step_epochs = {5, 7.5};
  EXPECT_NEAR(learning_rate(options, 19, 4), 2, 1e-12);
  EXPECT_NEAR(learning_rate(options, 20, 4), 0.2, 1e-12);
  EXPECT_NEAR(learning_rate(options, 30, 4), 0.02, 1e-12);
  options.schedule = Schedule::Constant;
  EXPECT_NEAR(learning_rate(options, 39, 4), 2, 1e-12);
  for (const double warmup : {0.1, 0.5, 1.1, 2.5})  // no whole epochs or steps: never above the rate
    for (const Schedule schedule : {Schedule::CosinePerEpoch, Schedule::CosinePerStep, Schedule::Constant}) {
      options.schedule = schedule;
      options.warmup_epochs = warmup;
      for (std::int64_t step = 0; step < 40; ++step) EXPECT_LE(learning_rate(options, step, 4), 2) << warmup;
    }
}

TEST(CrossEntropy, SmoothsAndMixesLabels) {
  const at::Tensor logits = at::log(at::tensor({0.5f, 0.25f, 0.25f})).unsqueeze(0);
  const at::Tensor label = at::tensor({0}, at::kLong);
  const double half = std::log(2), quarter = std::log(4);
  EXPECT_NEAR(smoothed_cross_entropy(logits, label, {}, 0).item<double>(), half, 1e-6);
  EXPECT_NEAR(smoothed_cross_entropy(logits, label, {}, 0.3).item<double>(),
              0.7 * half + 0.3 * (half + 2 * quarter) / 3, 1e-6);
  const at::Tensor mixed = at::tensor({0.0f, 1.0f, 0.25f}).unsqueeze(0);
  EXPECT_NEAR(smoothed_cross_entropy(logits, label, mixed, 0).item<double>(), 0.25 * half + 0.75 * quarter,
              1e-6);
  EXPECT_NEAR(smoothed_cross_entropy(logits.exp(), label, {}, 0, true).item<double>(), half, 1e-6);
}

TEST(Distillation, IsTheScaledDivergence) {
  const at::Tensor teacher = at::tensor({0.0f, 0.0f}).unsqueeze(0);
  const at::Tensor student = at::tensor({2 * std::log(3.0f), 0.0f}).unsqueeze(0);
  EXPECT_NEAR(distillation_loss(teacher, teacher, 2).item<double>(), 0, 1e-7);
  // At T = 2 the student gives 3/4 and 1/4: 4 (log(1/2 / 3/4) + log(1/2 / 1/4)) / 2.
  EXPECT_NEAR(distillation_loss(student, teacher, 2).item<double>(), 2 * std::log(4.0 / 3), 1e-6);
}

TEST(Options, AreChecked) {
  const auto complaint = [](auto change) {
    TrainOptions options;
    change(options);
    return message_of([&] { check_options(options); });
  };
  EXPECT_EQ(complaint([](TrainOptions&) {}), "");
  expect_contains(complaint([](TrainOptions& o) { o.epochs = 0; }), "epochs");
  expect_contains(complaint([](TrainOptions& o) { o.learning_rate = -1; }), "learning rate");
  expect_contains(complaint([](TrainOptions& o) { o.label_smoothing = 1; }), "smoothing");
  expect_contains(complaint([](TrainOptions& o) { o.validation_share = 1; }), "validation");
  expect_contains(complaint([](TrainOptions& o) { o.optimiser = Sgd{.momentum = 1}; }), "momentum");
}

}  // namespace
}  // namespace lithe
