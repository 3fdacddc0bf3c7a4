#include "lithe/graph/half_weights.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "lithe/graph/onnx.h"
#include "lithe/models/models.h"

namespace lithe {
namespace {

TEST(HalfWeights, RoundToNearest) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  Graph graph;
  graph.inputs.push_back({.name = "x", .dtype = DType::Float32, .shape = DimVector{{.value = 12}}});
  graph.outputs.push_back({.name = "y", .dtype = DType::Float32, .shape = DimVector{{.value = 12}}});
  const std::vector<float> values{
      0.0f,     -0.0f,      1.0f,     -2.5f,    65504.0f,        1e6f,
      0x1p-24f, 0x1.8p-25f, 0x1p-14f, 0x1p-15f, 1.0f + 0x1p-11f, 1.0f + 0x1.8p-10f};
  graph.constants["w"] = TensorData::from<float>({12}, values);
  graph.nodes.push_back({.name = "add", .op_type = "Add", .inputs = {"x", "w"}, .outputs = {"y"}});
  halve_weights(graph, 1);
  graph.validate();
  ASSERT_EQ(graph.nodes.size(), 2u);
  EXPECT_EQ(graph.nodes[0].op_type, "Cast");
  widen_weights(graph);
  ASSERT_EQ(graph.nodes.size(), 1u);
  const std::vector<float> expected{0.0f,     -0.0f,    1.0f,     -2.5f,    65504.0f, 65504.0f,
                                    0x1p-24f, 0x1p-24f, 0x1p-14f, 0x1p-15f, 1.0f,     1.0f + 0x1p-9f};
  const auto got = graph.constants.at("w").values<float>();
  for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(got[i], expected[i]) << i;
  EXPECT_TRUE(std::signbit(got[1]));
  graph.constants["w"] = TensorData::from<float>({12}, std::vector<float>(12, kInfinity));
  halve_weights(graph, 1);
  widen_weights(graph);
  EXPECT_EQ(graph.constants.at("w").values<float>()[0], kInfinity);
}

TEST(HalfWeights, HalveAFile) {
  Graph graph = build_resnet20();
  const std::size_t before = serialize_onnx(graph).size();
  const Graph original = graph;
  halve_weights(graph);
  EXPECT_LT(serialize_onnx(graph).size(), before * 6 / 10);
  widen_weights(graph);
  EXPECT_EQ(graph.constants.size(), original.constants.size());
  for (const auto& [name, data] : original.constants) {
    if (data.dtype() != DType::Float32) continue;
    const auto a = data.to_floats(), b = graph.constants.at(name).to_floats();
    for (std::size_t i = 0; i < a.size(); ++i)
      ASSERT_NEAR(a[i], b[i], std::abs(a[i]) * 0x1p-11 + 0x1p-25) << name;
  }
}

}  // namespace
}  // namespace lithe
