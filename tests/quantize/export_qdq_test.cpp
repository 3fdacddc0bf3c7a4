#include "lithe/quantize/export_qdq.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "helpers.h"
#include "lithe/base/error.h"

namespace lithe {
namespace {

using namespace testing_helpers;

at::Tensor numbers(const std::vector<float>& values) {
  return at::tensor(values);
}

/// The weights of the golden cases, [2, 4], as those of a product x W^T.
Graph golden_graph(std::int64_t opset = 13) {
  Graph graph;
  graph.header.opsets[""] = opset;
  graph.inputs = {image("x", {-1, 4})};
  graph.outputs = {{.name = "y", .dtype = DType::Float32}};
  graph.constants["w"] = floats({2, 4}, {0.31f, -0.52f, 0.07f, 0.94f, -0.11f, 0.02f, 0.26f, -0.33f});
  graph.nodes = {make("Gemm", "y", {"x", "w"}, {{"transB", std::int64_t{1}}})};
  return graph;
}

QdqPlan weights_only(const Graph& graph, int bits, Scheme scheme = Scheme::Asymmetric) {
  QdqPlan plan{.layers = find_layers(graph)};
  assign_bits(plan.layers, bits, kFloatBits, FirstLast::Same, {}, {});
  plan.weights = quantize_weights(graph, plan.layers, {.scheme = scheme});
  return plan;
}

const Node& maker_of(const Graph& graph, const std::string& value) {
  return graph.nodes.at(static_cast<std::size_t>(GraphIndex(graph).producer(value)));
}

TEST(ExportQdq, NibblesArePackedLowHalfFirst) {
  EXPECT_EQ(pack_nibbles(ints({-8, 7, -1, 3, 5})), (std::vector<std::uint8_t>{0x78, 0x3F, 0x05}));
  EXPECT_TRUE(pack_nibbles({}).empty());
}

TEST(ExportQdq, WeightsAreStoredLessTheirZeroPoint) {
  for (const auto& [bits, expected] :
       {std::pair{2, ints({1, -1, 0, 2, -1, 0, 1, -2})}, {4, ints({3, -5, 1, 10, -3, 1, 7, -8})}}) {
    const Graph graph = golden_graph();
    const Graph exported = export_qdq(graph, weights_only(graph, bits));
    const Node& dequantize = maker_of(exported, exported.nodes.back().input(1));
    ASSERT_EQ(dequantize.op_type, "DequantizeLinear");
    EXPECT_EQ(dequantize.attr("axis", std::int64_t{-9}), 0);
    const TensorData& codes = exported.constants.at(dequantize.input(0));
    EXPECT_EQ(codes.dtype(), DType::Int8);
    EXPECT_EQ(codes.to_ints(), expected);
    const TensorData& zeros = exported.constants.at(dequantize.input(2));
    EXPECT_EQ(zeros.dtype(), DType::Int8);
    EXPECT_EQ(zeros.to_ints(), ints({0, 0}));
    EXPECT_FALSE(exported.is_constant("w"));
  }
}

TEST(ExportQdq, FourBitStorageFromOpset21) {
  const at::Tensor x = random_tensor({3, 4}, 1);
  for (const int bits : {2, 3, 4})
    for (const Scheme scheme : {Scheme::Asymmetric, Scheme::Symmetric}) {
      const Graph graph = golden_graph(21), old = golden_graph(13);
      const QdqPlan plan = weights_only(graph, bits, scheme);
      const Graph exported = export_qdq(graph, plan);
      const Node& dequantize = maker_of(exported, exported.nodes.back().input(1));
      // 10 does not fit into int4, so the asymmetric 4-bit weights keep codes and zero-points.
      const bool keeps = bits == 4 && scheme == Scheme::Asymmetric;
      const TensorData& codes = exported.constants.at(dequantize.input(0));
      EXPECT_EQ(codes.dtype(), keeps ? DType::UInt4 : DType::Int4);
      EXPECT_EQ(codes.bytes().size(), 4u);
      if (keeps) {
        EXPECT_EQ(exported.constants.at(dequantize.input(2)).to_ints(), ints({5, 8}));
      }
      EXPECT_LE(largest_gap(run(exported, x), run(export_qdq(old, plan), x)), 1e-6);
      EXPECT_EQ(stored_bytes(bits, 8, 2, 21), 4 + 2 * 4 + 1);  // codes, scales, zero-points
      EXPECT_EQ(stored_bytes(bits, 8, 2, 13), 8 + 2 * 4 + 2);
    }
}

TEST(ExportQdq, TheFileComputesWhatTheCodesSay) {
  const Graph graph = golden_graph();
  const QdqPlan plan = weights_only(graph, 3);
  const at::Tensor x = random_tensor({3, 4}, 1);
  const at::Tensor w = decode(plan.weights[0].quantizer, plan.weights[0].codes);
  EXPECT_LE(largest_gap(run(export_qdq(graph, plan), x), at::matmul(x, w.t())), 1e-6);
}

Graph identity_layer(std::int64_t opset) {
  Graph graph;
  graph.header.opsets[""] = opset;
  graph.inputs = {image("x", {-1, 1})};
  graph.outputs = {{.name = "y", .dtype = DType::Float32}};
  graph.constants["w"] = floats({1, 1}, {1});
  graph.nodes = {make("Gemm", "y", {"x", "w"})};
  return graph;
}

QdqPlan activations_only(const Graph& graph, int bits, double scale, double zero, const CodeRange& codes,
                         bool is_signed = false) {
  QdqPlan plan{.layers = find_layers(graph)};
  assign_bits(plan.layers, kFloatBits, bits, FirstLast::Same, {}, {});
  plan.activations = {{.value = "x",
                       .bits = bits,
                       .quantizer = {.scale = at::full({}, static_cast<float>(scale)),
                                     .zero_point = at::full({}, static_cast<float>(zero)),
                                     .codes = codes},
                       .is_signed = is_signed}};
  return plan;
}

TEST(ExportQdq, LowBitActivationsAreClipped) {
  const at::Tensor x = numbers({0, 0.1f, 0.32f, 1.6f, 3.1f, 3.3f, 9}).reshape({7, 1});
  const std::vector<float> codes{0, 0, 2, 8, 15, 15, 15};
  for (const std::int64_t opset : {13, 21}) {
    const Graph graph = identity_layer(opset);
    const Graph exported = export_qdq(graph, activations_only(graph, 4, 0.2133333f, 0, {0, 15}));
    const bool has_clip = exported.nodes[0].is("Clip");
    EXPECT_EQ(has_clip, opset < 21);  // uint4 saturates by itself
    const at::Tensor got = run(exported, x).reshape({-1}) / 0.2133333;
    for (std::size_t i = 0; i < codes.size(); ++i)
      EXPECT_NEAR(got[static_cast<std::int64_t>(i)].item<float>(), codes[i], 1e-5);
  }
}

TEST(ExportQdq, ActivationsFollowTheQuantiserAtAllBitsAndSigns) {
  const at::Tensor x = random_tensor({200, 1}, 4) * 2;
  for (int bits = 2; bits <= 8; ++bits)
    for (const bool is_signed : {false, true})
      for (const std::int64_t opset : {13, 21}) {
        const Graph graph = identity_layer(opset);
        const CodeRange codes = is_signed ? symmetric_codes(bits) : asymmetric_codes(bits);
        const double scale = 4.0 / static_cast<double>(codes.high - codes.low),
                     zero = is_signed ? 0 : codes.high / 2;
        const QdqPlan plan =
            activations_only(graph, bits, scale, static_cast<double>(zero), codes, is_signed);
        Quantizer wanted = plan.activations[0].quantizer;
        if (bits == 8 && is_signed) wanted.codes.low = -128;  // where int8 itself saturates
        EXPECT_LE(largest_gap(run(export_qdq(graph, plan), x), fake_quantize(wanted, x)), 1e-5)
            << bits << is_signed << opset;
      }
}

TEST(ExportQdq, IntegerConvolutionOfTheGoldenCase) {
  Graph graph;
  graph.header.opsets[""] = 13;
  graph.inputs = {image("x", {1, 2, 1, 1})};
  graph.outputs = {{.name = "z", .dtype = DType::Float32}};
  graph.constants["w"] = floats({2, 2, 1, 1}, {0.2f, -0.1f, -0.12f, 0.04f});
  graph.constants["b"] = floats({2}, {0.123f, -0.456f});
  graph.constants["one"] = floats({1, 1, 2, 2}, {1, 0, 0, 1});
  graph.nodes = {make("Conv", "y", {"x", "w", "b"}), make("Relu", "z", {"y"})};
  QdqPlan plan{.layers = find_layers(graph)};
  assign_bits(plan.layers, 8, 8, FirstLast::Same, {}, {});
  const Quantizer w{
      .scale = numbers({0.1f, 0.04f}), .zero_point = at::zeros({2}), .codes = {-127, 127}, .axis = 0};
  plan.weights = {{.constant = "w",
                   .layers = {0},
                   .bits = 8,
                   .quantizer = w,
                   .codes = numbers({2, -1, -3, 1}).reshape({2, 2, 1, 1})}};
  plan.activations = {{.value = "x", .quantizer = {at::full({}, 0.05f), at::full({}, 3.0f), {0, 255}}},
                      {.value = "y", .quantizer = {at::full({}, 0.02f), at::full({}, 10.0f), {0, 255}}}};
  const Graph exported = export_qdq(graph, plan, {.integer_bias = true});
  const Node& conv = maker_of(exported, "y");
  const Node& bias = maker_of(exported, conv.input(2));
  ASSERT_EQ(bias.op_type, "DequantizeLinear");
  const TensorData& codes = exported.constants.at(bias.input(0));
  EXPECT_EQ(codes.dtype(), DType::Int32);
  EXPECT_EQ(codes.to_ints(), ints({25, -228}));
  EXPECT_EQ(exported.constants.at(bias.input(2)).to_ints(), ints({0, 0}));

  // x = (7, 12): what the integers 7 and 12 stand for, each half a step short of the next code.
  const at::Tensor x = numbers({(7 - 3) * 0.05f, (12 - 3) * 0.05f}).reshape({1, 2, 1, 1});
  Executor executor(exported);
  const std::string quantized = maker_of(exported, "y_dequantized").input(0);
  const Feeds out = executor.run({{"x", x}}, {"y", quantized});
  const at::Tensor y = out.at("y").reshape({-1});
  EXPECT_NEAR(y[0].item<float>(), 0.12, 1e-6);
  EXPECT_NEAR(y[1].item<float>(), -0.462, 1e-6);
  const at::Tensor z = out.at(quantized).reshape({-1}).to(at::kLong);
  EXPECT_EQ(z[0].item<std::int64_t>(), 16);
  EXPECT_EQ(z[1].item<std::int64_t>(), 0);
}

TEST(ExportQdq, BiasesThatDoNotFitRaiseTheScale) {
  EXPECT_THROW(quantize_bias(numbers({100}), 1e-3, numbers({1e-7f})), Error);
  QuantizedWeight weight{.constant = "w", .layers = {0}, .bits = 8};
  weight.quantizer = {numbers({1e-7f, 0.1f}), at::zeros({2}), {-127, 127}, 0};
  const at::Tensor values = numbers({1e-7f, 0, 0.3f, 0.1f}).reshape({2, 2});
  weight.codes = encode(weight.quantizer, values);
  const at::Tensor bias = numbers({100, 1});
  EXPECT_EQ(raise_scales(weight, values, bias, 1e-3), 1);
  EXPECT_FLOAT_EQ(weight.quantizer.scale[1].item<float>(), 0.1f);
  const at::Tensor codes = quantize_bias(bias, 1e-3, weight.quantizer.scale);
  EXPECT_LE(codes[0].item<std::int64_t>(), std::int64_t{1} << 30);
  EXPECT_NEAR(codes[0].item<double>() * 1e-3 * weight.quantizer.scale[0].item<double>(), 100, 1e-3);
  EXPECT_TRUE(at::equal(weight.codes, encode(weight.quantizer, values)));
}

TEST(ExportQdq, SharedWeightsAreStoredOnceAndFloatLayersReadTheOriginal) {
  Graph graph = golden_graph();
  graph.constants["w"] = random_data({4, 4}, 5);
  graph.nodes = {make("Gemm", "a", {"x", "w"}, {{"transB", std::int64_t{1}}}),
                 make("Gemm", "b", {"a", "w"}, {{"transB", std::int64_t{1}}}), make("Gemm", "y", {"b", "w"})};
  const Graph all = export_qdq(graph, weights_only(graph, 4));
  // Two axes, so two copies; the first serves two layers.
  EXPECT_EQ(std::count_if(all.nodes.begin(), all.nodes.end(),
                          [](const Node& node) { return node.is("DequantizeLinear"); }),
            2);
  QdqPlan plan{.layers = find_layers(graph)};
  assign_bits(plan.layers, 4, kFloatBits, FirstLast::Same, {}, {"b_node"});
  plan.weights = quantize_weights(graph, plan.layers, {});
  const Graph some = export_qdq(graph, plan);
  EXPECT_EQ(maker_of(some, "b").input(1), "w");
  EXPECT_NE(maker_of(some, "a").input(1), "w");
}

TEST(ExportQdq, OldOpsetsAreRefused) {
  const Graph graph = golden_graph(12);
  EXPECT_THROW(export_qdq(graph, weights_only(graph, 4)), Error);
}

}  // namespace
}  // namespace lithe
