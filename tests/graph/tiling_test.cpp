#include "lithe/graph/tiling.h"

#include <gmock/gmock.h>

#include "message_of.h"
#include "open_edsr.h"

namespace lithe {
namespace {

using ::testing::HasSubstr;
using Ints = std::vector<std::int64_t>;

Graph chain(std::vector<Node> nodes) {
  Graph graph;
  graph.header.opsets[""] = 13;
  graph.inputs = {{.name = "x",
                   .dtype = DType::Float32,
                   .shape = DimVector{{.symbol = "n"}, {.value = 3}, {.symbol = "h"}, {.symbol = "w"}}}};
  std::string last = "x";
  int i = 0;
  for (Node& node : nodes) {
    node.inputs.insert(node.inputs.begin(), last);
    node.name = last = "v" + std::to_string(i++);
    node.outputs = {last};
    graph.nodes.push_back(node);
  }
  graph.outputs = {{.name = last, .dtype = DType::Float32}};
  graph.constants["w3"] = TensorData::from<float>({3, 3, 3, 3}, std::vector<float>(81, 0.1f));
  graph.constants["scales"] = TensorData::from<float>({4}, std::vector<float>{1, 1, 2, 2});
  graph.constants["wide"] = TensorData::from<float>({1, 1, 4, 4}, std::vector<float>(16, 1.0f));
  return graph;
}

Node conv(Ints pads, Ints strides = {1, 1}, Ints dilations = {1, 1}) {
  return {.op_type = "Conv",
          .inputs = {"w3"},
          .attributes = {{"pads", pads}, {"strides", strides}, {"dilations", dilations}}};
}

TEST(Tiling, FieldsAddUp) {
  const Tiling plain =
      find_tiling(chain({conv({1, 1, 1, 1}), {.op_type = "Relu"}, conv({2, 2, 2, 2}, {1, 1}, {2, 2})}));
  EXPECT_EQ(plain.overlap, 3);
  EXPECT_EQ(plain.alignment, 1);
  EXPECT_EQ(plain.scale, 1);
  // A pixel behind the stride is two of the input's.
  const Tiling strided =
      find_tiling(chain({conv({1, 1, 1, 1}, {2, 2}),
                         conv({1, 1, 1, 1}),
                         {.op_type = "DepthToSpace", .attributes = {{"blocksize", std::int64_t{4}}}}}));
  EXPECT_EQ(strided.overlap, 4);
  EXPECT_EQ(strided.alignment, 2);
  EXPECT_EQ(strided.scale, 2);
  // Behind an enlargement pixels are smaller.
  const Tiling enlarged = find_tiling(
      chain({{.op_type = "Resize", .inputs = {"", "scales"}}, conv({1, 1, 1, 1}), conv({1, 1, 1, 1})}));
  EXPECT_EQ(enlarged.overlap, 3);
  EXPECT_EQ(enlarged.scale, 2);
}

TEST(Tiling, OfEdsr) {
  const Tiling tiling = find_tiling(test::open_edsr());
  // Head, four in blocks, one behind, one in front of the shuffle, half a pixel behind it.
  EXPECT_EQ(tiling.overlap, 8);
  EXPECT_EQ(tiling.scale, 2);
}

TEST(Tiling, RefusesWhatSeesTheWholeImage) {
  const auto reason = [](std::vector<Node> nodes) {
    return test::message_of([&] { find_tiling(chain(nodes)); });
  };
  EXPECT_THAT(reason({{.op_type = "GlobalAveragePool"}}), HasSubstr("reads the whole image"));
  EXPECT_THAT(reason({{.op_type = "ReduceMean", .attributes = {{"axes", Ints{2, 3}}}}}),
              HasSubstr("whole image"));
  EXPECT_THAT(reason({{.op_type = "InstanceNormalization"}}), HasSubstr("whole image"));
  EXPECT_THAT(reason({{.op_type = "DynamicSubsetQuantize", .domain = "lithe"}}),
              HasSubstr("--statistics static"));
  EXPECT_THAT(reason({conv({0, 0, 0, 0})}), HasSubstr("changes the size"));
  EXPECT_THAT(reason({{.op_type = "Transpose"}}), HasSubstr("moves pixels"));
  EXPECT_THAT(reason({{.op_type = "Mul", .inputs = {"wide"}}}), HasSubstr("pixel by pixel"));
  EXPECT_THAT(reason({conv({1, 1, 1, 1}, {2, 2})}), HasSubstr("fewer pixels"));
  EXPECT_THAT(reason({{.op_type = "Resize", .inputs = {"", "", "sizes"}}}), HasSubstr("not by a constant"));
  EXPECT_THAT(reason({{.op_type = "Softmax"}}), HasSubstr("rows or columns"));
  EXPECT_EQ(reason({{.op_type = "ReduceMean", .attributes = {{"axes", Ints{1}}}}}), "");
  EXPECT_THAT(test::message_of([] { find_tiling(chain({{.op_type = "Relu"}}), "z"); }),
              HasSubstr("no output 'z'; the first is 'v0'"));
  Graph fixed = chain({conv({1, 1, 1, 1})});
  (*fixed.inputs[0].shape)[2] = {.value = 32};
  EXPECT_THAT(test::message_of([&] { find_tiling(fixed); }), HasSubstr("fixes the size"));
}

/// The chain with nodes beside it, made in front of it.
Graph beside(std::vector<Node> nodes, std::vector<Node> chained) {
  Graph graph = chain(std::move(chained));
  for (Node& node : nodes) node.name = node.outputs[0] + "_node";
  graph.nodes.insert(graph.nodes.begin(), nodes.begin(), nodes.end());
  return graph;
}

// A grid of coordinates, as networks that must know where they are add or concatenate it: every tile would
// count from its own corner.
TEST(Tiling, RefusesGridsMadeFromTheSize) {
  const std::vector<Node> grid{
      {.op_type = "Shape", .inputs = {"x"}, .outputs = {"size"}},
      {.op_type = "ConstantOfShape", .inputs = {"size"}, .outputs = {"ones"}},
      {.op_type = "CumSum", .inputs = {"ones", "axis"}, .outputs = {"grid"}},
  };
  for (const Node& reader :
       {Node{.op_type = "Add", .inputs = {"grid"}},
        Node{.op_type = "Concat", .inputs = {"grid"}, .attributes = {{"axis", std::int64_t{1}}}},
        Node{.op_type = "Clip", .inputs = {"grid"}}}) {
    Graph graph = beside(grid, {reader});
    graph.constants["axis"] = TensorData::scalar<std::int64_t>(3);
    EXPECT_THAT(test::message_of([&] { find_tiling(graph); }),
                HasSubstr("reads 'grid', which hangs on the size of the image"))
        << reader.op_type;
  }
}

// Exporters leave constants as nodes; what is computed from them alone is one too.
TEST(Tiling, ConstantsMayBeComputed) {
  const auto computed = [](std::int64_t columns) {
    Graph graph = beside(
        {{.op_type = "Constant",
          .outputs = {"c"},
          .attributes = {{"value", TensorData::from<float>(
                                       {1, 3, 1, columns},
                                       std::vector<float>(static_cast<std::size_t>(3 * columns), 2.0f))}}},
         {.op_type = "Neg", .inputs = {"c"}, .outputs = {"minus"}}},
        {{.op_type = "Mul", .inputs = {"minus"}}});
    return test::message_of([&] { find_tiling(graph); });
  };
  EXPECT_EQ(computed(1), "");
  EXPECT_THAT(computed(4), HasSubstr("pixel by pixel"));
  // Weights that are unpacked from codes.
  Graph codes = beside({{.op_type = "DequantizeLinear", .inputs = {"codes", "step"}, .outputs = {"w"}}},
                       {{.op_type = "Conv",
                         .inputs = {"w"},
                         .attributes = {{"kernel_shape", Ints{3, 3}}, {"pads", Ints{1, 1, 1, 1}}}}});
  codes.constants["codes"] = TensorData::from<std::int8_t>({3, 3, 3, 3}, std::vector<std::int8_t>(81, 1));
  codes.constants["step"] = TensorData::scalar(0.1f);
  EXPECT_EQ(find_tiling(codes).overlap, 1);
  Graph dynamic = chain({{.op_type = "Relu"},
                         {.op_type = "Conv",
                          .inputs = {"x"},
                          .attributes = {{"kernel_shape", Ints{3, 3}}, {"pads", Ints{1, 1, 1, 1}}}}});
  EXPECT_THAT(test::message_of([&] { find_tiling(dynamic); }), HasSubstr("made from the image"));
}

}  // namespace
}  // namespace lithe
