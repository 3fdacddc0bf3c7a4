#include "lithe/graph/shape_inference.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lithe/base/error.h"
#include "lithe/graph/cost.h"
#include "lithe/graph/onnx.h"
#include "lithe/models/builder.h"
#include "lithe/models/models.h"
#include "tests/graph/shape_test.h"
#include "tests/real_models.h"

namespace lithe {
namespace {

using test::type_of;
using testing::HasSubstr;

std::string error_of(Graph graph, const InputShapes& shapes = {}) {
  try {
    infer_shapes(graph, shapes);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

/// Values that inference left incomplete.
std::vector<std::string> incomplete(const Graph& graph) {
  std::vector<std::string> names;
  for (const Node& node : graph.nodes)
    for (const std::string& name : node.outputs) {
      const ValueInfo* info = graph.info(name);
      bool complete = info && info->shape && info->dtype != DType::Undefined;
      if (complete)
        for (const Dim& dim : *info->shape) complete = complete && dim.known();
      if (!complete) names.push_back(describe(node) + ": " + (info ? format_type(*info) : "nothing"));
    }
  return names;
}

TEST(InferShapes, KeepsTheBatchSymbolic) {
  Graph graph = build_resnet18({.image_size = 224});
  infer_shapes(graph);
  EXPECT_EQ(type_of(graph, "conv1"), "float32 [batch, 64, 112, 112]");
  EXPECT_EQ(type_of(graph, "maxpool"), "float32 [batch, 64, 56, 56]");
  EXPECT_EQ(type_of(graph, "layer4.1.relu2"), "float32 [batch, 512, 7, 7]");
  EXPECT_EQ(type_of(graph, "flatten"), "float32 [batch, 512]");
  EXPECT_EQ(type_of(graph, "logits"), "float32 [batch, 1000]");
}

TEST(InferShapes, ResolvesShapeChainsOfTransformers) {
  for (const bool class_token : {false, true}) {
    Graph graph = build_vit({.dim = 96, .depth = 2, .classes = 10, .class_token = class_token});
    infer_shapes(graph);
    const std::string tokens = class_token ? "197" : "196";
    EXPECT_EQ(type_of(graph, "patch_embed.transpose"), "float32 [batch, 196, 96]");
    EXPECT_EQ(type_of(graph, "blocks.1.attn.split"), "float32 [3, batch, 3, " + tokens + ", 32]");
    EXPECT_EQ(type_of(graph, "blocks.1.attn.scores"), "float32 [batch, 3, " + tokens + ", " + tokens + "]");
    EXPECT_EQ(type_of(graph, "blocks.1.add2"), "float32 [batch, " + tokens + ", 96]");
    EXPECT_EQ(type_of(graph, "logits"), "float32 [batch, 10]");
  }
}

TEST(InferShapes, MakesEveryValueConcreteForConcreteInputs) {
  const SuperResolutionOptions small{.channels = 8, .blocks = 2, .layers = 2};
  std::vector<Graph> models{build_resnet50({.width = 0.25}),
                            build_resnet20(),
                            build_regnetx_600m({.width = 0.25}),
                            build_mobilenet_v2({.width = 0.5}),
                            build_edsr(small),
                            build_rdn(small),
                            build_unet({.base = 16}),
                            build_vit({.dim = 48, .depth = 2})};
  for (Graph& graph : models) {
    SCOPED_TRACE(graph.name);
    infer_shapes(graph, concrete_input_shapes(graph, {}, 3));
    EXPECT_THAT(incomplete(graph), testing::IsEmpty());
    EXPECT_EQ(graph.outputs[0].shape->front().value, 3);
    EXPECT_NO_THROW(graph.validate());
  }
}

TEST(InferShapes, RealModelsComeOutConcrete) {
  const std::map<std::string, InputShapes> sizes{{"imdn_x2.onnx", {{"", {1, 3, 64, 64}}}},
                                                 {"rlfn_x4.onnx", {{"", {1, 3, 64, 64}}}}};
  for (const std::filesystem::path& path : test::real_models()) {
    const std::string file = path.filename().string();
    SCOPED_TRACE(path.string());
    Graph graph = read_onnx(path);
    InputShapes given;
    if (const auto found = sizes.find(file); found != sizes.end())
      given[graph.required_inputs().at(0)->name] = found->second.at("");
    graph.values.clear();
    infer_shapes(graph, concrete_input_shapes(graph, given));
    EXPECT_THAT(incomplete(graph), testing::IsEmpty());
  }
}

TEST(InferShapes, NamesTheNodeWhoseWeightsDoNotFit) {
  Graph graph = build_resnet18({.width = 0.25});
  graph.constants["layer2.0.conv1.weight"] =
      TensorData::from<float>({32, 5, 3, 3}, std::vector<float>(32 * 45));
  EXPECT_THAT(error_of(graph), testing::AllOf(HasSubstr("layer2.0.conv1"), HasSubstr("channels")));
  graph = build_resnet18({.width = 0.25});
  graph.constants["fc.weight"] = TensorData::from<float>({10, 7}, std::vector<float>(70));
  EXPECT_THAT(error_of(graph), HasSubstr("Gemm node 'fc'"));
  EXPECT_THAT(error_of(build_resnet20(), {{"input", {1, 4, 32, 32}}}), HasSubstr("dimension 1"));
  EXPECT_THAT(error_of(build_resnet20(), {{"image", {1, 3, 32, 32}}}), HasSubstr("no input 'image'"));
}

TEST(InferShapes, UnknownOperatorsGiveUnknownShapes) {
  Graph graph = build_resnet20();
  for (Node& node : graph.nodes)
    if (node.name == "layer1.0.relu1") node.op_type = "Mystery";
  EXPECT_EQ(error_of(graph), "no error");
  infer_shapes(graph);
  EXPECT_EQ(type_of(graph, "layer1.0.relu1"), "nothing");
  EXPECT_EQ(type_of(graph, "logits"), "float32 [batch, 10]");
}

TEST(InferShapes, AttentionTakesItsWidthFromTheValues) {
  GraphBuilder net("attention", 0);
  const std::string q = net.input("q", {-1, 5, 8 * 6}), k = net.input("k", {-1, 7, 4 * 6}),
                    v = net.input("v", {-1, 7, 4 * 3});
  net.output("y",
             net.node("Attention", "packed", {q, k, v},
                      {{"q_num_heads", std::int64_t{8}}, {"kv_num_heads", std::int64_t{4}}}),
             {});
  const std::string wide = net.input("wide", {2, 8, 5, 6}), keys = net.input("keys", {2, 8, 7, 6}),
                    values = net.input("values", {2, 8, 7, 3});
  net.output("z", net.node("Attention", "open", {wide, keys, values}), {});
  Graph graph = net.finish();
  graph.header.opsets[""] = 23;
  for (ValueInfo& output : graph.outputs) output.shape.reset();
  infer_shapes(graph, {{"q", {2, 5, 48}}, {"k", {2, 7, 24}}, {"v", {2, 7, 12}}});
  EXPECT_EQ(type_of(graph, "y"), "float32 [2, 5, 24]");
  EXPECT_EQ(type_of(graph, "z"), "float32 [2, 8, 5, 3]");
  // Each of 2 * 8 heads: 5 x 7 scores of 6 products, and 5 sums of 3 numbers over 7.
  const Cost cost = measure_cost(graph);
  EXPECT_EQ(cost.node_macs, (std::vector<std::int64_t>(2, 2 * 8 * (5 * 7 * 6 + 5 * 3 * 7))));
  for (Node& node : graph.nodes) node.attributes.erase("q_num_heads");
  EXPECT_THAT(error_of(graph), HasSubstr("need q_num_heads"));
}

TEST(InferShapes, FollowsProductsOfSymbols) {
  GraphBuilder net("windows", 0);
  const std::string x = net.input("x", {-1, 14, 14, 8});
  const std::string split = net.reshape("split", x, {-1, 2, 7, 2, 7, 8});
  const std::string windows =
      net.reshape("windows", net.transpose("moved", split, {0, 1, 3, 2, 4, 5}), {-1, 49, 8});
  net.output("y", net.reshape("back", windows, {-1, 2, 2, 7, 7, 8}), {});
  Graph graph = net.finish();
  graph.outputs[0].shape.reset();
  infer_shapes(graph);
  EXPECT_EQ(type_of(graph, "windows"), "float32 [4*batch, 49, 8]");
  EXPECT_EQ(type_of(graph, "y"), "float32 [batch, 2, 2, 7, 7, 8]");
}

TEST(InferShapes, EntersFunctionsAndBranches) {
  Graph graph;
  graph.header.opsets = {{"", 17}, {"lithe", 1}};
  graph.inputs = {{.name = "x", .dtype = DType::Float32, .shape = DimVector{{-1, "n"}, {6, ""}}},
                  {.name = "flag", .dtype = DType::Bool, .shape = DimVector{}}};
  Function function{
      .name = "Halve", .domain = "lithe", .inputs = {"a"}, .outputs = {"b"}, .attributes = {"axis"}};
  function.opsets[""] = 17;
  function.nodes.push_back({.op_type = "Split",
                            .inputs = {"a"},
                            .outputs = {"b", "rest"},
                            .attributes = {{"axis", AttributeReference{"axis", 2}}}});
  graph.header.functions.push_back(function);
  graph.nodes.push_back({.name = "halve",
                         .op_type = "Halve",
                         .domain = "lithe",
                         .inputs = {"x"},
                         .outputs = {"h"},
                         .attributes = {{"axis", std::int64_t{1}}}});
  const auto branch = [](const std::string& op, const std::string& output) {
    Graph inner;
    inner.nodes.push_back({.name = output, .op_type = op, .inputs = {"h"}, .outputs = {output}});
    inner.outputs = {{.name = output}};
    return std::make_shared<const Graph>(inner);
  };
  graph.nodes.push_back({.name = "choice",
                         .op_type = "If",
                         .inputs = {"flag"},
                         .outputs = {"y"},
                         .attributes = {{"then_branch", GraphPtr(branch("Relu", "r"))},
                                        {"else_branch", GraphPtr(branch("Transpose", "t"))}}});
  graph.outputs = {{.name = "y"}};
  infer_shapes(graph);
  EXPECT_EQ(type_of(graph, "h"), "float32 [n, 3]");
  EXPECT_EQ(type_of(graph, "y"), "float32 [?, ?]");
}

TEST(InferShapes, RefusesSizesAndFunctionsWithoutMeasure) {
  Graph pool = build_resnet20();
  for (Node& node : pool.nodes)
    if (node.name == "conv1") node.attributes["dilations"] = std::vector<std::int64_t>{INT64_MAX, 1};
  EXPECT_THAT(error_of(pool), HasSubstr("conv1"));
  Graph reshaped;
  reshaped.inputs = {{.name = "x", .dtype = DType::Float32}};
  reshaped.constants["s"] = TensorData::from<std::int64_t>({2}, {INT64_MAX, INT64_MAX});
  reshaped.nodes = {{.name = "r", .op_type = "Reshape", .inputs = {"x", "s"}, .outputs = {"y"}}};
  reshaped.outputs = {{.name = "y"}};
  EXPECT_THAT(error_of(reshaped), HasSubstr("Reshape node 'r'"));

  Graph laughs;  // every function calls the next one ten times
  laughs.header.opsets = {{"", 17}, {"f", 1}};
  laughs.inputs = {{.name = "x", .dtype = DType::Float32}};
  for (int level = 0; level < 9; ++level) {
    Function function{.name = fmt::format("F{}", level), .domain = "f", .inputs = {"a"}, .outputs = {"b9"}};
    for (int i = 0; i < 10; ++i) {
      const bool last = level == 8;
      function.nodes.push_back({.op_type = last ? "Relu" : fmt::format("F{}", level + 1),
                                .domain = last ? "" : "f",
                                .inputs = {i == 0 ? "a" : fmt::format("b{}", i - 1)},
                                .outputs = {fmt::format("b{}", i)}});
    }
    function.opsets = {{"", 17}, {"f", 1}};
    laughs.header.functions.push_back(function);
  }
  laughs.nodes = {{.name = "boom", .op_type = "F0", .domain = "f", .inputs = {"x"}, .outputs = {"y"}}};
  laughs.outputs = {{.name = "y"}};
  EXPECT_THAT(error_of(laughs), HasSubstr("nodes"));
  laughs.header.functions[8].nodes[0] = laughs.header.functions[0].nodes[0];
  EXPECT_THAT(error_of(laughs), HasSubstr("deep"));
}

TEST(FoldShapeConstants, LeavesNoShapeChainInAConcreteModel) {
  Graph graph = build_vit({.dim = 48, .depth = 2, .classes = 10});
  const std::size_t before = graph.nodes.size();
  EXPECT_GT(fold_shape_constants(graph, concrete_input_shapes(graph)), 0);
  EXPECT_LT(graph.nodes.size(), before);
  for (const Node& node : graph.nodes) {
    EXPECT_NE(node.op_type, "Shape") << node.name;
    EXPECT_NE(node.op_type, "Unsqueeze") << node.name;
  }
  graph.validate();
  infer_shapes(graph);
  EXPECT_EQ(type_of(graph, "logits"), "float32 [1, 10]");
  EXPECT_EQ(graph.constant("blocks.0.attn.heads.target")->to_ints(),
            (std::vector<std::int64_t>{1, 197, 3, 3, 16}));
}

TEST(FoldShapeConstants, KeepsWhatDependsOnTheBatch) {
  Graph graph = build_vit({.dim = 48, .depth = 1, .classes = 10});
  fold_shape_constants(graph);
  bool shape_node = false;
  for (const Node& node : graph.nodes) shape_node = shape_node || node.op_type == "Shape";
  EXPECT_TRUE(shape_node);
}

TEST(ConcreteInputShapes, AsksForWhatItCannotGuess) {
  Graph graph = build_edsr({.channels = 8, .blocks = 1});
  EXPECT_EQ(concrete_input_shapes(graph, {}, 4).at("input"), (std::vector<std::int64_t>{4, 3, 48, 48}));
  graph.inputs[0].shape = DimVector{{-1, "n"}, {3, ""}, {-1, "h"}, {-1, "w"}};
  try {
    concrete_input_shapes(graph);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("--shape input="));
  }
}

}  // namespace
}  // namespace lithe
