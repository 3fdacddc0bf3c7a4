#include "lithe/quantize/equalization.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "helpers.h"
#include "lithe/models/models.h"
#include "lithe/ops/registry.h"
#include "lithe/quantize/fold_batch_norm.h"

namespace lithe {
namespace {

using namespace testing_helpers;

at::Tensor weight_of(const Graph& graph, std::size_t node) {
  return to_tensor(graph.constants.at(graph.nodes[node].input(1)));
}

/// x -> Conv 1x1 -> act -> depthwise 3x3 -> act -> Conv 1x1 -> y, with channels of very different ranges.
Graph triple(const std::string& activation) {
  Graph graph;
  graph.inputs = {image("x", {-1, 4, 6, 6})};
  graph.outputs = {{.name = "y", .dtype = DType::Float32}};
  const at::Tensor spread = at::exp(random_tensor({6, 1, 1, 1}, 1) * 2);
  graph.constants["w1"] = to_tensor_data(random_tensor({6, 4, 1, 1}, 2) * spread);
  graph.constants["b1"] = random_data({6}, 3);
  graph.constants["w2"] = to_tensor_data(random_tensor({6, 1, 3, 3}, 4) / spread);
  graph.constants["w3"] = random_data({5, 6, 1, 1}, 5);
  graph.constants["zero"] = floats({}, {0});
  graph.constants["six"] = floats({}, {6});
  const auto act = [&](const std::string& output, const std::string& input) {
    return activation == "Clip" ? make("Clip", output, {input, "zero", "six"})
                                : make(activation, output, {input});
  };
  graph.nodes = {make("Conv", "c1", {"x", "w1", "b1"}), act("a1", "c1"),
                 make("Conv", "c2", {"a1", "w2"}, {{"group", std::int64_t{6}}, {"pads", ints({1, 1, 1, 1})}}),
                 act("a2", "c2"), make("Conv", "y", {"a2", "w3"})};
  return graph;
}

TEST(Equalization, DepthwiseTripleGetsEqualRangesAndComputesTheSame) {
  for (const char* activation : {"Relu", "LeakyRelu", "Clip"}) {
    const Graph before = triple(activation);
    Graph after = before;
    const EqualizationReport report = equalize(after);
    EXPECT_EQ(report.pairs, 2);
    EXPECT_EQ(report.clips_split, std::string(activation) == "Clip" ? 2 : 0);
    const at::Tensor x = random_tensor({4, 4, 6, 6}, 9) * 3, wanted = run(before, x);
    EXPECT_LE(largest_gap(wanted, run(after, x)), 1e-4 * wanted.abs().max().item<double>());
    // The ranges of a channel in the three layers agree, at the cube root of their old product.
    const at::Tensor r1 = to_tensor(after.constants.at("w1")).abs().amax(at::IntArrayRef{1, 2, 3});
    const at::Tensor r2 = to_tensor(after.constants.at("w2")).abs().amax(at::IntArrayRef{1, 2, 3});
    const at::Tensor r3 = to_tensor(after.constants.at("w3")).abs().amax(at::IntArrayRef{0, 2, 3});
    const at::Tensor old = to_tensor(before.constants.at("w1")).abs().amax(at::IntArrayRef{1, 2, 3}) *
                           to_tensor(before.constants.at("w2")).abs().amax(at::IntArrayRef{1, 2, 3}) *
                           to_tensor(before.constants.at("w3")).abs().amax(at::IntArrayRef{0, 2, 3});
    EXPECT_LE(((r1 / old.pow(1.0 / 3)) - 1).abs().max().item<double>(), 0.02);
    EXPECT_LE(((r2 / r1) - 1).abs().max().item<double>(), 0.02);
    EXPECT_LE(((r3 / r2) - 1).abs().max().item<double>(), 0.02);
  }
}

TEST(Equalization, NewNodesHaveNamesOfTheirOwnEvenAmongUnnamedOnes) {
  Graph graph = triple("Clip");
  for (Node& node : graph.nodes) node.name.clear();
  ASSERT_EQ(equalize(graph).clips_split, 2);
  std::set<std::string> names;
  for (const Node& node : graph.nodes) {
    if (node.name.empty()) continue;
    EXPECT_TRUE(names.insert(node.name).second) << node.name;
  }
  EXPECT_EQ(names.size(), 2u);
}

TEST(Equalization, PairHasTheClosedFormOfThePaper) {
  Graph graph;
  graph.inputs = {image("x", {1, 1, 1, 1})};
  graph.outputs = {{.name = "y", .dtype = DType::Float32}};
  graph.constants["w1"] = floats({2, 1, 1, 1}, {8, 0.5f});
  graph.constants["b1"] = floats({2}, {4, 1});
  graph.constants["w2"] = floats({1, 2, 1, 1}, {0.5f, 2});
  graph.nodes = {make("Conv", "c", {"x", "w1", "b1"}), make("Relu", "r", {"c"}),
                 make("Conv", "y", {"r", "w2"})};
  equalize(graph);
  // s = sqrt(r1 / r2) = 4 and 1/2.
  EXPECT_EQ(graph.constants.at("w1").to_floats(), (std::vector<float>{2, 1}));
  EXPECT_EQ(graph.constants.at("b1").to_floats(), (std::vector<float>{1, 2}));
  EXPECT_EQ(graph.constants.at("w2").to_floats(), (std::vector<float>{2, 1}));
}

TEST(Equalization, BranchesAndOtherActivationsAreLeftAlone) {
  Graph branch = triple("Relu");
  branch.nodes.push_back(make("Conv", "z", {"a2", "w3"}));
  branch.nodes.push_back(make("Conv", "u", {"a1", "w3"}));
  branch.outputs.push_back({.name = "z", .dtype = DType::Float32});
  branch.outputs.push_back({.name = "u", .dtype = DType::Float32});
  EXPECT_EQ(equalize(branch).pairs, 0);
  Graph smooth = triple("Sigmoid");
  EXPECT_EQ(equalize(smooth).pairs, 0);
}

TEST(Equalization, DeadChannelsAreKept) {
  Graph graph = triple("Relu");
  std::vector<float> values = graph.constants.at("w1").to_floats();
  std::fill(values.begin(), values.begin() + 4, 0.0f);
  graph.constants["w1"] = floats({6, 4, 1, 1}, values);
  const at::Tensor x = random_tensor({2, 4, 6, 6}, 9), wanted = run(graph, x);
  equalize(graph);
  EXPECT_TRUE(at::isfinite(weight_of(graph, 0)).all().item<bool>());
  EXPECT_LE(largest_gap(wanted, run(graph, x)), 1e-4 * wanted.abs().max().item<double>());
}

TEST(Equalization, MobileNetKeepsItsOutput) {
  Graph graph = build_mobilenet_v2({.classes = 10, .image_size = 32, .width = 0.25});
  fold_batch_norm(graph);
  const at::Tensor x = random_tensor({2, 3, 32, 32}, 5), before = run(graph, x);
  const EqualizationReport report = equalize(graph);
  EXPECT_GE(report.pairs, 34);
  EXPECT_LE(largest_gap(before, run(graph, x)), 1e-3 * before.abs().max().item<double>());
}

}  // namespace
}  // namespace lithe
