#include "lithe/quantize/fold_batch_norm.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "helpers.h"
#include "lithe/models/models.h"
#include "lithe/ops/registry.h"

namespace lithe {
namespace {

using namespace testing_helpers;

Graph one_input(const std::vector<std::int64_t>& shape, const std::string& output) {
  Graph graph;
  graph.inputs = {image("x", shape)};
  graph.outputs = {{.name = output, .dtype = DType::Float32}};
  return graph;
}

void add_batch_norm(Graph& graph, const std::string& output, const std::string& input, std::int64_t channels,
                    std::uint64_t seed) {
  graph.constants[output + ".gamma"] = random_data({channels}, seed);  // some are negative
  graph.constants[output + ".beta"] = random_data({channels}, seed + 1);
  graph.constants[output + ".mean"] = random_data({channels}, seed + 2);
  graph.constants[output + ".var"] = to_tensor_data(random_tensor({channels}, seed + 3).abs().add(0.1));
  graph.nodes.push_back(
      make("BatchNormalization", output,
           {input, output + ".gamma", output + ".beta", output + ".mean", output + ".var"}));
}

TEST(FoldBatchNorm, GoldenNumbers) {
  Graph graph = one_input({1, 1, 1, 1}, "y");
  graph.constants["w"] = floats({2, 1, 1, 1}, {0.5f, -1.25f});
  graph.constants["b"] = floats({2}, {0.1f, -0.2f});
  graph.constants["gamma"] = floats({2}, {1.5f, 0.8f});
  graph.constants["beta"] = floats({2}, {0.05f, -0.3f});
  graph.constants["mean"] = floats({2}, {0.2f, -0.6f});
  graph.constants["var"] = floats({2}, {0.25f, 4});
  graph.nodes = {make("Conv", "c", {"x", "w", "b"}),
                 make("BatchNormalization", "y", {"c", "gamma", "beta", "mean", "var"})};
  const FoldReport report = fold_batch_norm(graph);
  EXPECT_EQ(report.folded, 1);
  ASSERT_EQ(graph.nodes.size(), 1u);
  const auto w = graph.constants.at(graph.nodes[0].input(1)).to_floats();
  const auto b = graph.constants.at(graph.nodes[0].input(2)).to_floats();
  EXPECT_NEAR(w[0], 1.499969959, 1e-6);
  EXPECT_NEAR(w[1], -0.499999404, 1e-6);
  EXPECT_NEAR(b[0], -0.249993980, 1e-6);
  EXPECT_NEAR(b[1], -0.140000194, 1e-6);
  const at::Tensor y = run(graph, at::full({1, 1, 1, 1}, 2.0)).reshape({-1});
  EXPECT_NEAR(y[0].item<float>(), 2.7499461, 1e-5);
  EXPECT_NEAR(y[1].item<float>(), -1.1399990, 1e-5);
}

/// Folds, expects so many nodes to be left, and equal results.
void expect_folds(const Graph& graph, const at::Tensor& x, std::size_t nodes_left) {
  Graph folded = graph;
  fold_batch_norm(folded);
  EXPECT_EQ(folded.nodes.size(), nodes_left);
  const at::Tensor before = run(graph, x), after = run(folded, x);
  EXPECT_LE(largest_gap(before, after), 1e-4 * before.abs().max().item<double>());
}

TEST(FoldBatchNorm, ChainsBehindConvolutions) {
  Graph graph = one_input({-1, 4, 6, 6}, "y");
  graph.constants["w"] = random_data({8, 2, 3, 3}, 1);
  graph.constants["scale"] = random_data({1, 8, 1, 1}, 2);
  graph.constants["shift"] = random_data({8, 1, 1}, 3);
  graph.constants["half"] = floats({}, {0.5f});
  graph.nodes = {make("Conv", "c", {"x", "w"}, {{"group", std::int64_t{2}}})};
  add_batch_norm(graph, "n", "c", 8, 4);
  graph.nodes.push_back(make("Mul", "m", {"scale", "n"}));
  graph.nodes.push_back(make("Add", "a", {"m", "shift"}));
  graph.nodes.push_back(make("Sub", "s", {"half", "a"}));
  graph.nodes.push_back(make("Div", "y", {"s", "half"}));
  expect_folds(graph, random_tensor({2, 4, 6, 6}, 5), 1);
}

TEST(FoldBatchNorm, TransposedConvolutionsWithAndWithoutGroups) {
  for (const std::int64_t groups : {1, 2}) {
    Graph graph = one_input({-1, 4, 5, 5}, "y");
    graph.constants["w"] = random_data({4, 3, 3, 3}, 1);
    graph.nodes = {make("ConvTranspose", "c", {"x", "w"}, {{"group", groups}})};
    add_batch_norm(graph, "y", "c", 3 * groups, 4);
    expect_folds(graph, random_tensor({2, 4, 5, 5}, 5), 1);
  }
}

TEST(FoldBatchNorm, MatricesOfEitherLayout) {
  for (const std::int64_t transposed : {0, 1}) {
    Graph graph = one_input({-1, 4}, "y");
    graph.constants["w"] = random_data(transposed ? ints({6, 4}) : ints({4, 6}), 1);
    graph.constants["b"] = random_data({6}, 2);
    graph.constants["k"] = random_data({6}, 3);
    graph.nodes = {make("Gemm", "g", {"x", "w", "b"}, {{"transB", transposed}})};
    add_batch_norm(graph, "n", "g", 6, 4);
    graph.nodes.push_back(make("Mul", "y", {"n", "k"}));
    expect_folds(graph, random_tensor({3, 4}, 5), 1);
  }
  Graph product = one_input({-1, 5, 4}, "y");
  product.constants["w"] = random_data({4, 6}, 1);
  product.constants["k"] = random_data({6}, 3);
  product.nodes = {make("MatMul", "g", {"x", "w"}), make("Mul", "m", {"g", "k"}),
                   make("Add", "y", {"m", "k"})};
  expect_folds(product, random_tensor({2, 5, 4}, 5), 2);  // the sum stays
}

TEST(FoldBatchNorm, WhatCannotBeFoldedStaysAndIsNamed) {
  Graph graph = one_input({-1, 4, 6, 6}, "y");
  graph.constants["w"] = random_data({4, 4, 1, 1}, 1);
  add_batch_norm(graph, "first", "x", 4, 10);
  graph.nodes.push_back(make("Conv", "c", {"first", "w"}));
  add_batch_norm(graph, "n", "c", 4, 20);
  graph.nodes.push_back(make("Add", "s", {"n", "c"}));  // reads the convolution too
  graph.nodes.push_back(make("Relu", "r", {"s"}));
  add_batch_norm(graph, "y", "r", 4, 30);
  const Graph before = graph;
  const FoldReport report = fold_batch_norm(graph);
  EXPECT_EQ(report.folded, 0);
  EXPECT_EQ(graph.nodes.size(), before.nodes.size());
  EXPECT_THAT(report.left, testing::UnorderedElementsAre(testing::HasSubstr("graph input"),
                                                         testing::HasSubstr("others read the output"),
                                                         testing::HasSubstr("follows a Relu")));
}

TEST(FoldBatchNorm, ConstantsThatAreNotPerChannelStay) {
  Graph graph = one_input({-1, 4, 4, 4}, "y");
  graph.constants["w"] = random_data({4, 4, 1, 1}, 1);
  graph.constants["along_width"] = random_data({4}, 2);  // as long as there are channels, but along the width
  graph.constants["image"] = random_data({1, 4, 4, 4}, 3);
  graph.nodes = {make("Conv", "c", {"x", "w"}), make("Mul", "m", {"c", "along_width"}),
                 make("Add", "y", {"m", "image"})};
  expect_folds(graph, random_tensor({2, 4, 4, 4}, 5), 3);
}

TEST(FoldBatchNorm, SharedWeightsAreCopied) {
  Graph graph = one_input({-1, 4, 6, 6}, "y");
  graph.constants["w"] = random_data({4, 4, 1, 1}, 1);
  graph.nodes = {make("Conv", "a", {"x", "w"})};
  add_batch_norm(graph, "n", "a", 4, 10);
  graph.nodes.push_back(make("Conv", "y", {"n", "w"}));
  expect_folds(graph, random_tensor({2, 4, 6, 6}, 5), 2);
}

TEST(FoldBatchNorm, WholeNetworks) {
  for (const Graph& graph : {build_resnet20(), build_mobilenet_v2({.image_size = 32, .width = 0.25})}) {
    Graph folded = graph;
    const FoldReport report = fold_batch_norm(folded);
    EXPECT_TRUE(report.left.empty());
    EXPECT_GE(report.folded, 19);
    for (const Node& node : folded.nodes) EXPECT_NE(node.op_type, "BatchNormalization");
    const at::Tensor x = random_tensor({2, 3, 32, 32}, 5), before = run(graph, x);
    EXPECT_LE(largest_gap(before, run(folded, x)), 1e-4 * before.abs().max().item<double>());
  }
}

}  // namespace
}  // namespace lithe
