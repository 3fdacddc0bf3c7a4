#include "lithe/engine/executor.h"

#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lithe/base/error.h"
#include "lithe/models/models.h"
#include "lithe/ops/registry.h"
#include "tests/engine/graphs.h"

namespace lithe {
namespace {

using ::testing::ElementsAre;
using testing::graph;
using ::testing::HasSubstr;
using testing::node;
using testing::value;
using testing::vector_of;

std::string message_of(const std::function<void()>& action, ErrorKind kind = ErrorKind::Input) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind);
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

/// x -> a = relu(x) -> b = a + c -> y = a * b, and apart from that z = neg(other).
Graph small_graph() {
  Graph g = graph({value("x", {{-1, 3}}), value("other", {{2}})},
                  {node("Relu", {"x"}, {"a"}), node("Add", {"a", "c"}, {"b"}), node("Mul", {"a", "b"}, {"y"}),
                   node("Neg", {"other"}, {"z"})},
                  {"y", "z"});
  g.constants["c"] = vector_of({1, 2, 3});
  return g;
}

at::Tensor row(const std::vector<float>& values) {
  return at::tensor(values).unsqueeze(0);
}

TEST(Executor, RunsTheWholeGraph) {
  Executor run(small_graph());
  const Feeds out = run.run({{"x", row({1, -2, 3})}, {"other", at::tensor({4.f, 5.f})}});
  EXPECT_TRUE(at::equal(out.at("y"), row({2, 0, 18})));
  EXPECT_TRUE(at::equal(out.at("z"), at::tensor({-4.f, -5.f})));
}

TEST(Executor, ComputesOnlyWhatIsAskedFor) {
  Executor run(small_graph());
  std::vector<std::string> seen;
  const Feeds out = run.run({{"x", row({1, -2, 3})}}, {"b"},
                            [&](const std::string& name, const at::Tensor&) { seen.push_back(name); });
  EXPECT_THAT(seen, ElementsAre("x", "a", "b"));
  EXPECT_TRUE(at::equal(out.at("b"), row({2, 2, 6})));
}

TEST(Executor, FedInnerValuesReplaceWhatMakesThem) {
  Executor run(small_graph());
  EXPECT_TRUE(at::equal(run.slice("a", "y", row({1, 1, 1})), row({2, 3, 4})));
  // Feeding both an inner value and a constant.
  const Feeds out = run.run({{"a", row({1, 1, 1})}, {"c", at::zeros({3})}}, {"y"});
  EXPECT_TRUE(at::equal(out.at("y"), row({1, 1, 1})));
}

TEST(Executor, SliceNeedsItsInputAlone) {
  Executor run(small_graph());
  EXPECT_THAT(message_of([&] { run.slice("other", "y", at::ones({2})); }),
              HasSubstr("depends on the input 'x'"));
  EXPECT_THAT(message_of([&] { run.slice("x", "nowhere", row({1, 2, 3})); }), HasSubstr("'nowhere'"));
  EXPECT_THAT(message_of([&] { run.slice("nowhere", "y", row({1, 2, 3})); }), HasSubstr("'nowhere'"));
}

TEST(Executor, SlicesOfANetJoinToTheWhole) {
  const Graph net = build_resnet18({.image_size = 32});
  Executor run(net);
  const at::Tensor x = at::randn({2, 3, 32, 32});
  const at::Tensor whole = run(x);
  const std::string output = net.outputs[0].name, input = net.required_inputs()[0]->name;
  int joins = 0;
  for (const Node& one : net.nodes) {
    if (!one.is("Add")) continue;
    const at::Tensor middle = run.slice(input, one.output(0), x);
    EXPECT_LT((run.slice(one.output(0), output, middle) - whole).abs().max().item<float>(),
              1e-4f * whole.abs().max().item<float>());
    ++joins;
  }
  EXPECT_EQ(joins, 8);
}

TEST(Executor, ChecksInputs) {
  Executor run(small_graph());
  const at::Tensor x = row({1, 2, 3}), other = at::ones({2});
  EXPECT_THAT(message_of([&] { run.run({{"x", x}}); }), HasSubstr("'other'"));
  EXPECT_THAT(message_of([&] { run.run({{"x", x}, {"other", at::ones({3})}}); }), HasSubstr("[3]"));
  EXPECT_THAT(message_of([&] {
                run.run({{"x", at::ones({3})}, {"other", other}});
              }),
              HasSubstr("[batch, 3]"));
  EXPECT_THAT(message_of([&] { run.run({{"x", x.to(at::kLong)}, {"other", other}}); }), HasSubstr("int64"));
  EXPECT_THAT(message_of([&] { run(x); }), HasSubstr("2 inputs"));
}

TEST(Executor, NamesTheNodeThatCannotRun) {
  Graph g = graph({value("x")}, {node("MatMul", {"x", "w"}, {"y"})}, {"y"});
  g.constants["w"] = TensorData::from<float>({2, 2}, {1, 2, 3, 4});
  Executor run(g);
  const std::string message = message_of([&] { run(at::ones({1, 3})); });
  EXPECT_THAT(message, HasSubstr("make_y"));
  EXPECT_THAT(message, HasSubstr("[1, 3]"));
}

TEST(Executor, ReportsEveryMissingOperator) {
  Graph inner = graph({}, {node("Inventive", {"x"}, {"i"})}, {"i"});
  Graph g = graph({value("x")},
                  {node("Frobnicate", {"x"}, {"a"}), node("Frobnicate", {"a"}, {"b"}),
                   node("Swirl", {"b"}, {"c"}, {}, "org.example"),
                   node("If", {"cond"}, {"d"},
                        {{"then_branch", std::make_shared<const Graph>(inner)},
                         {"else_branch", std::make_shared<const Graph>(inner)}})},
                  {"c", "d"});
  g.constants["cond"] = TensorData::from<std::uint8_t>({}, {1});
  g.header.opsets = {{"", 17}, {"org.example", 3}};
  EXPECT_THAT(missing_operators(g), ElementsAre("Frobnicate (opset 17), 2 nodes, first 'make_a'",
                                                "Inventive (opset 17), 2 nodes, first 'make_i'",
                                                "org.example.Swirl (opset 3), 1 node, first 'make_c'"));
  const std::string message = message_of([&] { Executor run(g); });
  for (const char* op : {"Frobnicate", "Inventive", "Swirl"}) EXPECT_THAT(message, HasSubstr(op));
}

TEST(Executor, FreesValuesAfterTheirLastReader) {
  constexpr int kLength = 20;
  Graph g = graph({value("v0")}, {}, {"v20"});
  for (int i = 0; i < kLength; ++i)
    g.nodes.push_back(node("Neg", {"v" + std::to_string(i)}, {"v" + std::to_string(i + 1)}));
  Executor run(g);
  std::vector<c10::weak_intrusive_ptr<c10::StorageImpl>> storages;
  std::size_t most = 0;
  run.run({{"v0", at::ones({8})}}, {}, [&](const std::string& name, const at::Tensor& tensor) {
    storages.emplace_back(c10::intrusive_ptr<c10::StorageImpl>::unsafe_reclaim_from_nonowning(
        tensor.storage().unsafeGetStorageImpl()));
    most = std::max<std::size_t>(
        most, static_cast<std::size_t>(std::count_if(
                  storages.begin(), storages.end(), [](const auto& storage) { return !storage.expired(); })));
  });
  EXPECT_EQ(storages.size(), 21u);
  EXPECT_LE(most, 3u);  // the fed one, which the caller holds, the value before, the value made
}

TEST(Executor, KeepsFetchedInnerValues) {
  Executor run(small_graph());
  for (const bool grad : {false, true}) {
    const at::AutoGradMode mode(grad);
    const Feeds out = run.run({{"x", row({1, -2, 3})}}, {"a", "b", "y"});
    EXPECT_TRUE(at::equal(out.at("a"), row({1, 0, 3})));
    EXPECT_TRUE(at::equal(out.at("b"), row({2, 2, 6})));
    EXPECT_TRUE(at::equal(out.at("y"), row({2, 0, 18})));
  }
}

TEST(Executor, DoesNotTouchWhatIsFed) {
  Graph g = graph({value("x")}, {node("Relu", {"x"}, {"a"}), node("Relu", {"a"}, {"y"})}, {"y"});
  Executor run(g);
  const at::Tensor x = at::tensor({-1.f, 2.f});
  run(x);
  EXPECT_TRUE(at::equal(x, at::tensor({-1.f, 2.f})));
}

TEST(Executor, DifferentiatesThroughFeedsAndConstants) {
  Executor run(small_graph());
  const at::Tensor c = at::tensor({1.f, 2.f, 3.f}).requires_grad_();
  run.set_constant("c", c);
  const at::Tensor x = row({1, 2, 3}).requires_grad_();
  run.run({{"x", x}}, {"y"}).at("y").sum().backward();
  EXPECT_TRUE(at::equal(c.grad(), at::tensor({1.f, 2.f, 3.f})));
  EXPECT_TRUE(at::equal(x.grad(), row({3, 6, 9})));  // d/dx of x (x + c)
}

TEST(Executor, ConstantsCanBeReplacedAndStored) {
  Graph g = small_graph();
  Executor run(g);
  const Feeds feeds{{"x", row({1, 1, 1})}};
  EXPECT_TRUE(at::equal(run.run(feeds, {"y"}).at("y"), row({2, 3, 4})));
  run.set_constant("c", at::tensor({0.f, 0.f, 1.f}));
  EXPECT_TRUE(at::equal(run.run(feeds, {"y"}).at("y"), row({1, 1, 2})));
  EXPECT_TRUE(at::equal(run.constant("c"), at::tensor({0.f, 0.f, 1.f})));
  run.store_constants(g);
  EXPECT_THAT(g.constants.at("c").to_floats(), ElementsAre(0, 0, 1));
  EXPECT_THAT(message_of([&] { run.set_constant("nothing", at::ones({1})); }), HasSubstr("'nothing'"));
}

TEST(Executor, ConstantsThatFeedFoldedNodesCanBeReplaced) {
  Graph g = graph({value("x")}, {node("Neg", {"c"}, {"n"}), node("Add", {"x", "n"}, {"y"})}, {"y"});
  g.constants["c"] = vector_of({1, 2});
  Executor run(g);
  EXPECT_TRUE(at::equal(run(at::zeros({2})), at::tensor({-1.f, -2.f})));
  run.set_constant("c", at::tensor({5.f, 6.f}));
  EXPECT_TRUE(at::equal(run(at::zeros({2})), at::tensor({-5.f, -6.f})));
}

TEST(Executor, StoresNarrowTypesAsTheModelHasThem) {
  Graph g = graph({value("x")}, {node("DequantizeLinear", {"q", "s"}, {"w"}), node("Add", {"x", "w"}, {"y"})},
                  {"y"});
  g.header.opsets[""] = 21;
  const auto bytes = std::make_shared<std::vector<std::byte>>(std::vector{std::byte{0x2f}, std::byte{0x08}});
  g.constants["q"] = TensorData(DType::Int4, {3}, *bytes, bytes);  // -1, 2, -8
  g.constants["s"] = TensorData::scalar(0.5f);
  Executor run(g);
  EXPECT_TRUE(at::equal(run(at::zeros({3})), at::tensor({-0.5f, 1.f, -4.f})));
  run.set_constant("q", at::tensor({1, -2, 7}, at::kChar));
  run.store_constants(g);
  EXPECT_EQ(g.constants.at("q").dtype(), DType::Int4);
  EXPECT_THAT(g.constants.at("q").to_ints(), ElementsAre(1, -2, 7));
}

TEST(Executor, TrainingUpdatesRunningStatistics) {
  Graph g =
      graph({value("x")},
            {node("BatchNormalization", {"x", "s", "b", "m", "v"}, {"y"}, {{"momentum", 0.75f}})}, {"y"});
  g.constants["s"] = vector_of({1, 2});
  g.constants["b"] = vector_of({0, 1});
  g.constants["m"] = vector_of({0, 0});
  g.constants["v"] = vector_of({1, 1});
  Executor run(g, {.training = true});
  const at::Tensor x = at::randn({8, 2, 3, 3}, at::kDouble).to(at::kFloat) * 2 + 1;
  const at::Tensor y = run(x);
  const at::Tensor mean = x.mean(at::IntArrayRef{0, 2, 3}), var = x.var(at::IntArrayRef{0, 2, 3}, false);
  const at::Tensor expected = (x - mean.view({1, 2, 1, 1})) / (var + 1e-5).sqrt().view({1, 2, 1, 1}) *
                                  at::tensor({1.f, 2.f}).view({1, 2, 1, 1}) +
                              at::tensor({0.f, 1.f}).view({1, 2, 1, 1});
  EXPECT_TRUE(at::allclose(y, expected, 1e-4, 1e-5));
  EXPECT_TRUE(at::allclose(run.constant("m"), mean * 0.25, 1e-4, 1e-5));
  EXPECT_TRUE(at::allclose(run.constant("v"), var * 0.25 + 0.75, 1e-4, 1e-5));
  run.store_constants(g);
  EXPECT_NEAR(g.constants.at("m").to_floats()[0], mean[0].item<float>() * 0.25f, 1e-5);

  run.set_training(false);
  const at::Tensor evaluated = run(x);
  EXPECT_FALSE(at::allclose(evaluated, expected, 1e-2, 1e-2));
  run(x);
  EXPECT_TRUE(at::allclose(run.constant("m"), mean * 0.25, 1e-4, 1e-5));  // evaluation leaves them alone
}

TEST(Executor, ChannelsLastChangesNothingButSpeed) {
  const Graph net = build_resnet18({.image_size = 64});
  const at::Tensor x = at::randn({2, 3, 64, 64});
  Executor last(net, {.channels_last = true}), first(net, {.channels_last = false});
  const at::Tensor a = last(x), b = first(x);
  EXPECT_LT((a - b).abs().max().item<float>(), 1e-4f * b.abs().max().item<float>());
  const at::Tensor grad_x = x.clone().requires_grad_();
  const at::Tensor c = last(grad_x);
  EXPECT_LT((a - c).abs().max().item<float>(), 1e-4f * b.abs().max().item<float>());
  c.sum().backward();
  EXPECT_GT(grad_x.grad().abs().sum().item<float>(), 0);
}

TEST(Executor, FusingChangesNothingButSpeed) {
  const Graph net = build_resnet18({.image_size = 64});
  const at::Tensor x = at::randn({2, 3, 64, 64});
  Executor fused(net), plain(net, {.fuse = false});
  const at::Tensor a = fused(x), b = plain(x);
  EXPECT_LT((a - b).abs().max().item<float>(), 1e-4f * b.abs().max().item<float>());
  EXPECT_TRUE(at::equal(a, fused(x)));
}

TEST(Executor, ThreadsDoNotChangeResults) {
  const Graph net = build_resnet18({.image_size = 32});
  const at::Tensor x = at::randn({3, 3, 32, 32});
  Executor run(net);
  at::set_num_threads(1);
  const at::Tensor one = run(x);
  at::set_num_threads(2);
  const at::Tensor two = run(x);
  at::set_num_threads(1);
  EXPECT_LT((one - two).abs().max().item<float>(), 1e-5f * one.abs().max().item<float>());
}

TEST(Executor, ObserverSeesEveryValueAsFedOrMade) {
  Executor run(small_graph());
  Feeds seen;
  run.run({{"x", row({1, -2, 3})}, {"other", at::ones({2})}}, {},
          [&](const std::string& name, const at::Tensor& tensor) { seen[name] = tensor.clone(); });
  EXPECT_EQ(seen.size(), 6u);
  EXPECT_TRUE(at::equal(seen.at("x"), row({1, -2, 3})));
  EXPECT_TRUE(at::equal(seen.at("a"), row({1, 0, 3})));
  EXPECT_TRUE(at::equal(seen.at("b"), row({2, 2, 6})));
}

TEST(Executor, RefusesGraphsThatReadNothing) {
  EXPECT_THAT(
      message_of([] { Executor run(graph({value("x")}, {node("Relu", {"missing"}, {"y"})}, {"y"})); }),
      HasSubstr("'missing'"));
}

}  // namespace
}  // namespace lithe
