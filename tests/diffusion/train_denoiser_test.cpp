#include "lithe/diffusion/train_denoiser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "lithe/base/file.h"
#include "lithe/data/loader.h"
#include "lithe/engine/threads.h"
#include "lithe/models/models.h"
#include "lithe/train/initialise.h"
#include "tests/train/helpers.h"

namespace lithe {
namespace {

using ::testing::HasSubstr;

/// Bright quarters of 4x4 pixels between -1 and 1, with labels.
DatasetPtr patches(std::int64_t count) {
  at::Tensor images = at::full({count, 1, 4, 4}, -1.0f);
  std::vector<std::int64_t> labels;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t label = i % 4;
    labels.push_back(label);
    images[i].narrow(1, label / 2 * 2, 2).narrow(2, label % 2 * 2, 2).fill_(1.0f);
  }
  return tensor_dataset({{"", images}}, at::tensor(labels, at::kLong));
}

Graph tiny_net(std::int64_t classes = 0) {
  Graph graph = build_adm_unet({.image_size = 4,
                                .base = 8,
                                .multipliers = {1},
                                .residual_blocks = 1,
                                .attention_sizes = {},
                                .classes = classes});
  initialise(graph, 3);
  zero_branch_ends(graph);
  return graph;
}

TrainOptions tiny(std::int64_t epochs) {
  TrainOptions options = test::quick(epochs);
  options.optimiser = AdamW{};
  options.learning_rate = 3e-3;
  options.weight_decay = 0;
  options.batch = 32;
  options.validation_share = 0.25;
  options.ema_decay = 0.9;
  options.preprocess = {.mean = {0.5}, .std = {0.5}};
  return options;
}

NoiseOptions noise_options(Prediction prediction = Prediction::Epsilon) {
  return {.diffusion = {.steps = 100, .prediction = prediction},
          .inputs = find_network_inputs(tiny_net()),
          .seed = 9};
}

class TrainDenoiser : public ::testing::Test {
 protected:
  void SetUp() override { set_threads(1); }
  TrainResult run(const TrainOptions& options, const DiffusionRecord& diffusion = {.steps = 100},
                  const Graph& net = tiny_net()) {
    return train_denoiser(net, patches(256), diffusion, options, progress_);
  }
  Progress progress_;
};

TEST_F(TrainDenoiser, NoiseIsAddedAsTheTargetSays) {
  const DatasetPtr images = patches(8);
  const NoiseSchedule noise = NoiseSchedule::cosine(100);
  const DatasetPtr epsilons = noised(images, noise_options()),
                   images_told = noised(images, noise_options(Prediction::X0)),
                   mixtures = noised(images, noise_options(Prediction::V));
  EXPECT_TRUE(epsilons->has_targets());
  for (std::int64_t i = 0; i < 8; ++i) {
    const Sample sample = epsilons->get(i);
    const at::Tensor x0 = images->get(i).inputs.at(""), epsilon = sample.target, xt = sample.inputs.at("x");
    const auto t = sample.inputs.at("t").item<std::int64_t>();
    const double alpha = std::sqrt(noise.alpha_bar(t)), sigma = std::sqrt(1 - noise.alpha_bar(t));
    EXPECT_TRUE(at::allclose(xt, alpha * x0 + sigma * epsilon));
    EXPECT_TRUE(at::equal(images_told->get(i).target, x0));
    const at::Tensor v = mixtures->get(i).target;
    EXPECT_TRUE(at::allclose(alpha * xt - sigma * v, x0, 1e-4, 1e-5));  // v tells both
    EXPECT_TRUE(at::allclose(sigma * xt + alpha * v, epsilon, 1e-4, 1e-5));
  }
}

TEST_F(TrainDenoiser, NoiseDependsOnSeedEpochAndSample) {
  const auto inputs = [](const NoiseOptions& options, std::vector<std::int64_t> order, std::int64_t at) {
    return noised(patches(8), options, std::move(order))->get(at).target;
  };
  const NoiseOptions options = noise_options();
  NoiseOptions other_epoch = options, other_seed = options;
  other_epoch.epoch = 1;
  other_seed.seed = 10;
  const at::Tensor once = inputs(options, {}, 5);
  EXPECT_TRUE(at::equal(inputs(options, {7, 6, 5, 4, 3, 2, 1, 0}, 2), once));
  EXPECT_FALSE(at::equal(inputs(options, {}, 4), once));
  EXPECT_FALSE(at::equal(inputs(other_epoch, {}, 5), once));
  EXPECT_FALSE(at::equal(inputs(other_seed, {}, 5), once));
}

TEST_F(TrainDenoiser, StepsAreUniformAndNoiseIsNormal) {
  const Batch batch = load_all(noised(patches(2000), noise_options()));
  const at::Tensor t = batch.inputs.at("t").to(at::kDouble);
  EXPECT_NEAR(t.mean().item<double>(), 49.5, 3);
  EXPECT_NEAR(t.std().item<double>(), 28.9, 1.5);
  EXPECT_EQ(t.min().item<double>(), 0);
  EXPECT_EQ(t.max().item<double>(), 99);
  EXPECT_NEAR(batch.targets.mean().item<double>(), 0, 0.03);
  EXPECT_NEAR(batch.targets.std().item<double>(), 1, 0.03);
}

TEST_F(TrainDenoiser, LowersTheLoss) {
  for (const Prediction prediction : {Prediction::Epsilon, Prediction::V, Prediction::X0}) {
    const TrainResult result = run(tiny(16), {.steps = 100, .prediction = prediction});
    EXPECT_LT(*result.history.back().validation_loss, 0.7 * *result.history.front().validation_loss);
    EXPECT_LT(result.history.back().loss, 0.7 * result.history.front().loss);
    EXPECT_FALSE(result.history.back().train_top1 || result.history.back().validation_psnr);
    const auto lowest = std::min_element(
        result.history.begin(), result.history.end(),
        [](const EpochRecord& a, const EpochRecord& b) { return *a.validation_loss < *b.validation_loss; });
    EXPECT_EQ(result.best_epoch, lowest->epoch);
    for (const Graph* graph : {&result.best, &result.last}) {
      const auto record = diffusion_record(*graph);
      ASSERT_TRUE(record);
      EXPECT_EQ(*record, (DiffusionRecord{.steps = 100, .prediction = prediction}));
    }
  }
}

TEST_F(TrainDenoiser, HeldOutNoiseStaysTheSame) {
  TrainOptions options = tiny(3);
  options.learning_rate = 1e-12;  // so that only the noise could change the score
  const TrainResult result = run(options);
  EXPECT_NEAR(*result.history[0].validation_loss, *result.history[2].validation_loss, 1e-6);
  EXPECT_GT(std::abs(result.history[0].loss - result.history[2].loss), 1e-4);
}

TEST_F(TrainDenoiser, GoesOnToTheBit) {
  const TemporaryFolder folder;
  TrainOptions options = tiny(4);
  const TrainResult whole = run(options);
  options.checkpoints = folder.path();
  options.time_budget = 1e-9;  // one step
  EXPECT_FALSE(run(options).complete);
  options.time_budget = 0;
  options.resume = true;
  options.on_epoch = [](const EpochRecord& record) {
    if (record.epoch == 2) throw Interrupted{};
  };
  EXPECT_THROW(run(options), Interrupted);
  options.on_epoch = {};
  const TrainResult resumed = run(options);
  EXPECT_TRUE(test::differing(whole.last, resumed.last).empty());
  EXPECT_TRUE(test::differing(whole.best, resumed.best).empty());
  EXPECT_EQ(*whole.history.back().validation_loss, *resumed.history.back().validation_loss);
  EXPECT_THAT(test::message_of([&] { run(options, {.steps = 200}); }), HasSubstr("diffusion steps"));
}

TEST_F(TrainDenoiser, IsToldLabels) {
  const TrainResult result = run(tiny(1), {.steps = 100}, tiny_net(4));
  EXPECT_FALSE(test::differing(result.last, tiny_net(4)).empty());
  EXPECT_NE(test::values_of(result.last, "label.table"), test::values_of(tiny_net(4), "label.table"));
  EXPECT_THAT(test::message_of([&] { run(tiny(1), {.steps = 100}, tiny_net(3)); }),
              HasSubstr("the network knows 3 classes"));
}

TEST_F(TrainDenoiser, RefusesWhatItCannotTrain) {
  const Graph learned = build_adm_unet({.image_size = 4,
                                        .base = 8,
                                        .multipliers = {1},
                                        .residual_blocks = 1,
                                        .attention_sizes = {},
                                        .learned_sigma = true});
  EXPECT_THAT(test::message_of([&] { run(tiny(1), {.steps = 100}, learned); }),
              HasSubstr("learned variance"));
  EXPECT_THAT(test::message_of([&] { run(tiny(1), {}, test::small_net()); }), HasSubstr("time"));
}

}  // namespace
}  // namespace lithe
