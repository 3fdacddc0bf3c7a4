// Small networks, and data that they learn in a second.
#pragma once

#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include <string>
#include <vector>

#include "lithe/base/random.h"
#include "lithe/data/dataset.h"
#include "lithe/graph/adopt_constants.h"
#include "lithe/graph/shape_inference.h"
#include "lithe/models/builder.h"
#include "lithe/multibit/multibit.h"
#include "message_of.h"

namespace lithe::test {

struct SmallResidual {
  std::vector<std::int64_t> widths{8, 16};
  int blocks = 1;
  std::int64_t size = 8, classes = 4;
  bool norms = true, depthwise = false;
  std::uint64_t seed = 1;
};

/// A stem, residual blocks with 1x1 shortcuts where size or channels change, a head; [n, 3, size, size].
inline Graph residual_net(const SmallResidual& how = {}) {
  GraphBuilder net("residual", how.seed);
  const auto conv = [&](const std::string& name, const std::string& x, ConvOptions options) {
    options.bias = !how.norms;
    const std::string y = net.conv(name, x, options);
    return how.norms ? net.batch_norm(name + ".norm", y) : y;
  };
  std::string x = net.relu(
      "stem.relu", conv("stem", net.input("x", {-1, 3, how.size, how.size}), {.channels = how.widths[0]}));
  for (std::size_t stage = 0; stage < how.widths.size(); ++stage)
    for (int block = 0; block < how.blocks; ++block) {
      const std::string name = fmt::format("s{}.{}", stage, block);
      const std::int64_t channels = how.widths[stage], stride = stage > 0 && block == 0 ? 2 : 1;
      std::string y =
          net.relu(name + ".relu1", conv(name + ".conv1", x, {.channels = channels, .stride = stride}));
      if (how.depthwise)
        y = net.relu(name + ".relu_dw", conv(name + ".dw", y, {.channels = channels, .groups = channels}));
      y = conv(name + ".conv2", y, {.channels = channels});
      if (stride != 1 || net.channels(x) != channels)
        x = conv(name + ".shortcut", x, {.channels = channels, .kernel = 1, .stride = stride});
      x = net.relu(name + ".relu2", net.add(name + ".add", y, x));
    }
  x = net.flatten("flat", net.global_average_pool("pool", x));
  net.output("logits", net.gemm("fc", x, how.widths.back(), how.classes), {-1, how.classes});
  return net.finish();
}

/// Sorted, with constants in place and shapes inferred, as `find_body` wants it.
inline Graph prepared(Graph graph) {
  adopt_constants(graph);
  infer_shapes(graph, concrete_input_shapes(graph, {}, 1));
  return graph;
}

/// Pictures whose class decides the place of a bright patch, under noise.
inline DatasetPtr patches(std::int64_t samples, std::uint64_t seed, std::int64_t size = 8) {
  Rng rng(seed);
  at::Tensor images = at::empty({samples, 3, size, size}), labels = at::empty({samples}, at::kLong);
  float* values = images.data_ptr<float>();
  for (std::int64_t i = 0; i < images.numel(); ++i) values[i] = static_cast<float>(0.5 * rng.normal());
  for (std::int64_t i = 0; i < samples; ++i) {
    const auto label = static_cast<std::int64_t>(rng.below(4));
    labels.data_ptr<std::int64_t>()[i] = label;
    images[i]
        .narrow(1, label / 2 * (size / 2), size / 2)
        .narrow(2, label % 2 * (size / 2), size / 2)
        .add_(1.5);
  }
  return tensor_dataset({{"", images}}, labels);
}

inline TrainOptions short_training(std::int64_t epochs = 2) {
  TrainOptions options{.epochs = epochs, .batch = 32, .learning_rate = 0.05, .weight_decay = 1e-4};
  options.threads = 1;
  options.seed = 3;
  return options;
}

inline at::Tensor random_images(std::int64_t count, std::uint64_t seed, std::int64_t size = 8) {
  Rng rng(seed);
  at::Tensor images = at::empty({count, 3, size, size});
  for (std::int64_t i = 0; i < images.numel(); ++i)
    images.data_ptr<float>()[i] = static_cast<float>(rng.normal());
  return images;
}

/// A small net with started bounds and batch norms that fit, quickly trained.
inline MultibitTrained small_model(const std::vector<int>& bits, const SmallResidual& how = {},
                                   MultibitOptions options = {}, std::int64_t epochs = 1) {
  Progress silent;
  options.bits = bits;
  options.train = short_training(epochs);
  options.norm_batches = 2;
  options.from_scratch = true;
  return train_multibit(residual_net(how), patches(128, 1, how.size), options, silent);
}

}  // namespace lithe::test
