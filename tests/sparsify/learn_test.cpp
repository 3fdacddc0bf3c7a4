#include "lithe/sparsify/learn.h"

#include <gmock/gmock.h>

#include "lithe/base/file.h"
#include "lithe/ops/registry.h"
#include "message_of.h"
#include "sparsify/helpers.h"

namespace lithe {
namespace {

using namespace testing_helpers;
using testing::Contains;
using testing::HasSubstr;
using testing::Pair;

MaskedGraph masked_net(const MaskOptions& options, const LayerPolicy& policy = {.pattern = {1, 4}}) {
  Graph graph = small_net();
  shake_norms(graph, 3);
  return insert_masks(graph, find_sparse_layers(graph, policy), options);
}

const MaskedLayer& layer_called(const MaskedGraph& masked, const std::string& name) {
  for (const MaskedLayer& one : masked.layers)
    if (one.layer.name == name) return one;
  throw std::runtime_error("no layer " + name);
}

/// The same weights, but far larger at one kernel position.
at::Tensor at_position(const at::Tensor& weight, std::int64_t position) {
  at::Tensor out = (1e-3 * weight.detach()).contiguous();
  out.flatten(2).select(2, position).fill_(1);
  return out;
}

std::vector<double> mask_in(Executor& executor, const MaskedLayer& layer) {
  const at::Tensor mask = executor.constant(layer.spatial_mask).to(at::kDouble).reshape({-1}).contiguous();
  return {mask.data_ptr<double>(), mask.data_ptr<double>() + mask.numel()};
}

std::vector<double> only(std::size_t position) {
  std::vector<double> mask(9, 0.0);
  mask[position] = 1;
  return mask;
}

/// Moves the weights of body.1 to another position before each of six steps in two epochs, and gives the
/// masks after each call of the hooks.
std::vector<std::vector<double>> masks_by_step(SpatialUpdate update, std::map<std::string, double>& numbers) {
  const MaskedGraph masked = masked_net({.branches = true});
  const MaskedLayer& layer = layer_called(masked, "body.1");
  MaskHooks hooks(masked, {.update = update}, short_training());
  Executor executor(masked.graph, {.training = true});
  hooks.before_training(executor);
  const at::Tensor weight = executor.constant(layer.layer.weight).clone();
  std::vector<std::vector<double>> seen;
  for (std::int64_t step = 0; step < 6; ++step) {
    executor.set_constant(layer.layer.weight, at_position(weight, step));
    hooks.before_step(executor, step / 3, step % 3);
    seen.push_back(mask_in(executor, layer));
  }
  numbers = hooks.epoch_numbers(executor, 1);
  return seen;
}

// The spatial mask follows the main branch's weights before every step, or before the first of each epoch.
TEST(MaskHooks, RefreshesStepByStep) {
  std::map<std::string, double> numbers;
  const auto steps = masks_by_step(SpatialUpdate::Step, numbers);
  for (std::size_t step = 0; step < 6; ++step) EXPECT_EQ(steps[step], only(step)) << step;
  // Of two layers with nine positions, at every step; body.2 does not change, body.1 in two positions a time.
  EXPECT_GE(numbers.at("spatial_flips"), 10.0 / (6 * 18));
  EXPECT_LE(numbers.at("spatial_flips"), 19.0 / (6 * 18));
  const auto epochs = masks_by_step(SpatialUpdate::Epoch, numbers);
  for (std::size_t step = 0; step < 6; ++step) EXPECT_EQ(epochs[step], only(step < 3 ? 0 : 3)) << step;
  EXPECT_GE(numbers.at("spatial_flips"), 2.0 / (2 * 18));
  const auto never = masks_by_step(SpatialUpdate::Never, numbers);
  for (const auto& mask : never) EXPECT_EQ(mask, never.front());
  EXPECT_FALSE(numbers.contains("spatial_flips"));
}

// The control turns the measured mask around, also where hysteresis looks at the one before.
TEST(MaskHooks, InvertedMasksRememberWhatWasMeasured) {
  for (const double margin : {0.0, 0.2}) {
    const MaskedGraph masked = masked_net({.branches = true, .spatial = SpatialChoice::Inverted}),
                      plain = masked_net({.branches = true});
    MaskHooks hooks(masked, {.update = SpatialUpdate::Step, .margin = margin}, short_training()),
        other(plain, {.update = SpatialUpdate::Step, .margin = margin}, short_training());
    const MaskedLayer &layer = layer_called(masked, "body.1"), &twin = layer_called(plain, "body.1");
    Executor executor(masked.graph, {.training = true}), second(plain.graph, {.training = true});
    hooks.before_training(executor);
    other.before_training(second);
    const at::Tensor weight = executor.constant(layer.layer.weight).clone();
    for (std::int64_t step = 0; step < 4; ++step) {
      // From one position to the next by degrees, so that a margin holds some back.
      const at::Tensor now = at_position(weight, step / 2) + (step % 2) * at_position(weight, step / 2 + 1);
      executor.set_constant(layer.layer.weight, now);
      second.set_constant(twin.layer.weight, now);
      hooks.before_step(executor, 0, step);
      other.before_step(second, 0, step);
      std::vector<double> inverted = mask_in(executor, layer);
      for (double& bit : inverted) bit = 1 - bit;
      EXPECT_EQ(inverted, mask_in(second, twin)) << "margin " << margin << ", step " << step;
    }
  }
}

TEST(MaskHooks, CountsFlips) {
  const MaskedGraph masked = masked_net({});
  MaskHooks hooks(masked, {}, short_training());
  Executor executor(masked.graph, {.training = true});
  hooks.before_training(executor);
  EXPECT_EQ(hooks.epoch_numbers(executor, 0).at("mask_flips"), 0);
  // In one group of body.1, two of four flip when another channel becomes the largest.
  const MaskedLayer& layer = layer_called(masked, "body.1");
  const at::Tensor weight = executor.constant(layer.layer.weight).clone();
  const std::int64_t smallest =
      weight.abs()[0].narrow(0, 0, 4).select(1, 0).select(1, 0).argmin().item<std::int64_t>();
  weight[0][smallest][0][0].fill_(100);
  executor.set_constant(layer.layer.weight, weight);
  std::int64_t all = 0;
  for (const MaskedLayer& one : masked.layers) all += one.layer.groups.count();
  const double two = 2.0 / static_cast<double>(all);
  auto numbers = hooks.epoch_numbers(executor, 1);
  EXPECT_DOUBLE_EQ(numbers.at("mask_flips"), two);
  EXPECT_DOUBLE_EQ(numbers.at("mask_divergence"), two);
  // Nothing flips any more, but the masks are still not those of the start, also after a checkpoint.
  MaskHooks resumed(masked, {}, short_training());
  resumed.load_state(hooks.state());
  resumed.before_training(executor);
  numbers = resumed.epoch_numbers(executor, 2);
  EXPECT_EQ(numbers.at("mask_flips"), 0);
  EXPECT_DOUBLE_EQ(numbers.at("mask_divergence"), two);
}

// N falls from M in equal steps, and the last epoch of the fall has the pattern.
TEST(MaskHooks, TightensEpochByEpoch) {
  std::vector<std::int64_t> kept;
  for (std::int64_t epoch = 0; epoch < 6; ++epoch) kept.push_back(tightened({1, 8}, epoch, 5));
  EXPECT_EQ(kept, (std::vector<std::int64_t>{8, 7, 5, 3, 1, 1}));
  EXPECT_EQ(tightened({2, 4}, 0, 0), 2);

  const MaskedGraph masked = masked_net({.tightens = true, .branches = true}, {.pattern = {1, 8}});
  const MaskedLayer& layer = layer_called(masked, "body.2");
  MaskHooks hooks(masked, {.tighten_epochs = 5}, short_training());
  Executor executor(masked.graph, {.training = true});
  const at::NoGradGuard no_grad;
  const auto in_a_group = [&] {
    const at::Tensor mask = executor.run({{"x", random_images(2, 1)}}, {layer.mask}).at(layer.mask);
    return mask.unflatten(1, {-1, 8}).sum(2);
  };
  hooks.before_training(executor);
  for (std::int64_t epoch = 0; epoch < 6; ++epoch) {
    hooks.before_step(executor, epoch, 0);
    EXPECT_TRUE((in_a_group() == kept[static_cast<std::size_t>(epoch)]).all().item<bool>()) << epoch;
    hooks.before_step(executor, 0, 1);  // only the first step of an epoch changes it
    EXPECT_TRUE((in_a_group() == kept[static_cast<std::size_t>(epoch)]).all().item<bool>()) << epoch;
  }
  hooks.before_step(executor, 0, 0);
  hooks.before_evaluation(executor, small_data(64, 2));
  EXPECT_TRUE((in_a_group() == 1).all().item<bool>());
}

// A fixed mask is not a function of the weights, so the checkpoint holds it.
TEST(MaskHooks, CheckpointsHoldFixedMasks) {
  const MaskedGraph masked = masked_net({.mode = MaskMode::Fixed});
  MaskHooks first(masked, {}, short_training());
  Executor executor(masked.graph, {.training = true});
  first.before_training(executor);
  const auto state = first.state();
  const MaskedLayer& layer = layer_called(masked, "body.1");
  const at::Tensor mask = executor.constant(layer.fixed_mask);
  EXPECT_TRUE(at::equal(state.at("fixed/body.1.weight"), mask.reshape({-1}).to(at::kByte)));

  // Another start would fix another mask; that of the checkpoint goes on.
  MaskedGraph other = masked;
  other.graph.constants.at(layer.fixed_mask) = to_tensor_data(at::ones_like(mask));
  MaskHooks second(other, {}, short_training());
  Executor resumed(other.graph, {.training = true});
  second.load_state(state);
  second.before_training(resumed);
  EXPECT_TRUE(at::equal(resumed.constant(layer.fixed_mask), mask));

  auto damaged = state;
  damaged.erase("fixed/body.1.weight");
  EXPECT_THAT(test::message_of([&] { second.load_state(damaged); }),
              HasSubstr("lacks the mask 'fixed/body.1.weight'"));
  damaged["fixed/body.1.weight"] = at::ones({3}, at::kByte);
  EXPECT_THAT(test::message_of([&] { second.load_state(damaged); }), HasSubstr("has 3 elements"));
}

TEST(MaskHooks, RecipeTellsTheOptions) {
  const MaskedGraph masked = masked_net({.branches = true, .branch_gamma = 1});
  const auto recipe =
      MaskHooks(masked, {.update = SpatialUpdate::Step, .recipe = {{"permuted", "yes"}}}, short_training())
          .recipe();
  EXPECT_THAT(recipe, Contains(Pair("pattern of 'body.1.weight'", "1:4")));
  EXPECT_THAT(recipe, Contains(Pair("scale of branches", "1")));
  EXPECT_THAT(recipe, Contains(Pair("spatial update", "step")));
  EXPECT_THAT(recipe, Contains(Pair("permuted", "yes")));
}

TEST(ResumedSparsity, IsRefusedUnderOtherOptions) {
  const TemporaryFolder folder;
  Progress progress;
  const Graph graph = small_net();
  const DatasetPtr data = small_data(64, 1);
  SparsifyOptions options{.method = SparsifyMethod::Asp,
                          .layers = {.pattern = {1, 4}},
                          .train = short_training(1),
                          .norm_batches = 2};
  options.train.checkpoints = folder.path();
  sparsify(graph, data, options, progress);
  options.train.resume = true;
  const auto message = [&](const SparsifyOptions& changed) {
    return test::message_of([&] { sparsify(graph, data, changed, progress); });
  };
  EXPECT_EQ(message(options), "");
  SparsifyOptions other = options;
  other.layers.pattern = {2, 4};
  EXPECT_THAT(message(other), HasSubstr("pattern of 'body.1.weight' = \"1:4\", not \"2:4\""));
  other = options;
  other.method = SparsifyMethod::SrSte;
  EXPECT_THAT(message(other), HasSubstr("masks = \"fixed\", not \"straight-through, refined\""));
  other = options;
  other.norm_batches = 3;
  EXPECT_THAT(message(other), HasSubstr("batches for norms = \"2\", not \"3\""));
  other = options;
  other.distillation = 0.5;
  EXPECT_THAT(message(other), HasSubstr("distillation = null, not [\"small "));
}

}  // namespace
}  // namespace lithe
