// Small networks and data that they can learn.
#pragma once

#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include <string>
#include <vector>

#include "lithe/base/error.h"
#include "lithe/data/dataset.h"
#include "lithe/models/builder.h"
#include "lithe/train/initialise.h"
#include "lithe/train/train.h"
#include "message_of.h"

namespace lithe::test {

/// Two convolutions with batch norm, global average pool, a linear layer: [n, 2, 8, 8] -> [n, 4].
inline Graph small_net(std::uint64_t seed = 1, bool dropout = false) {
  GraphBuilder net("small", seed);
  std::string x = net.input("image", {-1, 2, 8, 8});
  x = net.relu("relu1", net.batch_norm("bn1", net.conv("conv1", x, {.channels = 6, .bias = false})));
  x = net.relu("relu2",
               net.batch_norm("bn2", net.conv("conv2", x, {.channels = 8, .stride = 2, .bias = false})));
  x = net.flatten("flat", net.global_average_pool("pool", x));
  if (dropout) x = net.node("Dropout", "drop", {x, net.scalar("ratio", 0.3f)});
  net.output("logits", net.gemm("fc", x, 8, 4), {-1, 4});
  Graph graph = net.finish();
  initialise(graph, seed);
  return graph;
}

/// Noisy images of four classes: a bright quarter each.
inline DatasetPtr quarters(std::int64_t count, std::uint64_t seed = 5, double noise = 0.5) {
  Rng rng(seed);
  at::Tensor images = at::zeros({count, 2, 8, 8});
  std::vector<std::int64_t> labels;
  float* values = images.data_ptr<float>();
  for (std::int64_t i = 0; i < images.numel(); ++i) values[i] = static_cast<float>(noise * rng.normal());
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t label = i % 4;
    labels.push_back(label);
    images[i].narrow(1, label / 2 * 4, 4).narrow(2, label % 2 * 4, 4).add_(label % 2 == 0 ? 1.0 : 2.0);
  }
  return tensor_dataset({{"", images}}, at::tensor(labels, at::kLong));
}

inline TrainOptions quick(std::int64_t epochs = 2) {
  TrainOptions options{.epochs = epochs, .batch = 16, .learning_rate = 0.05, .weight_decay = 1e-4};
  options.threads = 1;
  return options;
}

inline std::vector<float> values_of(const Graph& graph, const std::string& name) {
  return graph.constants.at(name).to_floats();
}

/// Names of the constants in which the graphs differ by a bit or more.
inline std::vector<std::string> differing(const Graph& a, const Graph& b) {
  std::vector<std::string> names;
  for (const auto& [name, data] : a.constants) {
    const auto& other = b.constants.at(name);
    if (!std::equal(data.bytes().begin(), data.bytes().end(), other.bytes().begin(), other.bytes().end()))
      names.push_back(name);
  }
  return names;
}

inline void expect_contains(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << text;
}

}  // namespace lithe::test
