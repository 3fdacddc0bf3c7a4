// Fusing must change nothing but speed: every pattern, fused against unfused, and patterns that must be left
// alone.
#include <gtest/gtest.h>

#include "lithe/engine/executor.h"
#include "lithe/engine/fuse.h"
#include "lithe/models/models.h"
#include "lithe/ops/registry.h"
#include "tests/engine/graphs.h"

namespace lithe {
namespace {

using testing::graph;
using testing::node;
using testing::value;
using testing::vector_of;

/// The operators that are left after fusing everything between inputs and outputs, in order.
std::vector<std::string> fused_types(const Graph& g, const std::vector<std::string>& extra_outputs = {}) {
  std::map<std::string, at::Tensor> constants;
  for (const auto& [name, data] : g.constants) constants[name] = to_tensor(data);
  Program::Source source;
  for (const Node& one : g.nodes) source.nodes.push_back(&one);
  for (const ValueInfo& input : g.inputs) source.inputs.push_back(input.name);
  for (const ValueInfo& output : g.outputs) source.outputs.push_back(output.name);
  source.outputs.insert(source.outputs.end(), extra_outputs.begin(), extra_outputs.end());
  source.constant = [&](const std::string& name) -> const at::Tensor* {
    const auto found = constants.find(name);
    return found == constants.end() ? nullptr : &found->second;
  };
  source.type = [&](const std::string& name) { return declared_type(g, name); };
  std::vector<std::string> types;
  for (const Node& one : fuse(source, Scope{&g, &g.header.opsets}, {}).nodes)
    types.push_back(one.domain.empty() ? one.op_type : "fused " + one.op_type);
  return types;
}

void expect_same(const Graph& g, const at::Tensor& x, double tolerance = 1e-5) {
  Executor fused(g), plain(g, {.channels_last = false, .fuse = false});
  const Feeds feeds{{g.inputs[0].name, x}};
  const at::Tensor copy = x.clone();
  const Feeds a = fused.run(feeds), b = plain.run(feeds);
  EXPECT_TRUE(at::equal(copy, x)) << "the input was overwritten";
  for (const auto& [name, expected] : b) {
    EXPECT_EQ(a.at(name).sizes(), expected.sizes()) << name;
    EXPECT_LE((a.at(name) - expected).abs().max().item<double>(),
              tolerance * expected.abs().max().item<double>())
        << name;
  }
}

TensorData random_data(const std::vector<std::int64_t>& shape, double offset = 0) {
  return to_tensor_data(at::randn(shape) * 0.5 + offset);
}

using Strings = std::vector<std::string>;

Graph gelu_graph(int form) {
  Graph g =
      graph({value("x")},
            {node("Div", {"x", "root"}, {"d"}), node("Erf", {"d"}, {"e"}), node("Add", {"e", "one"}, {"p"})},
            {"y"});
  if (form == 0) {
    g.nodes.push_back(node("Mul", {"x", "p"}, {"m"}));
    g.nodes.push_back(node("Mul", {"m", "half"}, {"y"}));
  } else if (form == 1) {
    g.nodes.push_back(node("Mul", {"p", "half"}, {"m"}));
    g.nodes.push_back(node("Mul", {"x", "m"}, {"y"}));
  } else {
    g.nodes.push_back(node("Mul", {"x", "half"}, {"m"}));
    g.nodes.push_back(node("Mul", {"m", "p"}, {"y"}));
  }
  g.constants["root"] = TensorData::scalar(1.41421354f);
  g.constants["one"] = TensorData::scalar(1.f);
  g.constants["half"] = TensorData::scalar(0.5f);
  return g;
}

TEST(Fuse, GeluInEveryOrder) {
  for (const int form : {0, 1, 2}) {
    const Graph g = gelu_graph(form);
    EXPECT_EQ(fused_types(g), Strings{"fused Gelu"}) << form;
    expect_same(g, at::randn({4, 7}));
  }
}

TEST(Fuse, LeavesWhatOnlyLooksLikeGelu) {
  Graph g = gelu_graph(0);
  g.constants["one"] = TensorData::scalar(2.f);
  EXPECT_EQ(fused_types(g).size(), 5u);
  expect_same(g, at::randn({4, 7}));
}

TEST(Fuse, KeepsValuesThatAreAskedFor) {
  const Graph g = gelu_graph(0);
  EXPECT_EQ(fused_types(g, {"e"}).size(), 5u);
  Executor run(g);
  const at::Tensor x = at::randn({5});
  const Feeds out = run.run({{"x", x}}, {"e", "y"});
  EXPECT_TRUE(at::allclose(out.at("e"), at::erf(x / std::sqrt(2.0)), 1e-5, 1e-6));
  EXPECT_TRUE(at::allclose(out.at("y"), at::gelu(x), 1e-5, 1e-6));
}

Graph layer_norm_graph() {
  const std::vector<std::int64_t> last{-1};
  Graph g =
      graph({value("x")},
            {node("ReduceMean", {"x"}, {"mean"}, {{"axes", last}}), node("Sub", {"x", "mean"}, {"c"}),
             node("Pow", {"c", "two"}, {"s"}), node("ReduceMean", {"s"}, {"v"}, {{"axes", last}}),
             node("Add", {"v", "eps"}, {"ve"}), node("Sqrt", {"ve"}, {"r"}), node("Div", {"c", "r"}, {"n"}),
             node("Mul", {"n", "w"}, {"nw"}), node("Add", {"nw", "b"}, {"y"})},
            {"y"});
  g.constants["two"] = TensorData::scalar(2.f);
  g.constants["eps"] = TensorData::scalar(1e-3f);
  g.constants["w"] = random_data({6}, 1);
  g.constants["b"] = random_data({6});
  return g;
}

TEST(Fuse, LayerNorm) {
  Graph g = layer_norm_graph();
  EXPECT_EQ(fused_types(g), Strings{"fused LayerNorm"});
  expect_same(g, at::randn({2, 3, 6}) * 0.1);
  g.nodes[3].attributes["axes"] = std::vector<std::int64_t>{1};
  EXPECT_EQ(fused_types(g).size(), 9u);
}

TEST(Fuse, LinearAndSilu) {
  Graph g = graph({value("x")},
                  {node("MatMul", {"x", "w"}, {"m"}), node("Add", {"b", "m"}, {"h"}),
                   node("Sigmoid", {"h"}, {"s"}), node("Mul", {"h", "s"}, {"y"})},
                  {"y"});
  g.constants["w"] = random_data({5, 3});
  g.constants["b"] = random_data({3});
  EXPECT_EQ(fused_types(g), (Strings{"fused Linear", "fused Silu"}));
  expect_same(g, at::randn({2, 4, 5}));
  expect_same(g, at::randn({4, 2, 5}).transpose(0, 1));
}

Graph conv_norm_graph(std::int64_t groups, bool bias) {
  Graph g = graph({value("x")},
                  {node("Conv", bias ? Strings{"x", "w", "cb"} : Strings{"x", "w"}, {"c"},
                        {{"group", groups}, {"pads", std::vector<std::int64_t>{1, 1, 1, 1}}}),
                   node("BatchNormalization", {"c", "s", "b", "m", "v"}, {"n"}), node("Relu", {"n"}, {"y"})},
                  {"y"});
  g.constants["w"] = random_data({8, 4 / groups, 3, 3});
  for (const char* name : {"cb", "s", "b", "m"}) g.constants[name] = random_data({8}, 0.5);
  g.constants["v"] = to_tensor_data(at::rand({8}) + 0.5);
  return g;
}

TEST(Fuse, BatchNormIntoConvolution) {
  for (const std::int64_t groups : {1, 4}) {
    for (const bool bias : {false, true}) {
      const Graph g = conv_norm_graph(groups, bias);
      EXPECT_EQ(fused_types(g), (Strings{"Conv", "Relu"}));
      expect_same(g, at::randn({2, 4, 9, 9}), 1e-4);
    }
  }
}

TEST(Fuse, BatchNormStaysWhenItsInputIsReadElsewhere) {
  Graph g = conv_norm_graph(1, true);
  g.nodes.push_back(node("Add", {"c", "y"}, {"z"}));
  g.outputs.push_back(value("z"));
  EXPECT_EQ(fused_types(g), (Strings{"Conv", "BatchNormalization", "Relu", "Add"}));
  expect_same(g, at::randn({2, 4, 9, 9}), 1e-4);
}

TEST(Fuse, QuantizeAndDequantizeAgreeBitForBit) {
  Graph g = graph(
      {value("x")},
      {node("QuantizeLinear", {"x", "s", "z"}, {"q"}), node("DequantizeLinear", {"q", "s", "z"}, {"y"})},
      {"y"});
  g.constants["s"] = TensorData::scalar(0.037f);
  const at::Tensor x = at::randn({1000}) * 5;
  const auto check = [&] {
    EXPECT_EQ(fused_types(g), Strings{"fused FakeQuantize"});
    Executor fused(g), plain(g, {.fuse = false});
    EXPECT_TRUE(at::equal(fused(x), plain(x)));
    // Values on the grid's ties.
    const at::Tensor ties = (at::arange(-200, 200).to(at::kFloat) + 0.5) * 0.037f;
    EXPECT_TRUE(at::equal(fused(ties), plain(ties)));
  };
  g.constants["z"] = TensorData::scalar(std::uint8_t{117});
  check();
  g.constants["z"] = TensorData::scalar(std::int8_t{-3});
  check();
}

TEST(Fuse, ConstantPartsAreEvaluatedOnce) {
  Graph g = graph({value("x")},
                  {node("Shape", {"w"}, {"shape"}), node("Cast", {"shape"}, {"f"}, {{"to", std::int64_t{1}}}),
                   node("Mul", {"x", "f"}, {"y"})},
                  {"y", "shape"});
  g.constants["w"] = random_data({3, 4});
  EXPECT_EQ(fused_types(g), Strings{"Mul"});
  Executor run(g);
  const Feeds out = run.run({{"x", at::ones({2})}});
  EXPECT_TRUE(at::equal(out.at("y"), at::tensor({3.f, 4.f})));
  EXPECT_TRUE(at::equal(out.at("shape"), at::tensor({3, 4}, at::kLong)));
}

TEST(Fuse, OverwritesOnlyWhatNobodyElseHolds) {
  // Views, a constant, a fed value, a value read twice, and outputs that alias: none may be overwritten
  // early.
  Graph g =
      graph({value("x")},
            {node("Identity", {"x"}, {"same"}), node("Relu", {"same"}, {"r"}),
             node("Reshape", {"r", "flat"}, {"view"}), node("Add", {"view", "one"}, {"a"}),
             node("Relu", {"a"}, {"b"}), node("Mul", {"a", "b"}, {"c"}), node("Sub", {"c", "view"}, {"d"}),
             node("Expand", {"small", "shape"}, {"wide"}), node("Add", {"wide", "d"}, {"e"}),
             node("Mul", {"e", "e"}, {"y"}), node("Add", {"one", "one"}, {"two"})},
            {"y", "r", "two"});
  g.constants["flat"] = TensorData::from<std::int64_t>({1}, {-1});
  g.constants["shape"] = TensorData::from<std::int64_t>({1}, {12});
  g.constants["one"] = vector_of({1});
  g.constants["small"] = vector_of({-2});
  for (int repeat = 0; repeat < 2; ++repeat) expect_same(g, at::randn({3, 4}));
}

TEST(Fuse, ConstantsInsideBranchesAreNotOverwritten) {
  const Graph branch = graph(
      {}, {node("Constant", {}, {"k"}, {{"value", vector_of({-1, 2})}}), node("Relu", {"k"}, {"t"})}, {"t"});
  const auto shared = std::make_shared<const Graph>(branch);
  Graph g = graph({value("x", {}, DType::Bool)},
                  {node("If", {"x"}, {"y"}, {{"then_branch", shared}, {"else_branch", shared}})}, {"y"});
  Executor run(g);
  for (int repeat = 0; repeat < 2; ++repeat)
    EXPECT_TRUE(at::equal(run(at::ones({}, at::kBool)), at::tensor({0.f, 2.f})));
  EXPECT_EQ(branch.nodes[0].find<TensorData>("value")->to_floats()[0], -1);
}

TEST(Fuse, BlockedLayoutAgreesOnWholeNets) {
  const Graph resnet = build_resnet18({.classes = 10, .image_size = 64});
  const auto types = fused_types(resnet);
  EXPECT_EQ(std::count(types.begin(), types.end(), "fused Conv"), 20);
  expect_same(resnet, at::randn({2, 3, 64, 64}), 1e-4);
  expect_same(build_resnet50({.classes = 10, .image_size = 64, .width = 0.25}), at::randn({1, 3, 64, 64}),
              1e-4);
  expect_same(build_resnet20(), at::randn({2, 3, 32, 32}), 1e-4);
  expect_same(build_edsr({.channels = 16, .blocks = 4}), at::randn({1, 3, 48, 48}), 1e-4);
}

TEST(Fuse, BlockedValuesCanBeFetched) {
  const Graph net = build_resnet18({.classes = 10, .image_size = 32});
  Executor fused(net), plain(net, {.fuse = false});
  const at::Tensor x = at::randn({2, 3, 32, 32});
  std::vector<std::string> names;
  for (const Node& one : net.nodes)
    if (one.is("Add") || one.is("Relu")) names.push_back(one.output(0));
  const Feeds a = fused.run({{"input", x}}, names), b = plain.run({{"input", x}}, names);
  for (const std::string& name : names) {
    EXPECT_EQ(a.at(name).layout(), at::kStrided);
    EXPECT_LT((a.at(name) - b.at(name)).abs().max().item<float>(),
              1e-4f * b.at(name).abs().max().item<float>());
  }
}

TEST(Fuse, TransformerAgrees) {
  const Graph vit =
      build_vit({.image_size = 32, .patch = 8, .dim = 32, .depth = 2, .heads = 4, .classes = 10});
  const auto types = fused_types(vit);
  EXPECT_EQ(std::count(types.begin(), types.end(), "fused Gelu"), 2);
  EXPECT_EQ(std::count(types.begin(), types.end(), "fused LayerNorm"), 5);
  expect_same(vit, at::randn({3, 3, 32, 32}), 1e-4);
}

}  // namespace
}  // namespace lithe
