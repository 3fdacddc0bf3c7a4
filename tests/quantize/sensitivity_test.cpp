#include "lithe/quantize/sensitivity.h"

#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "lithe/base/error.h"
#include "lithe/models/models.h"
#include "message_of.h"
#include "tests/quantize/helpers.h"

namespace lithe {
namespace {

using namespace testing_helpers;
using test::message_of;
using testing::ElementsAre;
using testing::HasSubstr;

std::vector<Layer> layers_of(const Graph& graph) {
  std::vector<Layer> layers = find_layers(graph);
  for (Layer& layer : layers) layer.weight_bits = 4;
  return layers;
}

/// The outputs of the graph, and of a copy in which one weight is quantised.
std::pair<Feeds, Feeds> float_and_quantized(const Graph& graph, Layer layer, int bits, const Feeds& feeds) {
  layer.weight_bits = bits;
  const QuantizedWeight weight = quantize_weights(graph, {layer}, {}).front();
  Graph copy = graph;
  copy.constants[weight.constant] = to_tensor_data(decode(weight.quantizer, weight.codes));
  Executor first(graph), second(copy);
  return {first.run(feeds), second.run(feeds)};
}

/// Counts what is reported.
class Counter : public Progress {
 public:
  std::int64_t done = 0, total = 0;

 protected:
  void show(const State& state, bool) override {
    done = state.done;
    total = state.total;
  }
};

TEST(Sensitivity, OfAClassifierIsTheDivergenceComputedDirectly) {
  at::set_num_threads(1);
  const Graph graph = build_resnet20({.classes = 7, .image_size = 16, .width = 0.5, .batch_norm = false});
  const auto layers = layers_of(graph);
  const at::Tensor images = random_tensor({10, 3, 16, 16}, 1);
  Counter progress;
  const auto result = measure_sensitivity(graph, layers, tensor_dataset({{"", images}}),
                                          {.bits = {2, 8}, .samples = 10, .batch = 4}, progress);
  ASSERT_EQ(result.size(), layers.size());
  EXPECT_EQ(progress.done, progress.total);
  EXPECT_EQ(progress.total, 10 * static_cast<std::int64_t>(layers.size()));
  for (const std::size_t at : {std::size_t{0}, std::size_t{7}, std::size_t{13}, layers.size() - 1}) {
    EXPECT_THAT(result[at].layers, ElementsAre(at));
    EXPECT_EQ(result[at].constant, layers[at].weight);
    EXPECT_EQ(result[at].choices.name, layers[at].name);
    for (const BitChoice& choice : result[at].choices.choices) {
      const auto [wanted, outputs] =
          float_and_quantized(graph, layers[at], choice.weight_bits, {{"input", images}});
      const at::Tensor p = at::softmax(wanted.begin()->second.to(at::kDouble), 1);
      const at::Tensor q = at::softmax(outputs.begin()->second.to(at::kDouble), 1);
      const double divergence = (p * (p / q).log()).sum(1).mean().item<double>();
      EXPECT_NEAR(choice.loss, divergence, 1e-3 * divergence + 1e-10)
          << layers[at].name << " at " << choice.weight_bits;
    }
  }
}

TEST(Sensitivity, FallsWithTheBitsInTheMean) {
  at::set_num_threads(1);
  const Graph graph =
      build_mobilenet_v2_small_images({.classes = 10, .image_size = 32, .width = 0.25, .batch_norm = false});
  Progress progress;
  const auto result =
      measure_sensitivity(graph, layers_of(graph), random_dataset({3, 3, 32, 32}, 2),
                          {.weights = {.method = RangeMethod::MinMax}, .samples = 2, .batch = 2}, progress);
  std::vector<double> mean(7, 0);
  for (const WeightSensitivity& one : result) {
    ASSERT_EQ(one.choices.choices.size(), 7u);
    for (std::size_t i = 0; i < 7; ++i) {
      EXPECT_EQ(one.choices.choices[i].weight_bits, static_cast<int>(i) + 2);
      EXPECT_GE(one.choices.choices[i].loss, 0);
      mean[i] += one.choices.choices[i].loss;
    }
  }
  for (std::size_t i = 0; i + 1 < mean.size(); ++i) EXPECT_GT(mean[i], mean[i + 1]) << i + 2;
  EXPECT_GT(mean[0], 20 * mean[4]);
}

TEST(Sensitivity, OfImagesIsTheErrorOverThePower) {
  at::set_num_threads(1);
  const Graph graph = build_unet({.image_size = 8,
                                  .base = 8,
                                  .multipliers = {1, 2},
                                  .residual_blocks = 1,
                                  .attention_sizes = {4},
                                  .groups = 4});
  const auto layers = layers_of(graph);
  const at::Tensor x = random_tensor({5, 3, 8, 8}, 3), t = at::arange(5, at::kLong) * 100;
  Progress progress;
  const auto result = measure_sensitivity(graph, layers, tensor_dataset({{"x", x}, {"t", t}}),
                                          {.bits = {3}, .samples = 5, .batch = 2}, progress);
  ASSERT_EQ(result.size(), layers.size());
  for (std::size_t at = 0; at < layers.size(); at += 5) {
    const auto [wanted, outputs] = float_and_quantized(graph, layers[at], 3, {{"x", x}, {"t", t}});
    const at::Tensor &y = wanted.begin()->second, &z = outputs.begin()->second;
    const double error = ((y - z).square().sum() / y.square().sum()).item<double>();
    EXPECT_NEAR(result[at].choices.choices[0].loss, error, 1e-3 * error + 1e-9) << layers[at].name;
  }
}

TEST(Sensitivity, SharedWeightsAreMeasuredOnceForAllReaders) {
  Graph graph;
  graph.inputs = {image("x", {-1, 4})};
  graph.outputs = {image("y", {-1, 4})};
  graph.constants["w"] = random_data({4, 4}, 4);
  graph.nodes = {make("MatMul", "a", {"x", "w"}), make("Tanh", "b", {"a"}), make("MatMul", "y", {"b", "w"})};
  const auto layers = layers_of(graph);
  ASSERT_EQ(layers.size(), 2u);
  Progress progress;
  const at::Tensor x = random_tensor({8, 4}, 5);
  const auto result =
      measure_sensitivity(graph, layers, tensor_dataset({{"", x}}),
                          {.bits = {2, 5}, .metric = SensitivityMetric::Error, .samples = 8}, progress);
  ASSERT_EQ(result.size(), 1u);
  EXPECT_THAT(result[0].layers, ElementsAre(0, 1));
  EXPECT_EQ(result[0].choices.weights, 16);
  EXPECT_EQ(result[0].choices.choices[0].bytes, packed_weight_bytes(2, 16, 4));
  EXPECT_EQ(packed_weight_bytes(3, 3, 2), 2 + 10);
  const auto [wanted, outputs] = float_and_quantized(graph, layers[0], 2, {{"x", x}});
  const at::Tensor &y = wanted.at("y"), &z = outputs.at("y");
  const double error = ((y - z).square().sum() / y.square().sum()).item<double>();
  EXPECT_NEAR(result[0].choices.choices[0].loss, error, 1e-5 * error);
}

TEST(Sensitivity, ProbabilitiesAreNotNormalisedAgain) {
  Graph graph;
  graph.inputs = {image("x", {-1, 6})};
  graph.outputs = {image("p", {-1, 5})};
  graph.constants["w"] = random_data({6, 5}, 6);
  graph.nodes = {make("MatMul", "logits", {"x", "w"}),
                 make("Softmax", "p", {"logits"}, {{"axis", std::int64_t{1}}})};
  Graph bare = graph;
  bare.nodes.pop_back();
  bare.outputs = {image("logits", {-1, 5})};
  const DatasetPtr data = random_dataset({16, 6}, 7);
  Progress progress;
  const auto loss = [&](const Graph& one) {
    return measure_sensitivity(one, layers_of(one), data, {.bits = {2}}, progress)[0].choices.choices[0].loss;
  };
  EXPECT_GT(loss(bare), 1e-3);
  EXPECT_NEAR(loss(graph), loss(bare), 1e-5 * loss(bare));
}

TEST(Sensitivity, LayersInFloatAreLeftOut) {
  const Graph graph = build_resnet20({.classes = 3, .image_size = 16, .width = 0.25, .batch_norm = false});
  auto layers = layers_of(graph);
  layers.front().weight_bits = layers.back().weight_bits = kFloatBits;
  Progress progress;
  const auto result = measure_sensitivity(graph, layers, random_dataset({2, 3, 16, 16}, 8),
                                          {.bits = {4}, .samples = 2}, progress);
  EXPECT_EQ(result.size(), layers.size() - 2);
  EXPECT_THAT(result.front().layers, ElementsAre(1));
}

TEST(Sensitivity, Errors) {
  Graph graph;
  graph.inputs = {image("x", {-1, 4})};
  graph.outputs = {image("y", {-1, 4})};
  graph.constants["w"] = random_data({4, 4}, 9);
  graph.nodes = {make("MatMul", "y", {"x", "w"})};
  const auto layers = layers_of(graph);
  const DatasetPtr data = random_dataset({4, 4}, 10);
  Progress progress;
  const auto measure = [&](const DatasetPtr& samples, const SensitivityOptions& options) {
    return [&, samples, options] { measure_sensitivity(graph, layers, samples, options, progress); };
  };
  EXPECT_THAT(message_of(measure(nullptr, {})), HasSubstr("--calib"));
  EXPECT_THAT(message_of(measure(data, {.bits = {}})), HasSubstr("no numbers of bits"));
  EXPECT_THAT(message_of(measure(data, {.bits = {4, 9}})), HasSubstr("cannot have 9 bits"));
  EXPECT_THAT(message_of(measure(data, {.samples = 0})), HasSubstr("at least 1 sample"));
  at::Tensor bad = random_tensor({4, 4}, 11);
  bad[2][1] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(message_of(measure(tensor_dataset({{"", bad}}), {})),
              HasSubstr("output 'y' is NaN or infinite"));
  Graph empty = graph;
  empty.nodes = {make("Relu", "y", {"x"})};
  EXPECT_THAT(message_of([&] { measure_sensitivity(empty, {}, data, {}, progress); }), HasSubstr("no layer"));
}

/// A logarithm that rounding drives below zero.
TEST(Sensitivity, NamesTheLayerThatBreaksTheOutput) {
  Graph graph;
  graph.inputs = {image("x", {-1, 2})};
  graph.outputs = {image("y", {-1, 2})};
  graph.constants["w"] = floats({2, 2}, {1.0F, 0.01F, -0.5F, 1.0F});
  graph.nodes = {make("MatMul", "a", {"x", "w"}), make("Log", "y", {"a"})};
  const at::Tensor x = at::tensor({1.0F, 0.0F}).reshape({1, 2});
  Progress progress;
  const std::string error = message_of([&] {
    measure_sensitivity(graph, layers_of(graph), tensor_dataset({{"", x}}), {.bits = {2}, .samples = 1},
                        progress);
  });
  EXPECT_THAT(error, HasSubstr("output 'y' is NaN or infinite when the weight of layer 'a_node' has 2 bits"));
}

}  // namespace
}  // namespace lithe
