// Small graphs and data for the tests of sparsity.
#pragma once

#include <ATen/ATen.h>

#include <cmath>
#include <string>
#include <vector>

#include "lithe/base/random.h"
#include "lithe/data/dataset.h"
#include "lithe/engine/executor.h"
#include "lithe/models/builder.h"
#include "lithe/sparsify/sparsify.h"

namespace lithe::testing_helpers {

struct SmallNet {
  bool norms = true;      // else convolutions with bias, as after folding
  bool residual = false;  // a sum around the second block
  std::int64_t channels = 16;
  std::uint64_t seed = 1;
};

/// stem (3 -> 8), two 3x3 convolutions "body.1" and "body.2", a 1x1 convolution "point", a classifier "fc"
/// for four classes of 8x8 pictures.
inline Graph small_net(const SmallNet& options = {}) {
  GraphBuilder net("small", options.seed);
  const auto block = [&](const std::string& name, const std::string& x, std::int64_t channels,
                         std::int64_t kernel) {
    std::string y = net.conv(name, x, {.channels = channels, .kernel = kernel, .bias = !options.norms});
    if (options.norms) y = net.batch_norm(name + ".norm", y);
    return net.relu(name + ".relu", y);
  };
  std::string x = block("stem", net.input("x", {-1, 3, 8, 8}), 8, 3);
  x = block("body.1", x, options.channels, 3);
  const std::string y = block("body.2", x, options.channels, 3);
  x = options.residual ? net.add("sum", x, y) : y;
  x = block("point", x, options.channels, 1);
  x = net.flatten("flat", net.global_average_pool("pool", x));
  net.output("logits", net.gemm("fc", x, options.channels, 4), {-1, 4});
  return net.finish();
}

/// Gives batch norms statistics and parameters that are not those of the start.
inline void shake_norms(Graph& graph, std::uint64_t seed) {
  Rng rng(seed);
  for (const Node& node : graph.nodes) {
    if (!node.is("BatchNormalization")) continue;
    for (std::size_t i = 1; i <= 4; ++i) {
      std::vector<float> values(static_cast<std::size_t>(graph.constants.at(node.input(i)).count()));
      for (float& value : values)
        value = static_cast<float>(i == 2 || i == 3 ? 0.3 * rng.normal() : 0.5 + rng.uniform());
      const auto count = static_cast<std::int64_t>(values.size());
      graph.constants[node.input(i)] = TensorData::from<float>({count}, std::move(values));
    }
  }
}

/// Pictures whose class decides the place of a bright patch, under noise.
inline DatasetPtr small_data(std::int64_t samples, std::uint64_t seed) {
  Rng rng(seed);
  at::Tensor images = at::empty({samples, 3, 8, 8});
  at::Tensor labels = at::empty({samples}, at::kLong);
  for (std::int64_t i = 0; i < samples; ++i) {
    const auto label = static_cast<std::int64_t>(rng.below(4));
    labels.data_ptr<std::int64_t>()[i] = label;
    float* pixels = images.data_ptr<float>() + i * 192;
    for (int p = 0; p < 192; ++p) pixels[p] = static_cast<float>(0.7 * rng.normal());
    for (int c = 0; c < 3; ++c)
      for (int y = 0; y < 3; ++y)
        for (int x = 0; x < 3; ++x)
          pixels[c * 64 + (label / 2 * 4 + y) * 8 + label % 2 * 4 + x] +=
              static_cast<float>(c == label % 3 ? 2 : 1);
  }
  return tensor_dataset({{"", images}}, labels);
}

inline at::Tensor random_images(std::int64_t count, std::uint64_t seed) {
  Rng rng(seed);
  at::Tensor images = at::empty({count, 3, 8, 8});
  for (std::int64_t i = 0; i < images.numel(); ++i)
    images.data_ptr<float>()[i] = static_cast<float>(rng.normal());
  return images;
}

inline at::Tensor run(const Graph& graph, const at::Tensor& x) {
  const at::NoGradGuard no_grad;
  Executor executor(graph);
  return executor(x);
}

/// Largest difference over the largest magnitude.
inline double relative(const at::Tensor& value, const at::Tensor& reference) {
  return ((value - reference).abs().max() / reference.abs().max()).item<double>();
}

inline const SparseLayer& layer_named(const std::vector<SparseLayer>& layers, const std::string& name) {
  for (const SparseLayer& layer : layers)
    if (layer.name == name) return layer;
  throw std::runtime_error("no layer " + name);
}

/// A short recipe that learns `small_data`.
inline TrainOptions short_training(std::int64_t epochs = 3) {
  TrainOptions options{.epochs = epochs, .batch = 32, .learning_rate = 0.05, .weight_decay = 1e-4};
  options.threads = 1;
  return options;
}

}  // namespace lithe::testing_helpers
