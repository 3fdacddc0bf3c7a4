// What DFSQ makes of a network that has learnt.
#include <gtest/gtest.h>

#include "lithe/data/bicubic.h"
#include "lithe/metrics/evaluate.h"
#include "lithe/quantize/dfsq/quantize_dfsq.h"
#include "lithe/train/train.h"
#include "quantize/dfsq/helpers.h"

namespace lithe {
namespace {

/// Pictures of soft stripes and hard edges, and their inputs of half the size.
DatasetPtr pairs(std::int64_t count, std::int64_t size, std::uint64_t seed) {
  Rng rng(seed);
  std::vector<at::Tensor> high, low;
  const at::Tensor along = at::arange(size, at::kFloat);
  for (std::int64_t i = 0; i < count; ++i) {
    std::vector<at::Tensor> colours;
    const double turn = 3 * rng.uniform(), edge = rng.uniform() + 0.2;
    for (int c = 0; c < 3; ++c) {
      const at::Tensor rows = (along * (0.15 + 0.3 * rng.uniform()) + turn).sin().view({-1, 1});
      const at::Tensor columns = (along * (0.15 + 0.3 * rng.uniform()) - turn).cos().view({1, -1});
      const at::Tensor corner =
          (along.view({-1, 1}) + edge * along.view({1, -1})) > edge * static_cast<double>(size);
      colours.push_back(127 + 70 * rows * columns + 50 * (corner.to(at::kFloat) - 0.5));
    }
    const at::Tensor picture = at::stack(colours).clamp(0, 255).round();
    high.push_back(picture / 255);
    low.push_back(resize_picture(picture, size / 2, size / 2) / 255);
  }
  return tensor_dataset({{"", at::stack(low)}}, {}, at::stack(high));
}

// On a network that has learnt a little, PSNR against the true pictures has the published order at 4 bits.
TEST(Dfsq, OrdersMethodsOnATrainedNetwork) {
  SuperResolutionOptions shape{.scale = 2, .channels = 16, .blocks = 2, .image_size = 24};
  Progress silent;
  TrainOptions recipe{.epochs = 40, .batch = 4, .optimiser = AdamW{}, .learning_rate = 2e-3};
  recipe.weight_decay = 0;
  recipe.augmentation.patch = 24;
  recipe.threads = 1;
  const Graph network = train(build_edsr(shape), pairs(20, 64, 3), recipe, silent).last;
  Graph open = network;
  for (ValueInfo* info : {&open.inputs[0], &open.outputs[0]})
    for (const std::size_t axis : {2u, 3u})
      (*info->shape)[axis] = {.symbol = fmt::format("{}{}", info->name, axis)};
  open.values.clear();
  const DatasetPtr test = pairs(5, 96, 4);
  const auto psnr_of = [&](const Graph& graph) {
    const at::NoGradGuard no_grad;
    Executor executor(graph);
    return evaluate(executor, test, {.batch = 1, .threads = 1}).psnr_y.value();
  };
  const auto by = [&](const QuantizeOptions& options) {
    return psnr_of(quantize(open, pairs(8, 64, 5), options, silent).graph);
  };
  QuantizeOptions options{.weight_bits = 4, .activation_bits = 4};
  options.report_samples = 0;
  options.dfsq = DfsqOptions{};
  const QuantizationPlan plan = plan_quantization(open, options);
  QuantizeOptions channel = options;
  channel.dfsq->points = PointMethod::Uniform;
  const double plain = psnr_of(open), ours = by(options), channels = by(channel),
               minmax = by(uniform_counterpart(options, plan.layers, QuantizeMethod::MinMax));
  EXPECT_GT(plain, 24);
  EXPECT_GT(ours, minmax);
  EXPECT_GT(ours, channels - 0.05);
}

}  // namespace
}  // namespace lithe
