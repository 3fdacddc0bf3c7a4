#include "lithe/graph/sparsity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lithe/base/error.h"
#include "lithe/graph/sparsity_record.h"
#include "lithe/models/builder.h"

namespace lithe {
namespace {

/// A network of one layer with the given weight.
Graph one_layer(const std::string& op, TensorData weight, Attributes attributes = {}) {
  Graph graph;
  graph.inputs = {{.name = "x", .dtype = DType::Float32}};
  graph.constants["w"] = std::move(weight);
  graph.nodes = {{.name = "layer",
                  .op_type = op,
                  .inputs = {"x", "w"},
                  .outputs = {"y"},
                  .attributes = std::move(attributes)}};
  graph.outputs = {{.name = "y"}};
  return graph;
}

SparsityCheck check(const Graph& graph, const std::string& pattern) {
  const auto checks = check_sparsity(graph, parse_sparsity(pattern));
  EXPECT_EQ(checks.size(), 1u);
  return checks.at(0);
}

TEST(Sparsity, GroupsRunAlongTheInputChannels) {
  // [1, 4, 1, 2]: at position 0 the channels hold 1 1 0 0, at position 1 they hold 1 1 1 0.
  const Graph conv = one_layer("Conv", TensorData::from<float>({1, 4, 1, 2}, {1, 1, 1, 1, 0, 1, -0.0f, 0}));
  const SparsityCheck result = check(conv, "2:4");
  EXPECT_EQ(result.tensor, "w");
  EXPECT_EQ(result.node, "layer");
  EXPECT_EQ(result.groups, 2);
  EXPECT_EQ(result.violations, 1);
  EXPECT_DOUBLE_EQ(result.zeros, 3.0 / 8);
  EXPECT_EQ(check(conv, "3:4").violations, 0);
  EXPECT_EQ(check(conv, "1:4").violations, 2);
}

// Golden case: a 2:4 mask of flat memory keeps three of four channels at one position of the kernel.
TEST(Sparsity, FindsMasksOfFlatMemory) {
  const std::vector<float> flat{9, 0, 0, 8, 0, 9, 8, 0, 0, 5.5f, 6, 0, 0, 0, 7, 5},
      right{9, 0, 0, 8, 0, 9, 8, 0, 5, 5.5f, 0, 0, 0, 0, 7, 5};
  const SparsityCheck wrong = check(one_layer("Conv", TensorData::from<float>({1, 4, 2, 2}, flat)), "2:4");
  EXPECT_EQ(wrong.groups, 4);
  EXPECT_EQ(wrong.violations, 1);
  EXPECT_EQ(check(one_layer("Conv", TensorData::from<float>({1, 4, 2, 2}, right)), "2:4").violations, 0);
}

TEST(Sparsity, MatricesByTheirOrientation) {
  const TensorData rows = TensorData::from<float>({2, 4}, {1, 1, 0, 0, 0, 0, 1, 1});  // 2:4 along each row
  EXPECT_EQ(check(one_layer("Gemm", rows, {{"transB", std::int64_t{1}}}), "2:4").violations, 0);
  EXPECT_NE(check(one_layer("Gemm", rows), "2:4").skipped, "");  // two input channels
  const TensorData columns = TensorData::from<float>({4, 2}, {1, 0, 1, 0, 1, 1, 0, 1});
  const SparsityCheck result = check(one_layer("MatMul", columns), "2:4");
  EXPECT_EQ(result.groups, 2);
  EXPECT_EQ(result.violations, 1);
}

TEST(Sparsity, QuantisedWeightsAreZeroAtTheZeroPoint) {
  Graph graph = one_layer("Conv", TensorData::from<std::uint8_t>({2, 4, 1, 1}, {7, 7, 1, 2, 9, 9, 0, 0}));
  graph.constants["scale"] = TensorData::from<float>({2}, {1, 1});
  graph.constants["zero"] = TensorData::from<std::uint8_t>({2}, {7, 9});
  graph.nodes.insert(graph.nodes.begin(), {.name = "dq",
                                           .op_type = "DequantizeLinear",
                                           .inputs = {"w", "scale", "zero"},
                                           .outputs = {"w_dq"},
                                           .attributes = {{"axis", std::int64_t{0}}}});
  graph.nodes[1].inputs[1] = "w_dq";
  EXPECT_EQ(check(graph, "2:4").violations, 0);
  EXPECT_EQ(check(graph, "1:4").violations, 2);
}

TEST(Sparsity, SaysWhatItSkips) {
  const Graph graph = one_layer("Conv", TensorData::from<float>({1, 3, 1, 1}, {1, 2, 3}));
  EXPECT_THAT(check(graph, "2:4").skipped, testing::HasSubstr("3 input channels"));
}

// As lithe sparsify --ragged pad prunes: the last group of two may keep as many as it has, up to N.
TEST(Sparsity, ShortLastGroups) {
  const Graph good = one_layer("Conv", TensorData::from<float>({1, 6, 1, 1}, {3, 0, 2, 0, -4, 1}));
  EXPECT_EQ(check(good, "2:4").skipped, "");
  EXPECT_EQ(check(good, "2:4").groups, 2);
  EXPECT_EQ(check(good, "2:4").violations, 0);
  EXPECT_EQ(check(good, "1:4").violations, 2);
  EXPECT_THAT(check(good, "1:4").skipped, testing::HasSubstr("6 input channels"));
}

TEST(SparsityRecords, FollowTheWeights) {
  Graph graph = one_layer("Conv", TensorData::from<float>({1, 4, 1, 1}, {3, 0, 2, 0}));
  EXPECT_TRUE(sparsity_records(graph).empty());
  keep_sparsity_records(graph, {{.layer = "layer",
                                 .weight = "w",
                                 .pattern = {2, 4},
                                 .axis = 1,
                                 .checksum = weight_checksum(graph.constants.at("w"))}});
  auto states = check_sparsity_records(graph);
  ASSERT_EQ(states.size(), 1u);
  EXPECT_EQ(states[0].problem, "");
  EXPECT_FALSE(states[0].changed);
  graph.constants["w"] = TensorData::from<float>({1, 4, 1, 1}, {0, 0, 2, 5});
  EXPECT_TRUE(check_sparsity_records(graph).at(0).changed);
  EXPECT_TRUE(update_sparsity_records(graph).empty());
  EXPECT_FALSE(check_sparsity_records(graph).at(0).changed);
  graph.constants["w"] = TensorData::from<float>({1, 4, 1, 1}, {1, 0, 2, 5});
  EXPECT_EQ(check_sparsity_records(graph).at(0).problem, "breaks 2:4 in 1 of 1 groups");
  EXPECT_EQ(update_sparsity_records(graph).size(), 1u);
  EXPECT_FALSE(graph.header.metadata.contains("lithe.sparsity"));
  for (const char* text : {"", "{", "[1]", R"([{"layer": "a"}])"}) {
    graph.header.metadata["lithe.sparsity"] = text;
    EXPECT_THROW(sparsity_records(graph), Error) << text;
  }
}

TEST(Sparsity, RefusesOtherPatterns) {
  for (const char* text : {"", "2", "2:", ":4", "5:4", "0:4", "2:4x", "a:b", "-1:4", "2:99999"})
    EXPECT_THROW(parse_sparsity(text), Error) << text;
}

}  // namespace
}  // namespace lithe
