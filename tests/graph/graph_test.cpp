#include "lithe/graph/graph.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lithe/base/error.h"

namespace lithe {
namespace {

using testing::ElementsAre;

Node make(const std::string& type, std::vector<std::string> inputs, std::vector<std::string> outputs) {
  Node node;
  node.op_type = type;
  node.inputs = std::move(inputs);
  node.outputs = std::move(outputs);
  return node;
}

/// x -> Relu -> a -> {Exp, Neg} -> Add -> y
Graph diamond() {
  Graph graph;
  graph.inputs = {{.name = "x", .dtype = DType::Float32}};
  graph.outputs = {{.name = "y", .dtype = DType::Float32}};
  graph.nodes = {make("Relu", {"x"}, {"a"}), make("Exp", {"a"}, {"b"}), make("Neg", {"a"}, {"c"}),
                 make("Add", {"b", "c"}, {"y"})};
  return graph;
}

TEST(Graph, IndexKnowsMakersAndReaders) {
  const Graph graph = diamond();
  const GraphIndex index(graph);
  EXPECT_EQ(index.producer("a"), 0);
  EXPECT_EQ(index.producer("x"), -1);
  EXPECT_THAT(index.consumers("a"), ElementsAre(1, 2));
  EXPECT_TRUE(index.is_output("y"));
  EXPECT_FALSE(index.is_output("a"));
}

TEST(Graph, SortRestoresOrderAndKeepsTies) {
  Graph graph = diamond();
  std::swap(graph.nodes[0], graph.nodes[3]);
  graph.sort();
  EXPECT_EQ(graph.nodes[0].op_type, "Relu");
  EXPECT_EQ(graph.nodes[1].op_type, "Exp");
  EXPECT_EQ(graph.nodes[3].op_type, "Add");
}

TEST(Graph, RemoveDeadKeepsWhatOutputsNeed) {
  Graph graph = diamond();
  graph.constants.emplace("unused", TensorData::from<float>({1}, {1.0f}));
  graph.nodes.push_back(make("Exp", {"unused"}, {"nobody"}));
  graph.remove_dead();
  EXPECT_EQ(graph.nodes.size(), 4u);
  EXPECT_TRUE(graph.constants.empty());
}

TEST(Graph, SubgraphsReadFromOutside) {
  Graph branch;
  branch.name = "then";
  branch.nodes = {make("Relu", {"a"}, {"inner"})};
  branch.outputs = {{.name = "inner"}};
  Graph graph = diamond();
  Node choice = make("If", {"c"}, {"chosen"});
  choice.attributes["then_branch"] = std::make_shared<const Graph>(branch);
  graph.nodes.push_back(choice);
  EXPECT_THAT(captured_values(choice), ElementsAre("a"));
  graph.replace_uses("a", "x");
  EXPECT_THAT(captured_values(graph.nodes.back()), ElementsAre("x"));
  EXPECT_EQ(graph.unique_name("inner"), "inner_1");
  EXPECT_EQ(graph.unique_name("fresh"), "fresh");
  EXPECT_NO_THROW(graph.validate());
}

TEST(Graph, AttributesAreChecked) {
  Node node = make("Conv", {"x"}, {"y"});
  node.attributes["group"] = std::int64_t{3};
  EXPECT_EQ(node.attr("group", std::int64_t{1}), 3);
  EXPECT_EQ(node.attr("absent", std::int64_t{7}), 7);
  EXPECT_THROW(node.attr("group", "text"), Error);
}

TEST(TensorData, ConvertsElements) {
  const auto half = std::make_shared<const std::vector<std::uint16_t>>(
      std::vector<std::uint16_t>{0x3C00, 0xC000, 0x0001, 0x7C00});
  const TensorData data(DType::Float16, {4}, std::as_bytes(std::span<const std::uint16_t>(*half)), half);
  EXPECT_THAT(data.to_floats(), ElementsAre(1.0f, -2.0f, 0x1p-24f, INFINITY));
  EXPECT_EQ(packed_bytes(DType::Int4, 5), 3);
  EXPECT_THROW(TensorData::from<float>({2}, {1.0f}), Error);
  EXPECT_THROW(data.values<float>(), Error);
}

}  // namespace
}  // namespace lithe
