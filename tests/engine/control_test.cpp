// If, Loop, Scan and model-local functions.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lithe/base/error.h"
#include "lithe/engine/executor.h"
#include "tests/engine/graphs.h"

namespace lithe {
namespace {

using testing::graph;
using testing::node;
using testing::value;
using testing::vector_of;

GraphPtr shared(Graph g) {
  return std::make_shared<const Graph>(std::move(g));
}

TEST(ControlFlow, IfReadsValuesAroundIt) {
  // y = x > 0 ? x + c : -x, with c a constant of the outer graph and the condition computed.
  const auto then_branch = shared(graph({}, {node("Add", {"x", "c"}, {"t"})}, {"t"}));
  const auto else_branch = shared(graph({}, {node("Neg", {"x"}, {"e"})}, {"e"}));
  Graph g =
      graph({value("x")},
            {node("Greater", {"x", "zero"}, {"positive"}),
             node("If", {"positive"}, {"y"}, {{"then_branch", then_branch}, {"else_branch", else_branch}})},
            {"y"});
  g.constants["zero"] = TensorData::scalar(0.f);
  g.constants["c"] = TensorData::scalar(10.f);
  Executor run(g);
  EXPECT_FLOAT_EQ(run(at::scalar_tensor(3.f)).item<float>(), 13);
  EXPECT_FLOAT_EQ(run(at::scalar_tensor(-3.f)).item<float>(), 3);
  const at::Tensor x = at::scalar_tensor(3.f).requires_grad_();
  run(x).backward();
  EXPECT_FLOAT_EQ(x.grad().item<float>(), 1);
}

TEST(ControlFlow, BranchesMayReturnOuterValuesAndNest) {
  const auto inner_then = shared(graph({}, {}, {"x"}));
  const auto inner_else = shared(graph({}, {node("Neg", {"k"}, {"n"})}, {"n"}));
  Graph then_graph = graph(
      {}, {node("If", {"second"}, {"r"}, {{"then_branch", inner_then}, {"else_branch", inner_else}})}, {"r"});
  then_graph.constants["k"] = TensorData::scalar(7.f);
  const auto else_branch = shared(graph({}, {node("Abs", {"x"}, {"e"})}, {"e"}));
  Graph g = graph(
      {value("x"), value("first", {}, DType::Bool), value("second", {}, DType::Bool)},
      {node("If", {"first"}, {"y"}, {{"then_branch", shared(then_graph)}, {"else_branch", else_branch}})},
      {"y"});
  Executor run(g);
  const auto result = [&](bool first, bool second) {
    return run
        .run({{"x", at::scalar_tensor(-2.f)},
              {"first", at::scalar_tensor(first, at::kBool)},
              {"second", at::scalar_tensor(second, at::kBool)}})
        .at("y")
        .item<float>();
  };
  EXPECT_FLOAT_EQ(result(true, true), -2);
  EXPECT_FLOAT_EQ(result(true, false), -7);
  EXPECT_FLOAT_EQ(result(false, true), 2);
}

TEST(ControlFlow, LoopCarriesAndCollects) {
  // Doubles v while v < limit; collects every v.
  Graph body = graph({value("i", {}, DType::Int64), value("go", {}, DType::Bool), value("v")},
                     {node("Add", {"v", "v"}, {"next"}), node("Less", {"next", "limit"}, {"again"}),
                      node("Identity", {"next"}, {"seen"})},
                     {"again", "next", "seen"});
  Graph g =
      graph({value("x"), value("limit")},
            {node("Loop", {"", "yes", "x"}, {"last", "all"}, {{"body", shared(body)}})}, {"last", "all"});
  const auto flag = std::make_shared<std::vector<std::byte>>(1, std::byte{1});
  g.constants["yes"] = TensorData(DType::Bool, {}, *flag, flag);
  Executor run(g);
  const Feeds out = run.run({{"x", at::scalar_tensor(1.f)}, {"limit", at::scalar_tensor(10.f)}});
  EXPECT_FLOAT_EQ(out.at("last").item<float>(), 16);
  EXPECT_TRUE(at::equal(out.at("all"), at::tensor({2.f, 4.f, 8.f, 16.f})));
}

TEST(ControlFlow, LoopCountsTrips) {
  Graph body =
      graph({value("i", {}, DType::Int64), value("go", {}, DType::Bool), value("v", {}, DType::Int64)},
            {node("Add", {"v", "i"}, {"next"}), node("Identity", {"go"}, {"again"})}, {"again", "next"});
  Graph g = graph({value("n", {}, DType::Int64), value("x", {}, DType::Int64)},
                  {node("Loop", {"n", "", "x"}, {"y"}, {{"body", shared(body)}})}, {"y"});
  Executor run(g);
  const auto total = [&](std::int64_t n) {
    return run.run({{"n", at::scalar_tensor(n, at::kLong)}, {"x", at::scalar_tensor(100, at::kLong)}})
        .at("y")
        .item<std::int64_t>();
  };
  EXPECT_EQ(total(5), 110);
  EXPECT_EQ(total(0), 100);
}

TEST(ControlFlow, ScanRunsAlongAnAxis) {
  Graph body =
      graph({value("sum"), value("item")},
            {node("Add", {"sum", "item"}, {"next"}), node("Identity", {"next"}, {"out"})}, {"next", "out"});
  Graph g = graph({value("s"), value("x")},
                  {node("Scan", {"s", "x"}, {"total", "running"},
                        {{"body", shared(body)}, {"num_scan_inputs", std::int64_t{1}}})},
                  {"total", "running"});
  Executor run(g);
  const at::Tensor x = at::randn({4, 3});
  const Feeds out = run.run({{"s", at::zeros({3})}, {"x", x}});
  EXPECT_TRUE(at::allclose(out.at("total"), x.sum(0)));
  EXPECT_TRUE(at::allclose(out.at("running"), x.cumsum(0)));
}

/// scaled_shift(x, bias) = LeakyRelu<alpha>(x) + bias in a domain of its own, calling another function.
Graph graph_with_functions() {
  Graph g = graph({value("x")},
                  {node("scaled_shift", {"x", "b"}, {"y"}, {{"slope", 0.5f}}, "org.example"),
                   node("scaled_shift", {"y"}, {"z"}, {}, "org.example")},
                  {"y", "z"});
  g.constants["b"] = vector_of({1, 1});
  g.header.opsets = {{"", 17}, {"org.example", 1}};
  Function outer{.name = "scaled_shift", .domain = "org.example"};
  outer.inputs = {"v", "bias"};
  outer.outputs = {"out"};
  outer.default_attributes = {{"slope", 0.25f}};
  outer.opsets = {{"", 15}, {"org.example", 1}};
  outer.nodes = {node("LeakyRelu", {"v"}, {"r"}, {{"alpha", AttributeReference{"slope", 1}}}),
                 node("twice", {"r"}, {"out"}, {}, "org.example")};
  Function inner{.name = "twice", .domain = "org.example"};
  inner.inputs = {"r"};
  inner.outputs = {"t"};
  inner.opsets = {{"", 13}};
  inner.nodes = {node("Add", {"r", "r"}, {"t"})};
  g.header.functions = {outer, inner};
  return g;
}

TEST(Functions, RunTheirBodiesWithTheCallsAttributes) {
  Executor run(graph_with_functions());
  const Feeds out = run.run({{"x", at::tensor({-2.f, 3.f})}});
  EXPECT_TRUE(at::equal(out.at("y"), at::tensor({-2.f, 6.f})));   // slope 0.5, doubled
  EXPECT_TRUE(at::equal(out.at("z"), at::tensor({-1.f, 12.f})));  // the default slope, and an input left out
}

TEST(Functions, MayNotCallThemselves) {
  Graph g = graph_with_functions();
  g.header.functions[1].nodes = {node("scaled_shift", {"r"}, {"t"}, {}, "org.example")};
  Executor run(g);
  EXPECT_THROW(run.run({{"x", at::tensor({-2.f, 3.f})}}), Error);
}

TEST(Functions, MissingOperatorsInsideAreReported) {
  Graph g = graph_with_functions();
  g.header.functions[1].nodes[0].op_type = "Frobnicate";
  EXPECT_THAT(missing_operators(g), ::testing::ElementsAre("Frobnicate (opset 13), 1 node, first 'make_t'"));
}

}  // namespace
}  // namespace lithe
