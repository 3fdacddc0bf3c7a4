#include "lithe/graph/finite.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>

#include "tests/message_of.h"

namespace lithe {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TensorData floats(std::vector<float> values) {
  const auto count = static_cast<std::int64_t>(values.size());
  return TensorData::from<float>({count}, std::move(values));
}

Graph product(std::vector<float> weight) {
  Graph graph;
  graph.inputs = {{.name = "x", .dtype = DType::Float32, .shape = DimVector{{1, ""}, {2, ""}}}};
  graph.outputs = {{.name = "y", .dtype = DType::Float32}};
  graph.constants["w"] = TensorData::from<float>({2, 2}, std::move(weight));
  graph.nodes = {{.name = "fc", .op_type = "MatMul", .inputs = {"x", "w"}, .outputs = {"y"}}};
  return graph;
}

TEST(UnusableConstants, NaNIsFoundAnywhere) {
  Graph graph = product({1, 2, NAN, NAN});
  EXPECT_THAT(unusable_constants(graph), ElementsAre("the constant 'w' holds NaN at element 2"));
  EXPECT_EQ(test::message_of([&] { require_usable_constants(graph); }),
            "the constant 'w' holds NaN at element 2; train or export the model again");
  graph = product({1, 2, 3, 4});
  EXPECT_THAT(unusable_constants(graph), IsEmpty());
  EXPECT_NO_THROW(require_usable_constants(graph));
  graph.constants["wide"] = TensorData::from<double>({2}, {0, NAN});
  auto inner = std::make_shared<Graph>();
  inner->constants["deep"] = floats({NAN});
  graph.nodes.push_back(
      {.op_type = "If", .inputs = {"x"}, .outputs = {"z"}, .attributes = {{"then_branch", GraphPtr(inner)}}});
  graph.nodes.push_back(
      {.op_type = "Constant", .outputs = {"c"}, .attributes = {{"value", floats({0, 0, NAN})}}});
  EXPECT_THAT(unusable_constants(graph), ElementsAre("the constant 'wide' holds NaN at element 1",
                                                     "the constant 'deep' holds NaN at element 0",
                                                     "the constant 'c' holds NaN at element 2"));
}

TEST(UnusableConstants, InfinityOnlyInWeights) {
  Graph graph = product({1, -INFINITY, 3, 4});
  graph.constants["mask"] = floats({0, -INFINITY});
  graph.nodes.push_back({.op_type = "Add", .inputs = {"y", "mask"}, .outputs = {"z"}});
  graph.nodes.push_back({.name = "again", .op_type = "MatMul", .inputs = {"x", "w"}, .outputs = {"v"}});
  EXPECT_THAT(unusable_constants(graph),
              ElementsAre("MatMul node 'fc': its weight 'w' holds infinity at element 1"));
}

}  // namespace
}  // namespace lithe
