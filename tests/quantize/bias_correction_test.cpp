#include "lithe/quantize/bias_correction.h"

#include <gtest/gtest.h>

#include "helpers.h"
#include "lithe/data/loader.h"
#include "lithe/models/models.h"
#include "lithe/quantize/quantize.h"

namespace lithe {
namespace {

using namespace testing_helpers;

/// Largest difference of channel means of the layers' outputs between two graphs.
double mean_gap(const Graph& a, const Graph& b, const std::vector<Layer>& layers, const at::Tensor& x) {
  std::vector<std::string> values;
  for (const Layer& layer : layers) values.push_back(layer.output);
  Executor first(a), second(b);
  const std::string input = a.required_inputs().at(0)->name;
  const Feeds wanted = first.run({{input, x}}, values), got = second.run({{input, x}}, values);
  double gap = 0;
  for (const Layer& layer : layers) {
    const std::int64_t axis = layer.op == "Conv" ? 1 : wanted.at(layer.output).dim() - 1;
    const auto means = [&](const at::Tensor& y) { return y.transpose(0, axis).flatten(1).mean(1); };
    gap = std::max(gap, largest_gap(means(wanted.at(layer.output)), means(got.at(layer.output))));
  }
  return gap;
}

TEST(BiasCorrection, ChannelMeansAgreeAfterwards) {
  const Graph model = build_resnet20({.classes = 10, .image_size = 16});
  const at::Tensor x = random_tensor({24, 3, 16, 16}, 3);
  const DatasetPtr data = tensor_dataset({{"", x}});
  Progress silent;
  for (const PlacementStyle placement : {PlacementStyle::Academic, PlacementStyle::Deploy}) {
    QuantizeOptions options{.weight_bits = 3,
                            .activation_bits = 4,
                            .target = Target::OpenVino,  // whose biases stay in float
                            .placement = placement,
                            .batch = 8,
                            .report_samples = 0};
    const Quantized plain = quantize(model, data, options, silent);
    options.correct_bias = true;
    const Quantized corrected = quantize(model, data, options, silent);
    const std::vector<Layer> layers = find_layers(plain.reference);
    const double before = mean_gap(plain.reference, plain.graph, layers, x);
    const double after = mean_gap(corrected.reference, corrected.graph, layers, x);
    EXPECT_GT(before, 0.05);
    EXPECT_LT(after, 1e-3 * before);
  }
}

TEST(BiasCorrection, ReachesTheAddBehindAMatMul) {
  Graph graph;
  graph.inputs = {image("x", {-1, 6})};
  graph.outputs = {{.name = "y", .dtype = DType::Float32}};
  graph.constants["w"] = random_data({6, 5}, 1);
  graph.constants["b"] = random_data({5}, 2);
  graph.nodes = {make("MatMul", "p", {"x", "w"}), make("Add", "s", {"b", "p"}), make("Relu", "r", {"s"}),
                 make("MatMul", "q", {"r", "v"}), make("Add", "y", {"q", "b"})};
  graph.constants["v"] = random_data({5, 5}, 3);
  const at::Tensor x = random_tensor({40, 6}, 3) + 1;
  Progress silent;
  const QuantizeOptions options{.weight_bits = 2,
                                .activation_bits = kFloatBits,
                                .first_last = FirstLast::Same,
                                .correct_bias = true,
                                .batch = 16};
  const Quantized corrected = quantize(graph, tensor_dataset({{"", x}}), options, silent);
  Executor wanted(graph), got(corrected.graph);
  for (const char* value : {"s", "y"})
    EXPECT_LT(largest_gap(wanted.run({{"x", x}}, {value}).at(value).mean(0),
                          got.run({{"x", x}}, {value}).at(value).mean(0)),
              1e-5)
        << value;
  EXPECT_GT(largest_gap(wanted(x), got(x)), 1e-2);
}

TEST(BiasCorrection, GivesBiasesToLayersWithoutAndLeavesProductsAlone) {
  Graph graph;
  graph.inputs = {image("x", {-1, 4})};
  graph.outputs = {{.name = "y", .dtype = DType::Float32}};
  graph.constants["w"] = random_data({4, 4}, 1);
  graph.constants["v"] = random_data({4, 3}, 2);
  graph.nodes = {make("Gemm", "a", {"x", "w"}), make("Gemm", "b", {"a", "w"}),
                 make("MatMul", "y", {"b", "v"})};
  QdqPlan plan{.layers = find_layers(graph)};
  assign_bits(plan.layers, 2, kFloatBits, FirstLast::Same, {}, {});
  plan.weights = quantize_weights(graph, plan.layers, {});
  const Graph before = graph;
  const DatasetPtr data = tensor_dataset({{"", random_tensor({40, 4}, 3) + 1}});
  Progress silent;
  EXPECT_EQ(correct_biases(graph, plan, data, {.batch = 16, .threads = 1}, silent), 2);
  EXPECT_FALSE(plan.layers[0].bias.empty());
  EXPECT_NE(plan.layers[0].bias, plan.layers[1].bias);
  EXPECT_TRUE(plan.layers[2].bias.empty());
  const at::Tensor x = load_all(data).inputs.at("");
  EXPECT_LT(mean_gap(before, export_qdq(graph, plan), {plan.layers[0], plan.layers[1]}, x), 1e-5);
}

}  // namespace
}  // namespace lithe
