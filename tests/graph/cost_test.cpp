#include "lithe/graph/cost.h"

#include <gtest/gtest.h>

#include "lithe/graph/shape_inference.h"
#include "lithe/models/builder.h"
#include "lithe/models/models.h"
#include "tests/graph/quantized_graph.h"

namespace lithe {
namespace {

Cost cost_of(Graph graph) {
  infer_shapes(graph, concrete_input_shapes(graph));
  return measure_cost(graph);
}

// Parameters and multiply-accumulates that the reference implementations of the networks report.

TEST(Cost, ResNet18) {
  const Cost cost = cost_of(build_resnet18());
  EXPECT_EQ(cost.parameters, 11689512);
  EXPECT_NEAR(static_cast<double>(cost.macs), 1.814e9, 2e6);
  EXPECT_TRUE(cost.unknown_values.empty());
}

TEST(Cost, ResNet50) {
  const Cost cost = cost_of(build_resnet50());
  EXPECT_EQ(cost.parameters, 25557032);
  EXPECT_NEAR(static_cast<double>(cost.macs), 4.09e9, 5e6);
}

TEST(Cost, MobileNetV2) {
  const Cost cost = cost_of(build_mobilenet_v2());
  EXPECT_EQ(cost.parameters, 3504872);
  EXPECT_NEAR(static_cast<double>(cost.macs), 0.3008e9, 5e5);
}

TEST(Cost, RegNetX600M) {
  EXPECT_NEAR(static_cast<double>(cost_of(build_regnetx_600m()).macs), 0.6e9, 0.01e9);
}

TEST(Cost, DeitTiny) {
  const Cost cost = cost_of(build_vit());
  EXPECT_EQ(cost.parameters, 5717416);
  EXPECT_NEAR(static_cast<double>(cost.macs), 1.258e9, 5e6);
}

TEST(Cost, QuantisersChangeNothing) {
  const Graph plain = build_resnet20({.classes = 10, .image_size = 32, .batch_norm = false});
  const Cost before = cost_of(plain), after = cost_of(test::with_quantizers(plain));
  EXPECT_EQ(before.parameters, after.parameters);
  EXPECT_EQ(before.macs, after.macs);
}

TEST(Cost, MacsOfSingleOperators) {
  GraphBuilder net("ops", 0);
  const std::string x = net.input("x", {2, 8, 10, 10});
  net.random("up.weight", {8, 6, 4, 4}, 1);
  net.node("ConvTranspose", "up", {x, "up.weight"},
           {{"strides", std::vector<std::int64_t>{2, 2}}, {"pads", std::vector<std::int64_t>{1, 1, 1, 1}}});
  const std::string rows = net.reshape("rows", x, {2, 8, 100});
  net.node("Einsum", "scores", {rows, rows}, {{"equation", std::string("bci,bdi->bcd")}});
  net.output("a", "up", {2, 6, 20, 20});
  net.output("b", "scores", {2, 8, 8});
  const Cost cost = cost_of(net.finish());
  EXPECT_EQ(cost.node_macs[0], 2 * 8 * 100 * 6 * 16);
  EXPECT_EQ(cost.node_macs[2], 2 * 8 * 8 * 100);
}

TEST(Cost, PeakMemoryFreesAfterTheLastReader) {
  GraphBuilder net("chain", 0);
  std::string x = net.input("x", {1, 4, 8, 8});
  const std::string first = net.relu("first", x);
  const std::string second = net.relu("second", first);
  const std::string flat = net.reshape("flat", second, {1, 256});
  const std::string third = net.relu("third", flat);
  net.output("y", net.node("Add", "sum", {third, flat}), {1, 256});
  const Cost cost = cost_of(net.finish());
  const std::int64_t bytes = 4 * 64 * 4;
  EXPECT_EQ(cost.activation_sum_bytes, 5 * bytes);   // x, first, second, third, y; flat shares
  EXPECT_EQ(cost.activation_peak_bytes, 3 * bytes);  // second, third, y
}

TEST(Cost, CountsFunctionsThroughTheirBodies) {
  Graph graph;
  graph.header.opsets = {{"", 17}, {"lithe", 1}};
  graph.inputs = {{.name = "x", .dtype = DType::Float32, .shape = DimVector{{5, ""}, {7, ""}}}};
  graph.constants["w"] = TensorData::from<float>({7, 3}, std::vector<float>(21));
  Function function{.name = "Product", .domain = "lithe", .inputs = {"a", "b"}, .outputs = {"c"}};
  function.opsets[""] = 17;
  function.nodes = {{.op_type = "MatMul", .inputs = {"a", "b"}, .outputs = {"c"}}};
  graph.header.functions = {function};
  graph.nodes = {
      {.name = "p", .op_type = "Product", .domain = "lithe", .inputs = {"x", "w"}, .outputs = {"y"}}};
  graph.outputs = {{.name = "y"}};
  EXPECT_EQ(cost_of(graph).macs, 5 * 7 * 3);
}

}  // namespace
}  // namespace lithe
