#include "lithe/graph/missing_operators.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

namespace lithe {
namespace {

using testing::ElementsAre;

TEST(FindMissingOperators, LooksIntoSubGraphsAndFunctions) {
  Graph graph;
  graph.header.opsets = {{"", 20}, {"mine", 3}, {"other", 2}};
  Function called{.name = "Twice", .domain = "mine", .opsets = {{"", 11}}};
  called.nodes = {{.name = "inside", .op_type = "Odd", .outputs = {"i"}}};
  Function idle{.name = "Idle", .domain = "mine"};
  idle.nodes = {{.name = "never", .op_type = "Unseen", .outputs = {"i"}}};
  graph.header.functions = {called, idle};
  auto branch = std::make_shared<Graph>();
  branch->nodes = {{.name = "deep", .op_type = "Odd", .outputs = {"d"}}};
  graph.nodes = {
      {.op_type = "Fine", .outputs = {"a"}},
      {.op_type = "If", .outputs = {"b"}, .attributes = {{"then_branch", GraphPtr(branch)}}},
      {.op_type = "Odd", .outputs = {"c"}},
      {.op_type = "Twice", .domain = "mine", .outputs = {"d"}},
      {.op_type = "Twice", .domain = "mine", .outputs = {"e"}},
      {.op_type = "Fine", .domain = "other", .outputs = {"f"}},
  };
  const auto runs = [](const Node& node, std::int64_t opset) { return node.is("Fine") && opset == 20; };
  std::vector<std::string> lines;
  for (const MissingOperator& one : find_missing_operators(graph, runs)) lines.push_back(describe(one));
  EXPECT_THAT(lines,
              ElementsAre("Odd (opset 11), 1 node, first 'inside'", "Odd (opset 20), 2 nodes, first 'deep'",
                          "other.Fine (opset 2), 1 node, first 'f'"));
}

TEST(FindMissingOperators, ScanOfOldIsAnother) {
  EXPECT_TRUE(is_control_flow({.op_type = "Loop"}));
  EXPECT_TRUE(is_control_flow({.op_type = "Scan"}, 9));
  EXPECT_FALSE(is_control_flow({.op_type = "Scan"}, 8));
  EXPECT_FALSE(is_control_flow({.op_type = "If", .domain = "mine"}));
}

}  // namespace
}  // namespace lithe
