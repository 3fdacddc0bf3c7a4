#include "lithe/multibit/branch_graph.h"

#include <gmock/gmock.h>

#include <cmath>

#include "lithe/engine/executor.h"
#include "lithe/graph/onnx.h"
#include "lithe/models/models.h"
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

// A stem and a gate, which works on one position: nothing to quantise.
TEST(Body, RefusesModelsWithoutEligibleConvolutions) {
  GraphBuilder net("gated", 1);
  const std::string x = net.conv("stem", net.input("x", {-1, 3, 8, 8}), {.channels = 4});
  const std::string gate =
      net.node("Sigmoid", "sigmoid",
               {net.conv("gate", net.global_average_pool("squeeze", x), {.channels = 4, .kernel = 1})});
  net.set_channels(gate, 4);
  const std::string y = net.node("Mul", "gated", {x, gate});
  net.set_channels(y, 4);
  net.output("y", net.gemm("fc", net.flatten("flat", net.global_average_pool("pool", y)), 4, 2), {-1, 2});
  const Graph graph = prepared(net.finish());
  EXPECT_THAT(message_of([&] { find_body(graph); }),
              HasSubstr("no convolution that can be quantised: Conv node 'gate': it works on one position"));
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

// Rows of the weights that run with 2 channels in and 4 out, by bit-width, as the authors' class for large
// images has them; a branch has the rows [4 j, 4 j + 4).
TEST(BranchGraph, GoldenRows) {
  const BranchGraph branches =
      rewritten(residual_net({.widths = {2, 4}}), {.bits = kAll, .widths = {{2, 1}, {4, 3}}});
  const auto rows = [&](int bits, const std::string& conv) {
    std::string text;
    const MultibitInfo info = multibit_info(branches.graph);
    const BranchSelection& selection = info.path(bits).branches;
    std::vector<int> all = selection.full;
    if (selection.partial > 0) all.push_back(selection.partial);
    std::int64_t first = -1, last = -1;
    const auto flush = [&] {
      if (first >= 0) text += fmt::format("{}{}-{}", text.empty() ? "" : " ", first, last - 1);
    };
    for (const int branch : all) {
      const std::string value = branch_prefix(bits, branch) + conv;
      const std::int64_t count = (*branches.graph.info(value)->shape)[1].value, start = 4 * (branch - 1);
      if (start != last || branch == selection.partial) {
        flush();
        first = start;
      }
      last = start + count;
    }
    flush();
    return text;
  };
  const std::map<int, std::string> first{{2, "0-3"},  {3, "0-3 4-6"},    {4, "4-11"}, {5, "4-11 12-14"},
                                         {6, "4-15"}, {7, "0-11 12-14"}, {8, "0-15"}};
  for (const auto& [bits, expected] : first) EXPECT_EQ(rows(bits, "s1.0.conv1"), expected) << bits;
  const std::map<int, std::string> last{{3, "0-3 4-7"}, {5, "4-11 12-15"}, {7, "0-11 12-15"}};
  for (const auto& [bits, expected] : last) EXPECT_EQ(rows(bits, "s1.0.conv2"), expected) << bits;
}

TEST(BranchGraph, RefusesWidthsOfPartsThatMeanNothing) {
  const Graph model = residual_net();
  const auto message = [&](std::vector<int> bits, NarrowWidths widths) {
    return message_of([&] { rewritten(model, {.bits = std::move(bits), .widths = std::move(widths)}); });
  };
  EXPECT_THAT(message({2, 3}, {{8, 4}, {9, 4}, {16, 8}}), HasSubstr("has 9 channels; there are 8, 16"));
  EXPECT_THAT(message({2, 3}, {{8, 4}}), HasSubstr("none for 16 channels; name all of 8, 16"));
  EXPECT_THAT(message({2, 3}, {{8, 4}, {16, 17}}), HasSubstr("16 channels cannot have 17"));
  EXPECT_THAT(message({2, 4}, {{8, 4}, {16, 8}}), HasSubstr("no odd bit-width"));
  EXPECT_EQ(message({2, 3}, {{8, 4}, {16, 8}}), "");
}

TEST(BranchGraph, StartsFromPlainModelsAlone) {
  const BranchGraph branches = rewritten(residual_net(), {.bits = {2, 4}});
  EXPECT_THAT(message_of([&] { plan_multibit(branches.graph, nullptr, {}); }),
              HasSubstr("runs at several bit-widths already"));
}

TEST(BranchGraph, SaysWhenAPartIsMoreThanHalf) {
  std::vector<std::string> notes;
  plan_multibit(residual_net(), nullptr, {.bits = {2, 3}, .widths = {{8, 8}, {16, 16}}}, &notes);
  EXPECT_THAT(notes, ::testing::ElementsAre(HasSubstr("1.000 of its multiply-accumulates")));
  notes.clear();
  plan_multibit(residual_net(), nullptr, {.bits = {2, 3}}, &notes);
  EXPECT_THAT(notes, ::testing::IsEmpty());
}

// A norm of x + bias is one of x whose mean is less by the bias.
TEST(BranchGraph, BiasesGoIntoMeans) {
  Graph model = residual_net({.biases = true});
  const std::string conv = "s0.0.conv1", mean = conv + ".norm.running_mean", bias = conv + ".bias";
  std::vector<float> biases, means;
  for (int c = 0; c < 8; ++c) {
    biases.push_back(0.25f * static_cast<float>(c) - 1);
    means.push_back(static_cast<float>(c));
  }
  model.constants[bias] = TensorData::from<float>({8}, biases);
  model.constants[mean] = TensorData::from<float>({8}, means);
  const BranchGraph branches = rewritten(model, {.bits = {2, 4}});
  int norms = 0;
  for (const Node& node : branches.graph.nodes) {
    if (node.is("Conv") && node.output(0).starts_with("b")) {
      EXPECT_EQ(node.input(2), "") << node.name;
    }
    if (!node.is("BatchNormalization") || !node.output(0).ends_with(conv + ".norm")) continue;
    ++norms;
    const std::vector<float> own = branches.graph.constants.at(node.input(3)).to_floats();
    for (std::size_t c = 0; c < 8; ++c) EXPECT_EQ(own[c], means[c] - biases[c]) << node.name;
  }
  EXPECT_EQ(norms, 3);  // of branch 1 at 2 bits, of both at 4
}

TEST(BranchGraph, RefusesNormsThatAreComputed) {
  Graph model = residual_net();
  model.nodes.insert(model.nodes.begin(), Node{.name = "computed",
                                               .op_type = "Abs",
                                               .inputs = {"s0.0.conv1.norm.running_var"},
                                               .outputs = {"computed"}});
  for (Node& node : model.nodes)
    if (node.name == "s0.0.conv1.norm") node.inputs[4] = "computed";
  EXPECT_THAT(message_of([&] {
                rewritten(model, {.bits = {2, 4}});
              }),
              HasSubstr("'s0.0.conv1.norm': 'computed' is no float constant"));
}

// Two norms of the same constants, of which a part narrows only one.
TEST(BranchGraph, SharedNormsHaveTheirOwnWidths) {
  Graph model = residual_net();
  for (Node& node : model.nodes)
    if (node.name == "s1.0.conv2.norm")
      for (std::size_t i = 1; i <= 4; ++i)
        node.inputs[i].replace(0, std::string("s1.0.conv2").size(), "s1.0.conv1");
  const BranchGraph branches = rewritten(model, {.bits = {2, 3}});
  const at::NoGradGuard no_grad;
  Executor run(branches.graph);
  const std::string narrow = "b3.2/s1.0.conv1.norm", whole = "b3.2/s1.0.conv2.norm";
  const Feeds values = run.run({{"x", random_images(1, 1)}}, {narrow, whole});
  EXPECT_LT(values.at(narrow).size(1), 16);
  EXPECT_EQ(values.at(whole).size(1), 16);
}

// One input channel is no depthwise convolution: the fan-out has all outputs.
TEST(BranchGraph, DrawsByTheOutputsOfAGroup) {
  GraphBuilder net("thin", 1);
  std::string x = net.conv("stem", net.input("x", {-1, 3, 8, 8}), {.channels = 1, .bias = false});
  x = net.batch_norm("one.norm", net.conv("one", x, {.channels = 512, .kernel = 1, .bias = false}));
  x = net.batch_norm("two.norm", net.conv("two", x, {.channels = 512, .groups = 512, .bias = false}));
  net.output("y", net.gemm("fc", net.flatten("flat", net.global_average_pool("pool", x)), 512, 2), {-1, 2});
  const BranchGraph branches = plan_multibit(net.finish(), nullptr, {.bits = {2, 4}, .from_scratch = true});
  const auto deviation = [&](const std::string& name) {
    double squares = 0;
    const std::vector<float> values = branches.graph.constants.at(name).to_floats();
    for (const float v : values) squares += static_cast<double>(v) * static_cast<double>(v);
    return std::sqrt(squares / static_cast<double>(values.size()));
  };
  EXPECT_NEAR(deviation("one.weight@1"), std::sqrt(2.0 / 512), 0.01);
  EXPECT_NEAR(deviation("two.weight@1"), std::sqrt(2.0 / 9), 0.05);
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
  for (const MultibitMethod method :
       {MultibitMethod::Shared, MultibitMethod::AnyPrecision, MultibitMethod::AdaBits}) {
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

}  // namespace
}  // namespace lithe
