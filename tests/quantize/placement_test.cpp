#include "lithe/quantize/placement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "helpers.h"
#include "lithe/models/models.h"

namespace lithe {
namespace {

using namespace testing_helpers;
using testing::UnorderedElementsAre;

/// x -> stem -> Relu -> r0 -> {conv a -> Relu -> conv b, shortcut c} -> Add -> Relu -> r2 -> MaxPool -> p
///   -> {conv d, conv e} -> Concat -> k -> pool -> Flatten -> head -> y
Graph network() {
  Graph graph;
  graph.inputs = {image("x", {-1, 3, 8, 8})};
  graph.outputs = {{.name = "y", .dtype = DType::Float32}};
  graph.constants["w_stem"] = random_data({4, 3, 1, 1}, 1);
  for (const char* name : {"w_a", "w_b", "w_c", "w_d", "w_e"})
    graph.constants[name] = random_data({4, 4, 1, 1}, 2);
  graph.constants["w_head"] = random_data({8, 5}, 3);
  graph.nodes = {make("Conv", "stem", {"x", "w_stem"}),
                 make("Relu", "r0", {"stem"}),
                 make("Conv", "a", {"r0", "w_a"}),
                 make("Relu", "r1", {"a"}),
                 make("Conv", "b", {"r1", "w_b"}),
                 make("Conv", "c", {"r0", "w_c"}),
                 make("Add", "sum", {"b", "c"}),
                 make("Relu", "r2", {"sum"}),
                 make("MaxPool", "p", {"r2"}, {{"kernel_shape", ints({2, 2})}, {"strides", ints({2, 2})}}),
                 make("Conv", "d", {"p", "w_d"}),
                 make("Conv", "e", {"p", "w_e"}),
                 make("Concat", "k", {"d", "e"}, {{"axis", std::int64_t{1}}}),
                 make("GlobalAveragePool", "g", {"k"}),
                 make("Flatten", "f", {"g"}),
                 make("Gemm", "y", {"f", "w_head"})};
  return graph;
}

struct Placed {
  std::map<std::string, int> bits;
  std::map<std::string, std::size_t> group;
  std::vector<std::string> values;
};

Placed place(const Graph& graph, PlacementStyle style, Target target = Target::OnnxRuntime, int bits = 4,
             const std::vector<std::string>& exclude = {}) {
  std::vector<Layer> layers = find_layers(graph);
  assign_bits(layers, bits, bits, FirstLast::Eight, {}, exclude);
  Placed placed;
  for (const ActivationPoint& point : place_activations(graph, layers, style, target, bits)) {
    placed.bits[point.value] = point.bits;
    placed.group[point.value] = point.group;
    placed.values.push_back(point.value);
  }
  return placed;
}

TEST(Placement, AcademicQuantisesTheInputsOfLayersOnce) {
  const Placed placed = place(network(), PlacementStyle::Academic);
  EXPECT_THAT(placed.values, testing::ElementsAre("x", "r0", "r1", "p", "f"));
  EXPECT_EQ(placed.bits.at("x"), 8);  // input of the first layer
  EXPECT_EQ(placed.bits.at("f"), 8);  // input of the last
  EXPECT_EQ(placed.bits.at("r0"), 4);
}

// Two products a block, of which neither placement quantises an operand by itself.
TEST(Placement, AttentionHasBitsOfItsOwn) {
  const Graph graph =
      build_vit({.image_size = 16, .patch = 8, .dim = 24, .depth = 3, .heads = 2, .classes = 10});
  const std::vector<std::string> operands = attention_operands(graph);
  EXPECT_EQ(operands.size(), 3u * 4u);
  EXPECT_TRUE(attention_operands(network()).empty());
  std::vector<Layer> layers = find_layers(graph);
  assign_bits(layers, 4, 4, FirstLast::Eight, {}, {});
  for (const PlacementStyle style : {PlacementStyle::Academic, PlacementStyle::Deploy}) {
    const auto bits = [&](int attention) {
      std::map<std::string, int> bits;
      for (const ActivationPoint& point :
           place_activations(graph, layers, style, Target::OnnxRuntime, 4, attention))
        bits[point.value] = point.bits;
      return bits;
    };
    const auto plain = bits(kFloatBits), eight = bits(8);
    for (const std::string& name : operands) {
      EXPECT_FALSE(plain.contains(name)) << name;
      EXPECT_EQ(eight.at(name), 8) << name;
    }
    for (const auto& [name, b] : plain) EXPECT_GE(eight.at(name), b) << name;
  }
}

TEST(Placement, SharedInputTakesTheMostBitsAndExcludedLayersAskForNone) {
  const Graph graph = network();
  std::vector<Layer> layers = find_layers(graph);
  assign_bits(layers, 4, 4, FirstLast::Same, {{.pattern = "c_node", .activation_bits = 6}},
              {"stem_node", "d_node"});
  std::map<std::string, int> bits;
  for (const ActivationPoint& point :
       place_activations(graph, layers, PlacementStyle::Academic, Target::OnnxRuntime, 4))
    bits[point.value] = point.bits;
  EXPECT_EQ(bits.at("r0"), 6);
  EXPECT_FALSE(bits.contains("x"));
  EXPECT_TRUE(bits.contains("p"));  // conv e reads it
}

TEST(Placement, DeployAddsWhatIntegerKernelsNeed) {
  const Placed placed = place(network(), PlacementStyle::Deploy, Target::OnnxRuntime, 8);
  // Not between a layer and its Relu, not on the logits.
  EXPECT_THAT(placed.values,
              UnorderedElementsAre("x", "r0", "r1", "b", "c", "r2", "p", "d", "e", "k", "g", "f"));
  EXPECT_EQ(placed.group.at("r2"), placed.group.at("p"));  // MaxPool
  EXPECT_EQ(placed.group.at("d"), placed.group.at("e"));   // Concat
  EXPECT_EQ(placed.group.at("d"), placed.group.at("k"));
  EXPECT_EQ(placed.group.at("g"), placed.group.at("f"));  // Flatten
  EXPECT_NE(placed.group.at("k"), placed.group.at("g"));  // an average has a range of its own
  EXPECT_NE(placed.group.at("b"), placed.group.at("c"));
}

TEST(Placement, TensorRtLeavesTheMainPathOfAnAdditionAlone) {
  const Placed placed = place(network(), PlacementStyle::Deploy, Target::TensorRt, 8);
  EXPECT_FALSE(placed.bits.contains("b"));  // fused with the Add
  EXPECT_TRUE(placed.bits.contains("c"));   // the skip
}

TEST(Placement, FloatPartsStayFloat) {
  Graph graph = network();
  // A gate computed by an excluded layer: nothing around it is integer.
  const Placed placed = place(graph, PlacementStyle::Deploy, Target::OnnxRuntime, 8, {"c_node"});
  EXPECT_FALSE(placed.bits.contains("c"));
  EXPECT_TRUE(placed.bits.contains("b"));  // the convolution would run in float without it
  EXPECT_TRUE(place(graph, PlacementStyle::Deploy, Target::OnnxRuntime, kFloatBits).values.empty());
}

TEST(Placement, ProductsOfActivationsAreQuantisedForDeploymentOnly) {
  Graph graph;
  graph.inputs = {image("x", {-1, 6, 4})};
  graph.outputs = {{.name = "y", .dtype = DType::Float32}};
  graph.constants["wq"] = random_data({4, 4}, 1);
  graph.constants["wk"] = random_data({4, 4}, 2);
  graph.constants["wo"] = random_data({6, 6}, 2);
  graph.nodes = {make("MatMul", "q", {"x", "wq"}), make("MatMul", "k", {"x", "wk"}),
                 make("Transpose", "t", {"k"}, {{"perm", ints({0, 2, 1})}}), make("MatMul", "s", {"q", "t"}),
                 make("MatMul", "y", {"s", "wo"})};
  EXPECT_THAT(place(graph, PlacementStyle::Academic).values, UnorderedElementsAre("x", "s"));
  const Placed placed = place(graph, PlacementStyle::Deploy, Target::OnnxRuntime, 8);
  EXPECT_THAT(placed.values, UnorderedElementsAre("x", "q", "k", "t", "s"));
  EXPECT_EQ(placed.group.at("k"), placed.group.at("t"));
}

}  // namespace
}  // namespace lithe
