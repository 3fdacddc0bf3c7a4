#include "lithe/quantize/layers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "helpers.h"
#include "lithe/base/error.h"
#include "lithe/base/glob.h"
#include "lithe/models/models.h"
#include "lithe/ops/registry.h"

namespace lithe {
namespace {

using namespace testing_helpers;

TEST(Glob, Patterns) {
  EXPECT_TRUE(glob_match("*", ""));
  EXPECT_TRUE(glob_match("layer1/*", "layer1/0/conv1"));
  EXPECT_TRUE(glob_match("*conv?", "layer1/0/conv1"));
  EXPECT_TRUE(glob_match("a*b*c", "axxbyybzc"));
  EXPECT_FALSE(glob_match("a*b*c", "axxbyybz"));
  EXPECT_FALSE(glob_match("layer1", "layer1/conv"));
  EXPECT_FALSE(glob_match("?", ""));
  EXPECT_FALSE(glob_match("", "a"));
}

TEST(BitsRules, AreReadAndRefused) {
  const BitsRule plain = parse_bits_rule("a=b*=4");
  EXPECT_EQ(plain.pattern, "a=b*");
  EXPECT_EQ(plain.weight_bits, 4);
  EXPECT_EQ(plain.activation_bits, 0);
  const BitsRule both = parse_bits_rule("*=w4a8");
  EXPECT_EQ(both.weight_bits, 4);
  EXPECT_EQ(both.activation_bits, 8);
  EXPECT_EQ(parse_bits_rule("*=a6").activation_bits, 6);
  EXPECT_EQ(parse_bits_rule("*=off").weight_bits, kFloatBits);
  for (const char* bad :
       {"layer", "=4", "layer=", "layer=x", "layer=w", "layer=w4b3", "layer=1", "layer=4.5", "l=w-4"})
    EXPECT_THROW(parse_bits_rule(bad), Error) << bad;
}

TEST(Layers, OfAResidualNetwork) {
  const Graph graph = build_resnet20();
  std::vector<Layer> layers = find_layers(graph);
  ASSERT_EQ(layers.size(), 20u);
  for (std::size_t i = 0; i < layers.size(); ++i) {
    EXPECT_EQ(layers[i].first, i == 0) << layers[i].name;
    EXPECT_EQ(layers[i].last, i + 1 == layers.size()) << layers[i].name;
  }
  EXPECT_EQ(layers[0].op, "Conv");
  EXPECT_EQ(layers[0].axis, 0);
  EXPECT_EQ(layers[0].channels, 16);
  EXPECT_EQ(layers[19].op, "Gemm");
  EXPECT_EQ(layers[19].channels, 10);
  EXPECT_FALSE(layers[19].bias.empty());

  assign_bits(layers, 4, 3, FirstLast::Eight, {{.pattern = layers[5].name, .weight_bits = 2}},
              {layers[7].name});
  EXPECT_EQ(layers[0].weight_bits, 8);
  EXPECT_EQ(layers[0].activation_bits, 8);
  EXPECT_EQ(layers[1].weight_bits, 4);
  EXPECT_EQ(layers[1].activation_bits, 3);
  EXPECT_EQ(layers[5].weight_bits, 2);
  EXPECT_EQ(layers[5].activation_bits, 3);
  EXPECT_EQ(layers[7].weight_bits, kFloatBits);
  EXPECT_EQ(layers[7].activation_bits, kFloatBits);
  EXPECT_EQ(layers[19].weight_bits, 8);
  assign_bits(layers, 4, 3, FirstLast::Same, {}, {});
  EXPECT_EQ(layers[0].weight_bits, 4);
  EXPECT_EQ(layers[19].activation_bits, 3);

  EXPECT_THROW(assign_bits(layers, 1, 8, FirstLast::Same, {}, {}), Error);
  EXPECT_THROW(assign_bits(layers, 8, 9, FirstLast::Same, {}, {}), Error);
  EXPECT_THROW(assign_bits(layers, 8, 8, FirstLast::Same, {{.pattern = "*", .weight_bits = 16}}, {}), Error);
  EXPECT_THROW(assign_bits(layers, 8, 8, FirstLast::Same, {{.pattern = "nothing*", .weight_bits = 4}}, {}),
               Error);
  EXPECT_THROW(assign_bits(layers, 8, 8, FirstLast::Same, {}, {"nothing"}), Error);
}

Graph with_weight(const std::string& op, TensorData weight,
                  std::map<std::string, Attribute, std::less<>> attributes, bool weight_first = false) {
  Graph graph;
  graph.inputs = {{.name = "x", .dtype = DType::Float32}};
  graph.outputs = {{.name = "y", .dtype = DType::Float32}};
  graph.constants["w"] = std::move(weight);
  graph.nodes = {make(op, "y",
                      weight_first ? std::vector<std::string>{"w", "x"} : std::vector<std::string>{"x", "w"},
                      std::move(attributes))};
  return graph;
}

TEST(Layers, ChannelAxisOfEachKind) {
  const auto axis = [](const Graph& graph) { return find_layers(graph).at(0).axis; };
  EXPECT_EQ(axis(with_weight("Conv", random_data({8, 4, 3, 3}, 1), {})), 0);
  EXPECT_EQ(axis(with_weight("ConvTranspose", random_data({8, 4, 3, 3}, 1), {})), 1);
  EXPECT_EQ(axis(with_weight("ConvTranspose", random_data({8, 4, 3, 3}, 1), {{"group", std::int64_t{2}}})),
            -1);
  EXPECT_EQ(axis(with_weight("Gemm", random_data({8, 4}, 1), {})), 1);
  EXPECT_EQ(axis(with_weight("Gemm", random_data({8, 4}, 1), {{"transB", std::int64_t{1}}})), 0);
  EXPECT_EQ(axis(with_weight("MatMul", random_data({8, 4}, 1), {})), 1);
  EXPECT_EQ(axis(with_weight("MatMul", random_data({8, 4}, 1), {}, true)), -1);
}

TEST(Layers, AnAddBehindAMatMulIsItsBias) {
  const auto with_add = [](const std::vector<std::int64_t>& shape, bool swapped) {
    Graph graph = with_weight("MatMul", random_data({8, 4}, 1), {});
    graph.nodes[0].outputs = {"p"};
    graph.constants["b"] = random_data(shape, 2);
    graph.nodes.push_back(
        make("Add", "y", swapped ? std::vector<std::string>{"b", "p"} : std::vector<std::string>{"p", "b"}));
    return graph;
  };
  for (const bool swapped : {false, true}) {
    const Layer layer = find_layers(with_add({4}, swapped)).at(0);
    EXPECT_EQ(layer.bias, "b");
    EXPECT_EQ(layer.bias_node, 1u);
    EXPECT_EQ(layer.bias_index, swapped ? 0u : 1u);
    EXPECT_EQ(layer.output, "p");
  }
  EXPECT_EQ(find_layers(with_add({1, 1, 4}, false)).at(0).bias, "b");
  EXPECT_EQ(find_layers(with_add({1}, false)).at(0).bias, "");
  EXPECT_EQ(find_layers(with_add({4, 1}, false)).at(0).bias, "");
  Graph shared = with_add({4}, false);  // the product is read elsewhere, too
  shared.outputs.push_back({.name = "p", .dtype = DType::Float32});
  EXPECT_EQ(find_layers(shared).at(0).bias, "");
}

TEST(Layers, WhatCannotBeQuantisedIsNoted) {
  Graph graph = with_weight("Gemm", random_data({8, 4}, 1), {{"transA", std::int64_t{1}}});
  std::vector<std::string> notes;
  EXPECT_TRUE(find_layers(graph, &notes).empty());
  EXPECT_THAT(notes, testing::ElementsAre(testing::HasSubstr("transA")));
  graph = with_weight("Conv", random_data({8, 4, 3, 3}, 1), {});
  graph.inputs.push_back({.name = "v", .dtype = DType::Float32});
  graph.nodes[0].inputs[1] = "v";
  notes.clear();
  EXPECT_TRUE(find_layers(graph, &notes).empty());
  EXPECT_THAT(notes, testing::ElementsAre(testing::HasSubstr("computed by the model")));
}

TEST(Layers, BadWeightsAreNamed) {
  std::vector<float> values(16, 1.0f);
  values[5] = std::numeric_limits<float>::quiet_NaN();
  const auto message = [](const Graph& graph) -> std::string {
    try {
      find_layers(graph);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_THAT(message(with_weight("MatMul", floats({4, 4}, values), {})),
              testing::AllOf(testing::HasSubstr("'w'"), testing::HasSubstr("NaN at element 5"),
                             testing::HasSubstr("y_node")));
  EXPECT_THAT(message(with_weight("MatMul", TensorData::from<double>({1, 1}, {1.0}), {})),
              testing::HasSubstr("float64"));
}

}  // namespace
}  // namespace lithe
