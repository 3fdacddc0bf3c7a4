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
  Graph fixed = chain({conv({1, 1, 1, 1})});
  (*fixed.inputs[0].shape)[2] = {.value = 32};
  EXPECT_THAT(test::message_of([&] { find_tiling(fixed); }), HasSubstr("fixes the size"));
}

}  // namespace
}  // namespace lithe
