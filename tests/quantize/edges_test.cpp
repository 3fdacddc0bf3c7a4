// Corners that real models have: channels of zeros, ReLU6, batches that stay symbols.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "helpers.h"
#include "lithe/graph/onnx.h"
#include "lithe/models/models.h"
#include "lithe/quantize/quantize.h"
#include "message_of.h"

namespace lithe {
namespace {

using namespace testing_helpers;

TEST(QuantizeEdges, ChannelsOfZerosGetScaleOne) {
  Graph graph;
  graph.header.opsets[""] = 13;
  graph.inputs = {image("x", {-1, 2, 4, 4})};
  graph.constants["w"] = floats({3, 2, 1, 1}, {0.5f, -0.25f, 0, 0, 0.125f, 1});
  graph.nodes = {make("Conv", "y", {"x", "w"}, {{"kernel_shape", ints({1, 1})}})};
  graph.outputs = {image("y", {-1, 3, 4, 4})};
  for (const RangeMethod method : {RangeMethod::MinMax, RangeMethod::Mse})
    for (const int bits : {2, 4, 8}) {
      auto layers = find_layers(graph);
      layers.at(0).weight_bits = bits;
      const auto weights = quantize_weights(graph, layers, {.method = method});
      ASSERT_EQ(weights.size(), 1u);
      const at::Tensor& scale = weights[0].quantizer.scale;
      EXPECT_EQ(scale[1].item<float>(), 1);
      EXPECT_NE(scale[0].item<float>(), 1);
      EXPECT_EQ(decode(weights[0].quantizer, weights[0].codes)[1].abs().max().item<float>(), 0);
    }
}

TEST(QuantizeEdges, WhatReluSixFeedsNeverPassesSix) {
  // Inputs of 40 times the usual size drive the clipped values against their bound.
  const Graph graph = build_mobilenet_v2({.classes = 4, .image_size = 32, .width = 0.25});
  const DatasetPtr data = tensor_dataset({{"", random_tensor({8, 3, 32, 32}, 5) * 40}});
  Progress silent;
  for (const QuantizeMethod method : {QuantizeMethod::MinMax, QuantizeMethod::Mse})
    for (const int bits : {4, 8}) {
      const Quantized quantized = quantize(
          graph, data, {.method = method, .activation_bits = bits, .batch = 8, .threads = 1}, silent);
      int at_bound = 0;
      for (const ActivationResult& one : quantized.activations) {
        const GraphIndex index(quantized.reference);
        const int maker = index.producer(one.value);
        if (maker < 0 || !quantized.reference.nodes[static_cast<std::size_t>(maker)].is("Clip")) continue;
        EXPECT_LE(one.range_high, 6 * (1 + 1e-6)) << one.value;
        EXPECT_EQ(one.range_low, 0) << one.value;
        at_bound += one.range_high > 5.5 ? 1 : 0;
      }
      EXPECT_GT(at_bound, 0);
    }
}

TEST(QuantizeEdges, SymbolicBatchesSurvive) {
  const Graph graph = build_resnet20({.classes = 4, .image_size = 16, .width = 0.25});
  ASSERT_EQ(format_type(graph.inputs[0]), "float32 [batch, 3, 16, 16]");
  const DatasetPtr data = random_dataset({8, 3, 16, 16}, 3);
  Progress silent;
  for (const Profile profile : {Profile::Int8, Profile::Exact}) {
    const Quantized quantized = quantize(graph, data, {.profile = profile, .batch = 8, .threads = 1}, silent);
    const std::string bytes = serialize_onnx(quantized.graph);
    const Graph read = parse_onnx(std::as_bytes(std::span<const char>(bytes)), "written");
    EXPECT_EQ(format_type(read.inputs[0]), format_type(graph.inputs[0]));
    EXPECT_EQ(format_type(read.outputs[0]), format_type(graph.outputs[0]));
    for (const std::int64_t batch : {1, 3})
      EXPECT_EQ(run(read, random_tensor({batch, 3, 16, 16}, 4)).size(0), batch);
  }
}

// Exporters bake the batch of the example into constants.
TEST(QuantizeEdges, ABakedBatchIsNamedInOneLine) {
  for (const std::int64_t baked : {2, 5}) {
    Graph graph;
    graph.header.opsets[""] = 13;
    graph.inputs = {image("x", {-1, 6})};
    graph.outputs = {image("y", {-1, 3})};
    graph.constants["token"] = random_data({baked, 2}, 1);
    graph.constants["w"] = random_data({8, 3}, 2);
    graph.nodes = {make("Concat", "c", {"token", "x"}, {{"axis", std::int64_t{1}}}),
                   make("MatMul", "y", {"c", "w"})};
    const DatasetPtr data = random_dataset({10, 6}, 3);
    Progress silent;
    EXPECT_THAT(test::message_of([&] { quantize(graph, data, {.batch = 4}, silent); }),
                testing::HasSubstr(fmt::format("give --batch {} ", baked)));
    EXPECT_EQ(quantize(graph, data, {.batch = baked}, silent).samples, 10);
  }
}

}  // namespace
}  // namespace lithe
