#include "lithe/metrics/verify.h"

#include <gtest/gtest.h>

namespace lithe {
namespace {

/// x -> makers, one behind another -> QuantizeLinear -> "codes".
Graph quantized_behind(const std::vector<std::string>& makers) {
  Graph graph;
  graph.inputs = {{.name = "x", .dtype = DType::Float32}};
  std::string value = "x";
  for (const std::string& op : makers) {
    graph.nodes.push_back({.op_type = op, .inputs = {value}, .outputs = {value + "'"}});
    value += "'";
  }
  graph.constants["scale"] = TensorData::scalar(0.1f);
  graph.nodes.push_back({.op_type = "QuantizeLinear", .inputs = {value, "scale"}, .outputs = {"codes"}});
  graph.outputs = {{.name = "codes", .dtype = DType::UInt8}};
  return graph;
}

bool means_behind(const std::vector<std::string>& makers) {
  const Graph graph = quantized_behind(makers);
  return holds_means(graph, GraphIndex(graph), "codes");
}

TEST(HoldsMeans, EveryKindOfMeanWithOrWithoutABound) {
  for (const char* mean : {"GlobalAveragePool", "AveragePool", "ReduceMean"}) {
    EXPECT_TRUE(means_behind({mean})) << mean;
    EXPECT_TRUE(means_behind({mean, "Relu"})) << mean;
    EXPECT_TRUE(means_behind({mean, "Relu", "Clip"})) << mean;
    EXPECT_TRUE(means_behind({"Conv", mean})) << mean;
  }
}

TEST(HoldsMeans, NothingElse) {
  EXPECT_FALSE(means_behind({}));
  EXPECT_FALSE(means_behind({"Relu"})) << "the input of the graph";
  EXPECT_FALSE(means_behind({"MaxPool"}));
  EXPECT_FALSE(means_behind({"GlobalAveragePool", "Conv"})) << "a layer in between makes new values";
  EXPECT_FALSE(means_behind({"GlobalAveragePool", "Sigmoid"}));
  const Graph graph = quantized_behind({"ReduceMean"});
  EXPECT_FALSE(holds_means(graph, GraphIndex(graph), "x"));
  EXPECT_FALSE(holds_means(graph, GraphIndex(graph), "no such value"));
}

}  // namespace
}  // namespace lithe
