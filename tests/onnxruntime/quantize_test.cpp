// Every kind of file that quantisation writes runs in stock ONNX Runtime and agrees with the engine.
//
// The engine computes layers in float on dequantised values; ONNX Runtime, when it may rewrite the graph, in
// integers. Both are exact up to float rounding, so codes differ only where a number falls on the border
// between two of them, and then by one. Without rewriting, ONNX Runtime computes as the engine does. What is
// asserted:
//  - weights only: no rounding at run time, agreement to 1e-4 of the largest output;
//  - with activations: end to end, the difference is no larger than the noise of quantisation itself.
// That each single value has the right codes is asserted in quantized_test.cpp.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "lithe/base/file.h"
#include "lithe/base/random.h"
#include "lithe/data/dataset.h"
#include "lithe/engine/executor.h"
#include "lithe/engine/onnxruntime.h"
#include "lithe/graph/onnx.h"
#include "lithe/metrics/metrics.h"
#include "lithe/models/models.h"
#include "lithe/quantize/export_qdq.h"
#include "lithe/quantize/quantize.h"
#include "onnxruntime/need.h"

namespace lithe {
namespace {

at::Tensor images(std::int64_t count, std::int64_t size, std::uint64_t seed) {
  Rng rng(seed);
  at::Tensor x = at::empty({count, 3, size, size}, at::kFloat);
  float* first = x.data_ptr<float>();
  for (std::int64_t i = 0; i < x.numel(); ++i) first[i] = static_cast<float>(rng.normal());
  return x;
}

struct Agreement {
  double largest = 0;       // difference over the largest output
  double runtime_db = 0;    // ONNX Runtime against the engine, same file
  double quantized_db = 0;  // the engine on the file against the float network
};

Agreement compare(const Graph& graph, std::int64_t size, const QuantizeOptions& options,
                  const char* optimization = "all") {
  Progress silent;
  const at::NoGradGuard no_grad;
  const Quantized quantized = quantize(graph, tensor_dataset({{"", images(16, size, 1)}}), options, silent);
  const TemporaryFolder folder;
  const auto path = folder.path() / "quantized.onnx";
  write_onnx(quantized.graph, path);
  OnnxRuntime runtime(path, {.optimization = optimization});
  Executor engine(quantized.graph), original(graph);
  const std::string input = graph.required_inputs().at(0)->name, output = graph.outputs.at(0).name;
  const Feeds feeds{{input, images(16, size, 2)}};
  const at::Tensor theirs = runtime.run(feeds).at(output), ours = engine.run(feeds).at(output),
                   exact = original.run(feeds).at(output);
  return {(theirs - ours).abs().max().item<double>() / ours.abs().max().item<double>(), sqnr_db(ours, theirs),
          sqnr_db(exact, ours)};
}

// End to end, one code that falls on the other side of an edge changes all that follow, so the difference is
// bounded by the noise of quantisation; saturating kernels exceed it by far.
void expect_agreement(const Agreement& found) {
  EXPECT_GT(found.runtime_db, std::min(found.quantized_db - 3, 25.0));
}

Graph residual() {
  return build_resnet20({.classes = 10, .image_size = 16});
}
Graph mobile() {
  return build_mobilenet_v2({.classes = 10, .image_size = 32, .width = 0.25});
}

TEST(QuantizedFiles, WeightsOnlyAtAllBitsAndContainers) {
  LITHE_NEED_ONNX_RUNTIME();
  for (const std::int64_t opset : {17, 21})
    for (const int bits : {2, 3, 4, 8})
      EXPECT_LT(compare(residual(), 16, {.weight_bits = bits, .activation_bits = kFloatBits, .opset = opset})
                    .largest,
                1e-4)
          << opset << " " << bits;
}

TEST(QuantizedFiles, IntegerProfileOfEveryTarget) {
  LITHE_NEED_ONNX_RUNTIME();
  // Full 8-bit weights, the default for other targets, would saturate here on x86 without VNNI.
  // Biases for TensorRT are in float, which ONNX Runtime would round to integers if it may rewrite the file.
  for (const Target target : {Target::OnnxRuntime, Target::TensorRt, Target::OpenVino})
    for (const Graph& graph : {residual(), mobile()})
      expect_agreement(compare(graph, graph.inputs[0].shape->back().value,
                               {.target = target, .reduce_range = ReduceRange::All},
                               target == Target::TensorRt ? "disabled" : "all"));
}

TEST(QuantizedFiles, IntegerProfileWithFewWeightBits) {
  LITHE_NEED_ONNX_RUNTIME();
  for (const int bits : {4, 2})
    expect_agreement(compare(residual(), 16, {.weight_bits = bits, .profile = Profile::Int8}));
}

TEST(QuantizedFiles, ExactProfileOfFewActivationBits) {
  LITHE_NEED_ONNX_RUNTIME();
  for (const std::int64_t opset : {17, 21})
    for (const int bits : {4, 3, 6})
      for (const PlacementStyle placement : {PlacementStyle::Academic, PlacementStyle::Deploy})
        expect_agreement(
            compare(residual(), 16,
                    {.weight_bits = bits, .activation_bits = bits, .placement = placement, .opset = opset}));
}

TEST(QuantizedFiles, EqualisedAndCorrected) {
  LITHE_NEED_ONNX_RUNTIME();
  expect_agreement(compare(mobile(), 32, {.equalize = true, .correct_bias = true}));
}

TEST(QuantizedFiles, TransformersAndSuperResolution) {
  LITHE_NEED_ONNX_RUNTIME();
  const Graph vit =
      build_vit({.image_size = 16, .patch = 4, .dim = 32, .depth = 2, .heads = 2, .classes = 10});
  expect_agreement(compare(vit, 16, {}));
  expect_agreement(compare(vit, 16, {.placement = PlacementStyle::Academic}));
  expect_agreement(compare(vit, 16, {.attention_bits = 8}));
  for (const std::int64_t opset : {17, 21})
    expect_agreement(
        compare(vit, 16, {.weight_bits = 4, .activation_bits = 4, .attention_bits = 6, .opset = opset}));
  expect_agreement(compare(build_edsr({.channels = 8, .blocks = 2, .image_size = 16}), 16, {}));
}

TEST(QuantizedFiles, WithoutRewritingTheRuntimeComputesAsTheEngine) {
  LITHE_NEED_ONNX_RUNTIME();
  const Agreement found = compare(residual(), 16, {}, "disabled");
  EXPECT_GT(found.runtime_db, 30);
}

/// One quantised convolution: here the integers themselves can be compared. Weights have 7 bits, so that no
/// processor saturates.
TEST(QuantizedFiles, IntegersOfAConvolutionAreEqual) {
  LITHE_NEED_ONNX_RUNTIME();
  // Scales are powers of two and inputs multiples of them, so that float arithmetic is exact.
  Graph graph;
  graph.header.opsets[""] = 13;
  graph.inputs = {{.name = "x", .dtype = DType::Float32, .shape = DimVector{{1}, {2}, {5}, {5}}}};
  graph.outputs = {{.name = "y", .dtype = DType::Float32}};
  Rng rng(3);
  std::vector<float> weights(3 * 2 * 3 * 3), bias{0.5f, -1.25f, 3};
  for (float& w : weights) w = (static_cast<float>(rng.below(127)) - 63) / 64;
  graph.constants["w"] = TensorData::from<float>({3, 2, 3, 3}, weights);
  graph.constants["b"] = TensorData::from<float>({3}, bias);
  Node conv{.name = "conv", .op_type = "Conv", .inputs = {"x", "w", "b"}, .outputs = {"c"}};
  Node relu{.name = "relu", .op_type = "Relu", .inputs = {"c"}, .outputs = {"r"}};
  Node neg{.name = "neg", .op_type = "Neg", .inputs = {"r"}, .outputs = {"y"}};
  graph.nodes = {conv, relu, neg};
  QdqPlan plan{.layers = find_layers(graph)};
  assign_bits(plan.layers, 8, 8, FirstLast::Same, {}, {});
  const auto scalar = [](double v) { return at::full({}, static_cast<float>(v)); };
  const Quantizer w{
      .scale = at::full({3}, 1.0f / 64), .zero_point = at::zeros({3}), .codes = {-127, 127}, .axis = 0};
  plan.weights = {{.constant = "w", .layers = {0}, .bits = 8, .quantizer = w, .codes = {}}};
  plan.weights[0].codes = encode(w, at::tensor(weights).reshape({3, 2, 3, 3}));
  plan.activations = {{.value = "x", .quantizer = {scalar(1.0 / 32), scalar(100), {0, 255}}},
                      {.value = "r", .quantizer = {scalar(0.25), scalar(0), {0, 255}}}};
  Graph exported = export_qdq(graph, plan, {.integer_bias = true});
  exported.outputs.push_back({.name = "r_quantized", .dtype = DType::UInt8});
  const TemporaryFolder folder;
  write_onnx(exported, folder.path() / "conv.onnx");
  at::Tensor x = at::empty({1, 2, 5, 5});
  for (std::int64_t i = 0; i < x.numel(); ++i)
    x.data_ptr<float>()[i] = (static_cast<float>(rng.below(256)) - 100) / 32;
  Executor engine(exported);
  const at::Tensor ours = engine.run({{"x", x}}).at("r_quantized");
  for (const char* optimization : {"all", "disabled"}) {
    OnnxRuntime runtime(folder.path() / "conv.onnx", {.optimization = optimization});
    EXPECT_TRUE(at::equal(runtime.run({{"x", x}}).at("r_quantized").to(at::kLong), ours.to(at::kLong)))
        << optimization;
  }
  EXPECT_GT(ours.max().item<int>(), 0);
}

}  // namespace
}  // namespace lithe
