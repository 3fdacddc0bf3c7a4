#include "lithe/quantize/upgrade_opset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "helpers.h"
#include "lithe/base/error.h"
#include "lithe/graph/onnx.h"
#include "lithe/models/models.h"
#include "lithe/ops/registry.h"

namespace lithe {
namespace {

using namespace testing_helpers;

Graph single(Node node, std::int64_t opset) {
  Graph graph;
  graph.header.opsets[""] = opset;
  graph.header.ir_version = 6;
  graph.inputs = {image("x", {2, 3, 4, 5})};
  for (const std::string& output : node.outputs)
    graph.outputs.push_back({.name = output, .dtype = DType::Float32});
  graph.nodes = {std::move(node)};
  return graph;
}

void expect_same_after_upgrade(const Graph& graph, std::int64_t target) {
  Graph raised = graph;
  upgrade_opset(raised, target);
  EXPECT_EQ(raised.opset(), target);
  Executor before(graph), after(raised);
  const Feeds feeds{{"x", random_tensor({2, 3, 4, 5}, 3)}};
  const Feeds wanted = before.run(feeds), got = after.run(feeds);
  for (const auto& [name, value] : wanted) {
    ASSERT_EQ(got.at(name).sizes(), value.sizes()) << name;
    EXPECT_LE(largest_gap(got.at(name), value), 1e-6) << name;
  }
}

TEST(UpgradeOpset, AxesBecomeInputsAtThirteen) {
  for (const std::int64_t target : {13, 21}) {
    expect_same_after_upgrade(single(make("Unsqueeze", "y", {"x"}, {{"axes", ints({0, 2})}}), 11), target);
    expect_same_after_upgrade(single(make("ReduceSum", "y", {"x"}, {{"axes", ints({1})}}), 11), target);
    expect_same_after_upgrade(single(make("ReduceSum", "y", {"x"}), 12), target);
    Graph squeeze = single(make("Unsqueeze", "u", {"x"}, {{"axes", ints({1})}}), 11);
    squeeze.nodes.push_back(make("Squeeze", "y", {"u"}, {{"axes", ints({1})}}));
    squeeze.outputs = {{.name = "y", .dtype = DType::Float32}};
    expect_same_after_upgrade(squeeze, target);
  }
}

TEST(UpgradeOpset, SplitWithAndWithoutSizes) {
  Node split = make("Split", "a", {"x"}, {{"axis", std::int64_t{3}}, {"split", ints({2, 3})}});
  split.outputs = {"a", "b"};
  Node even = make("Split", "a", {"x"}, {{"axis", std::int64_t{2}}});
  even.outputs = {"a", "b"};
  for (const std::int64_t target : {13, 18, 22}) {
    expect_same_after_upgrade(single(split, 11), target);
    expect_same_after_upgrade(single(even, 11), target);
  }
  Graph raised = single(even, 13);
  upgrade_opset(raised, 18);
  EXPECT_EQ(raised.nodes[0].attr("num_outputs", std::int64_t{0}), 2);
}

TEST(UpgradeOpset, SoftmaxKeepsItsTwoDimensionalMeaning) {
  for (const char* op : {"Softmax", "LogSoftmax"})
    for (const std::int64_t axis : {0, 1, 2, 3, -1}) {
      expect_same_after_upgrade(single(make(op, "y", {"x"}, {{"axis", axis}}), 11), 13);
      expect_same_after_upgrade(single(make(op, "y", {"x"}, {{"axis", axis}}), 13), 21);
    }
  expect_same_after_upgrade(single(make("Softmax", "y", {"x"}), 12), 13);
}

TEST(UpgradeOpset, ReductionsAtEighteen) {
  for (const char* op : {"ReduceMean", "ReduceMax", "ReduceL2", "ReduceLogSumExp"}) {
    expect_same_after_upgrade(single(make(op, "y", {"x"}, {{"axes", ints({2, 3})}}), 13), 18);
    expect_same_after_upgrade(
        single(make(op, "y", {"x"}, {{"axes", ints({1})}, {"keepdims", std::int64_t{0}}}), 11), 21);
  }
}

TEST(UpgradeOpset, DropoutRatio) {
  Graph graph = single(make("Dropout", "y", {"x"}, {{"ratio", 0.25f}}), 11);
  upgrade_opset(graph, 13);
  EXPECT_FALSE(graph.nodes[0].has("ratio"));
  EXPECT_EQ(graph.constants.at(graph.nodes[0].input(1)).to_floats(), std::vector<float>{0.25f});
}

TEST(UpgradeOpset, SubgraphsAreRaisedToo) {
  Graph branch;
  branch.nodes = {make("Unsqueeze", "inner", {"x"}, {{"axes", ints({0})}})};
  branch.outputs = {{.name = "inner", .dtype = DType::Float32}};
  Graph graph = single(make("If", "y", {"condition"}), 11);
  graph.constants["condition"] =
      TensorData(DType::Bool, {}, std::as_bytes(std::span<const char>("\1", 1)), std::make_shared<int>(0));
  const auto shared = std::make_shared<const Graph>(branch);
  graph.nodes[0].attributes["then_branch"] = GraphPtr(shared);
  graph.nodes[0].attributes["else_branch"] = GraphPtr(shared);
  expect_same_after_upgrade(graph, 13);
}

TEST(UpgradeOpset, RefusesWhatItDoesNotKnow) {
  const auto message = [](Graph graph, std::int64_t target) -> std::string {
    try {
      upgrade_opset(graph, target);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_THAT(
      message(single(make("Upsample", "y", {"x", "x"}), 11), 13),
      testing::AllOf(testing::HasSubstr("Upsample node 'y_node'"), testing::HasSubstr("opset 11 to 13")));
  EXPECT_THAT(message(single(make("GroupNormalization", "y", {"x", "x", "x"}), 18), 21),
              testing::HasSubstr("GroupNormalization"));
  EXPECT_THAT(message(single(make("Relu", "y", {"x"}), 17), 13), testing::HasSubstr("cannot be lowered"));
  EXPECT_THAT(message(single(make("Relu", "y", {"x"}), 17), 99), testing::HasSubstr("newer than"));
  Node training = make("BatchNormalization", "y", {"x", "x", "x", "x", "x"});
  training.outputs = {"y", "m", "v", "sm", "sv"};
  EXPECT_THAT(message(single(training, 11), 14), testing::HasSubstr("training form"));
}

TEST(UpgradeOpset, RaisesTheIrVersion) {
  Graph graph = single(make("Relu", "y", {"x"}), 11);
  upgrade_opset(graph, 13);
  EXPECT_EQ(graph.header.ir_version, 7);
  upgrade_opset(graph, 21);
  EXPECT_EQ(graph.header.ir_version, 10);
}

TEST(UpgradeOpset, WholeNetworks) {
  for (const Graph& graph :
       {build_resnet20({.classes = 10, .image_size = 32, .opset = 11}),
        build_vit({.image_size = 32, .dim = 32, .depth = 2, .heads = 2, .classes = 10, .opset = 13})}) {
    Graph raised = graph;
    upgrade_opset(raised, 21);
    const at::Tensor x = random_tensor({2, 3, 32, 32}, 5), before = run(graph, x);
    EXPECT_LE(largest_gap(before, run(raised, x)), 1e-5 * before.abs().max().item<double>());
  }
}

}  // namespace
}  // namespace lithe
