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
  bool biases = false;  // besides norms
  std::uint64_t seed = 1;
};

/// A stem, residual blocks with 1x1 shortcuts where size or channels change, a head; [n, 3, size, size].
inline Graph residual_net(const SmallResidual& how = {}) {
  GraphBuilder net("residual", how.seed);
  const auto conv = [&](const std::string& name, const std::string& x, ConvOptions options) {
    options.bias = !how.norms || how.biases;
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

/// Norm and Relu in front of the convolutions; behind the second one of a block there is neither. With
/// `divided`, what the first one of a block makes is divided by a constant of every channel.
inline Graph pre_activation_net(bool divided = false) {
  GraphBuilder net("pre_activation", 5);
  constexpr std::int64_t kChannels = 8;
  std::string x = net.conv("stem", net.input("x", {-1, 3, 8, 8}), {.channels = kChannels, .bias = false});
  for (const std::string name : {"one", "two"}) {
    std::string y = net.relu(name + ".relu1", net.batch_norm(name + ".norm1", x));
    y = net.conv(name + ".conv1", y, {.channels = kChannels, .bias = false});
    y = net.relu(name + ".relu2", net.batch_norm(name + ".norm2", y));
    if (divided) {
      const std::string by = net.random(name + ".by", {kChannels, 1, 1}, 0.5, 1.5);
      y = net.node("Div", name + ".divided", {y, by});
      net.set_channels(y, kChannels);
    }
    y = net.conv(name + ".conv2", y, {.channels = kChannels, .bias = false});
    x = net.add(name + ".add", y, x);
  }
  x = net.relu("relu", net.batch_norm("norm", x));
  x = net.flatten("flat", net.global_average_pool("pool", x));
  net.output("logits", net.gemm("fc", x, kChannels, 4), {-1, 4});
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

/// A net for pictures of 8x8 with started bounds and batch norms that fit, quickly trained.
inline MultibitTrained quickly_trained(const Graph& net, const std::vector<int>& bits,
                                       MultibitOptions options = {}, std::int64_t epochs = 1,
                                       std::int64_t size = 8) {
  Progress silent;
  options.bits = bits;
  options.train = short_training(epochs);
  options.norm_batches = 2;
  options.from_scratch = true;
  return train_multibit(net, patches(128, 1, size), options, silent);
}

inline MultibitTrained small_model(const std::vector<int>& bits, const SmallResidual& how = {},
                                   MultibitOptions options = {}, std::int64_t epochs = 1) {
  return quickly_trained(residual_net(how), bits, std::move(options), epochs, how.size);
}

inline void set_scalar(Graph& graph, const std::string& name, float value) {
  ASSERT_TRUE(graph.is_constant(name)) << name;
  graph.constants[name] = TensorData::scalar(value);
}

}  // namespace lithe::test
