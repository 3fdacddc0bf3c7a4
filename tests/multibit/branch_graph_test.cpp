#include "lithe/multibit/branch_graph.h"

#include <gmock/gmock.h>

#include <cmath>

#include "lithe/engine/executor.h"
#include "lithe/graph/onnx.h"
#include "lithe/models/models.h"
#include "lithe/multibit/account.h"
#include "multibit/helpers.h"

namespace lithe {
namespace {

using namespace test;
using ::testing::HasSubstr;

BranchGraph rewritten(const Graph& model, const BranchOptions& options) {
  const Graph graph = prepared(model);
  return insert_branches(graph, find_body(graph), options);
}

const std::vector<int> kAll{2, 3, 4, 5, 6, 7, 8};

TEST(Body, IsBetweenStemAndHead) {
  const Graph graph = prepared(residual_net({.blocks = 2}));
  const Body body = find_body(graph);
  EXPECT_EQ(body.entry, "stem.relu");
  EXPECT_EQ(body.exit, "s1.1.relu2");
  ASSERT_EQ(body.convolutions.size(), 9u);
  for (const BodyConvolution& conv : body.convolutions)
    EXPECT_EQ(conv.last, conv.name == "s1.1.conv2") << conv.name;
}

TEST(Body, OfKnownNetworks) {
  const Graph resnet20 = prepared(build_resnet20());
  EXPECT_EQ(find_body(resnet20).entry, "relu");
  EXPECT_EQ(find_body(resnet20).convolutions.size(), 18u);
  const Graph mobile = prepared(build_mobilenet_v2_small_images());
  EXPECT_EQ(find_body(mobile).exit, "head_relu");
  const Graph resnet18 = prepared(build_resnet18());
  EXPECT_EQ(find_body(resnet18).entry, "maxpool");
}

TEST(Body, RefusesModelsWithoutConvolutions) {
  GraphBuilder net("lonely", 1);
  const std::string x = net.conv("conv", net.input("x", {-1, 3, 8, 8}), {.channels = 4});
  net.output("y", net.gemm("fc", net.flatten("flat", net.global_average_pool("pool", x)), 4, 2), {-1, 2});
  const Graph graph = prepared(net.finish());
  EXPECT_THAT(message_of([&] { find_body(graph); }), HasSubstr("one for the stem and one to quantise"));
}

TEST(BranchGraph, RunsAtEveryBitWidth) {
  for (const bool depthwise : {false, true}) {
    const BranchGraph branches =
        rewritten(residual_net({.blocks = 2, .depthwise = depthwise}), {.bits = kAll});
    ASSERT_EQ(branches.graph.outputs.size(), kAll.size());
    EXPECT_EQ(branches.graph.outputs[0].name, "logits@8");
    const at::NoGradGuard no_grad;
    Executor run(branches.graph);
    const Feeds outputs = run.run({{"x", random_images(1, 1)}});
    for (const auto& [name, value] : outputs) {
      EXPECT_EQ(value.sizes(), (std::vector<std::int64_t>{1, 4})) << name;
      EXPECT_TRUE(value.isfinite().all().item<bool>()) << name;
    }
    // One bit-width alone gives the same.
    Executor alone(extract_bits(branches.graph, 5));
    EXPECT_TRUE(at::equal(alone.run({{"x", random_images(1, 1)}}).at("logits@5"), outputs.at("logits@5")));
  }
}

// Rows of the weights that run, with 2 channels in and 4 out, and parts of 3 rows and 1 column: whole
// branches follow one another, the part comes from the start of the next branch, and the last convolution is
// whole.
TEST(BranchGraph, TakesPartsOfTheNextBranch) {
  const Graph model = residual_net({.widths = {2, 4}});
  const BranchGraph branches = rewritten(model, {.bits = kAll, .widths = {{2, 1}, {4, 3}}});
  const Graph& graph = branches.graph;
  const auto shape = [&](const std::string& value) {
    std::vector<std::int64_t> out;
    for (const Dim& dim : *graph.info(value)->shape) out.push_back(dim.value);
    return out;
  };
  const auto weight_of = [&](const std::string& node) {
    for (const Node& one : graph.nodes)
      if (one.name == node) return one.input(1);
    ADD_FAILURE() << "no node " << node;
    return std::string();
  };
  EXPECT_EQ(shape(weight_of("b5.4/s1.0.conv1")), (std::vector<std::int64_t>{3, 1, 3, 3}));
  EXPECT_EQ(shape(weight_of("b5.4/s1.0.conv2")), (std::vector<std::int64_t>{4, 3, 3, 3}));  // the last one
  EXPECT_EQ(shape(weight_of("b5.4/s0.0.conv1")), (std::vector<std::int64_t>{1, 2, 3, 3}));  // the whole stem
  EXPECT_EQ(weight_of("b3.2/s1.0.conv1"), "s1.0.conv1.weight@2/quantised/part");
  EXPECT_EQ(weight_of("b5.2/s1.0.conv1"), "s1.0.conv1.weight@2/quantised");
  EXPECT_EQ(weight_of("b7.4/s1.0.conv1"), weight_of("b5.4/s1.0.conv1"));
  EXPECT_EQ(branches.weights.size(), 4 * 5u);
}

// A part is the first rows and columns of the quantised weight.
TEST(BranchGraph, PartsShareTheCodes) {
  const BranchGraph branches = rewritten(residual_net({.widths = {4, 8}}), {.bits = {3, 4}});
  const at::NoGradGuard no_grad;
  Executor run(branches.graph);
  const std::string name = "s0.0.conv1.weight@2/quantised";
  const Feeds values = run.run({{"x", random_images(1, 1)}}, {name, name + "/part"});
  const at::Tensor& part = values.at(name + "/part");
  EXPECT_LT(part.size(0), 4);
  EXPECT_TRUE(at::equal(part, values.at(name).slice(0, 0, part.size(0)).slice(1, 0, part.size(1))));
}

TEST(BranchGraph, BoundsBelongToBranchesOrSlots) {
  const Graph model = residual_net();
  EXPECT_TRUE(rewritten(model, {}).graph.is_constant("s0.0.conv1.weight@2/low"));
  const BranchGraph slots = rewritten(model, {.slots = true});
  EXPECT_TRUE(slots.graph.is_constant("s0.0.conv1.weight@slot0/low"));
  const GraphIndex index(slots.graph);
  // Branch 2 stands first at 4 bits and second at 8.
  EXPECT_GE(index.producer("s0.0.conv1.weight@2/slot0/quantised"), 0);
  EXPECT_GE(index.producer("s0.0.conv1.weight@2/slot1/quantised"), 0);
}

TEST(BranchGraph, ReadsItsRecordBack) {
  const BranchGraph branches = rewritten(residual_net(), {.bits = {2, 5, 8}});
  const MultibitInfo info = multibit_info(branches.graph);
  EXPECT_EQ(info.bits, (std::vector<int>{2, 5, 8}));
  EXPECT_EQ(info.method, "mbquant");
  EXPECT_EQ(info.path(5).branches.partial, 4);
  EXPECT_THAT(message_of([&] { info.path(4); }), HasSubstr("not trained for 4 bits; it has 2,5,8"));
  EXPECT_THAT(message_of([&] { multibit_info(residual_net()); }), HasSubstr("lithe multibit train"));
  Graph broken = branches.graph;
  broken.header.metadata["lithe.multibit"] = "{\"method\": 3}";
  EXPECT_THAT(message_of([&] { multibit_info(broken); }), HasSubstr("malformed"));
}

TEST(BranchGraph, RefusesPartsOfGroupedConvolutions) {
  GraphBuilder net("grouped", 1);
  std::string x = net.conv("stem", net.input("x", {-1, 3, 8, 8}), {.channels = 8, .bias = false});
  for (const char* name : {"one", "two", "three"})
    x = net.relu(
        std::string(name) + ".relu",
        net.batch_norm(std::string(name) + ".norm",
                       net.conv(name, x, {.channels = 8, .groups = name[1] == 'w' ? 2 : 1, .bias = false})));
  net.output("y", net.gemm("fc", net.flatten("flat", net.global_average_pool("pool", x)), 8, 2), {-1, 2});
  const Graph model = net.finish();
  EXPECT_NO_THROW(rewritten(model, {.bits = {2, 4}}));
  const std::string message = message_of([&] { rewritten(model, {.bits = {2, 3, 5}}); });
  EXPECT_THAT(message, HasSubstr("Conv node 'two': it is a grouped convolution"));
  EXPECT_THAT(message, HasSubstr("of 3,5"));
}

TEST(BranchGraph, OtherMethods) {
  const Graph model = residual_net();
  const at::NoGradGuard no_grad;
  for (const MultibitMethod method : {MultibitMethod::Shared, MultibitMethod::AnyPrecision}) {
    const BranchGraph branches = rewritten(model, {.method = method, .bits = {2, 4, 8}});
    EXPECT_EQ(branches.weights.size(), 5u);
    Executor run(branches.graph);
    EXPECT_EQ(run.run({{"x", random_images(1, 1)}}).size(), 3u);
  }
  EXPECT_THAT(message_of([&] {
                rewritten(model, {.method = MultibitMethod::Lsq, .bits = {2, 4}});
              }),
              HasSubstr("one bit-width at a time"));
  const BranchGraph lsq = rewritten(model, {.method = MultibitMethod::Lsq, .bits = {4}});
  EXPECT_EQ(lsq.scales.size(), 10u);
  EXPECT_EQ(lsq.scales[0].low, -8);  // weights
  EXPECT_EQ(lsq.scales[1].low, 0);   // behind a Relu
}

// Weights of the authors' AnyPrecision operators: tanh, by the largest, times the mean magnitude.
TEST(BranchGraph, DoReFaWeights) {
  GraphBuilder net("point", 1);
  std::string x =
      net.conv("stem", net.input("x", {-1, 1, 2, 2}), {.channels = 6, .kernel = 1, .bias = false});
  x = net.batch_norm("norm", net.conv("conv", x, {.channels = 1, .kernel = 1, .bias = false}));
  net.output("y", net.gemm("fc", net.flatten("flat", net.global_average_pool("pool", x)), 1, 2), {-1, 2});
  Graph model = net.finish();
  model.constants["conv.weight"] = TensorData::from<float>({1, 6, 1, 1}, {-1, -.5f, -.1f, 0, .25f, .8f});
  const BranchGraph branches = rewritten(model, {.method = MultibitMethod::AnyPrecision, .bits = {2, 4, 8}});
  const std::map<int, std::vector<double>> expected{
      {2, {-.4416666, -.1472222, -.1472222, .1472222, .1472222, .4416666}},
      {4, {-.4416666, -.265, -.0294444, .0294445, .1472222, .3827778}},
      {8, {-.4416666, -.268464, -.0571569, .0017321, .1437582, .3862418}}};
  const at::NoGradGuard no_grad;
  Executor run(branches.graph);
  for (const auto& [bits, values] : expected) {
    const std::string name = fmt::format("conv.weight@1/b{}/quantised", bits);
    const at::Tensor weight = run.run({{"x", at::zeros({1, 1, 2, 2})}}, {name}).at(name).flatten();
    for (std::int64_t i = 0; i < 6; ++i)
      EXPECT_NEAR(weight[i].item<double>(), values[static_cast<std::size_t>(i)], 1e-6) << bits << " " << i;
  }
}

// --- cost
// ------------------------------------------------------------------------------------------------------

TEST(BitCost, EvenBitWidthsCostAsUniformOnes) {
  const BranchGraph branches = rewritten(residual_net({.blocks = 2}), {.bits = kAll});
  for (const int bits : kAll) {
    const BitCost cost = bit_cost(branches.graph, bits);
    if (bits % 2 == 0) {
      EXPECT_EQ(cost.ratio(), 1) << bits;
    } else {
      EXPECT_LE(cost.ratio(), 1) << bits;  // the part is at most half of a branch
      EXPECT_GT(cost.ratio(), 0.97) << bits;
    }
    for (const BitLayer& layer : cost.layers) {
      EXPECT_EQ(layer.weight_bits, 2);
      EXPECT_EQ(layer.activation_bits, bits);
    }
  }
}

// Counted by the authors' models with a counter in place of the convolutions.
TEST(BitCost, PublishedRatiosOfResNet18) {
  const BranchGraph branches =
      rewritten(build_resnet18(), {.bits = kAll, .widths = {{64, 40}, {128, 76}, {256, 184}, {512, 396}}});
  const std::map<int, double> expected{{3, 0.9906}, {5, 0.9944}, {7, 0.9960}};
  for (const auto& [bits, ratio] : expected)
    EXPECT_NEAR(bit_cost(branches.graph, bits).ratio(), ratio, 5e-5) << bits;
  EXPECT_EQ(bit_cost(branches.graph, 2).macs, 1695547392);
}

TEST(BitCost, PartsAreAtMostHalf) {
  for (const Graph& model : {build_resnet20(), build_resnet18(), build_resnet50(), build_mobilenet_v2()}) {
    const Graph graph = prepared(model);
    const Body body = find_body(graph);
    const NarrowWidths widths = choose_narrow_widths(graph, body);
    const double share = partial_share(body, partial_channels(graph, body, widths));
    EXPECT_LE(share, 0.5) << graph.name;
    EXPECT_GT(share, 0.48) << graph.name;
  }
}

/// ResNet-20 and -8 with 1x1 shortcuts: the weights of four branches of the authors' models.
TEST(BitCost, StoresWeightsOnce) {
  for (const auto& [blocks, weights] :
       {std::pair{3, std::int64_t{1079296}}, std::pair{1, std::int64_t{305152}}}) {
    const BranchGraph branches = rewritten(
        residual_net({.widths = {16, 32, 64}, .blocks = blocks, .size = 32, .classes = 10}), {.bits = kAll});
    const BitStorage storage = bit_storage(branches.graph);
    EXPECT_EQ(storage.weights, weights / 4);  // 2 bits each
    EXPECT_GT(storage.norms, 0);
    EXPECT_GT(storage.as_float, weights);  // a quarter of them, 4 bytes each, and the rest
  }
}

}  // namespace
}  // namespace lithe
