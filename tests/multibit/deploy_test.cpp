#include "lithe/multibit/deploy.h"

#include <gmock/gmock.h>

#include <cmath>
#include <functional>
#include <set>

#include "lithe/graph/onnx.h"
#include "lithe/multibit/integer_layers.h"
#include "multibit/helpers.h"

namespace lithe {
namespace {

using namespace test;
using ::testing::HasSubstr;

const std::vector<int> kBits{2, 3, 4, 5, 8};

const Graph& model() {
  static const Graph graph = small_model(kBits, {.blocks = 2}).branches.graph;
  return graph;
}

at::Tensor first_output(const Graph& graph, const Feeds& feeds) {
  const at::NoGradGuard no_grad;
  Executor run(graph, {.fuse = false});
  return run.run(feeds).begin()->second;
}

std::set<std::string> operators_of(const Graph& graph) {
  std::set<std::string> types;
  for (const Node& node : graph.nodes) types.insert(node.domain + node.op_type);
  return types;
}

TEST(Deploy, StaticIsTheFloatGraphInWholeNumbers) {
  for (const int bits : kBits) {
    const Graph integer = deploy_static(model(), bits);
    EXPECT_FALSE(operators_of(integer).contains("litheBoundQuantize"));
    EXPECT_TRUE(operators_of(integer).contains("ConvInteger"));
    EXPECT_TRUE(integer.header.functions.empty());
    // Layer by layer, from the same inputs: rounding alone.
    const Graph source = extract_bits(model(), bits);
    const at::NoGradGuard no_grad;
    Executor reference(source, {.fuse = false}), run(integer, {.fuse = false});
    const Feeds feeds{{"x", random_images(2, 4)}};
    std::vector<std::string> outputs, inputs;
    for (const IntegerLayer& layer : integer_layers(source)) {
      outputs.push_back(layer.output);
      inputs.push_back(layer.input);
    }
    std::vector<std::string> all = outputs;
    all.insert(all.end(), inputs.begin(), inputs.end());
    const Feeds values = reference.run(feeds, all);
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      const at::Tensor& expected = values.at(outputs[i]);
      const at::Tensor y = run.slice(inputs[i], outputs[i], values.at(inputs[i]));
      EXPECT_LT((y - expected).abs().max().item<double>(), 1e-5 * (1 + expected.abs().max().item<double>()))
          << outputs[i];
    }
  }
}

TEST(Deploy, SelectableChoosesByInputAndStoresWeightsOnce) {
  const Graph graph = deploy_selectable(model(), kBits);
  ASSERT_EQ(graph.required_inputs().size(), 2u);
  EXPECT_EQ(graph.outputs[0].name, "logits");
  std::int64_t bytes = 0;
  for (const auto& [name, data] : graph.constants)
    if (data.dtype() == DType::Int8) bytes += data.count();
  std::int64_t weights = 0;
  std::set<std::string> seen;
  for (const auto& [name, data] : model().constants)
    if (name.find(".weight@") != std::string::npos && data.rank() == 4) weights += data.count();
  EXPECT_EQ(bytes, weights);
  const at::Tensor x = random_images(3, 5);
  for (const int bits : kBits) {
    const at::Tensor y = first_output(graph, {{"x", x}, {"bits", at::full({}, bits, at::kLong)}});
    EXPECT_TRUE(at::equal(y, first_output(deploy_static(model(), bits), {{"x", x}}))) << bits;
  }
  const at::Tensor none = first_output(graph, {{"x", x}, {"bits", at::full({}, 7, at::kLong)}});
  EXPECT_TRUE(none.isnan().all().item<bool>());
}

TEST(Deploy, SurvivesTheFile) {
  const Graph graph = deploy_selectable(model(), {2, 8});
  const std::string bytes = serialize_onnx(graph);
  const Graph back = parse_onnx(std::as_bytes(std::span(bytes)), "memory");
  const Feeds feeds{{"x", random_images(2, 5)}, {"bits", at::full({}, 2, at::kLong)}};
  EXPECT_TRUE(at::equal(first_output(graph, feeds), first_output(back, feeds)));
}

TEST(Deploy, FastIsNear) {
  const at::Tensor x = random_images(16, 6);
  for (const int bits : kBits) {
    const Graph fast = deploy_fast(model(), bits);
    EXPECT_TRUE(operators_of(fast).contains("QLinearConv"));
    const at::Tensor y = first_output(fast, {{"x", x}}),
                     exact = first_output(deploy_static(model(), bits), {{"x", x}});
    // Noise of codes, not another function.
    const double error = (y - exact).norm().item<double>() / exact.norm().item<double>();
    EXPECT_GT(error, 0) << bits;
    EXPECT_LT(error, bits <= 3 ? 0.8 : 0.25) << bits;
  }
}

/// Shares of the codes that go straight on in the fast form of 4 bits: equal to those that the exact form
/// makes of the same input, and one off.
struct CodeShares {
  double same = 0, near = 0;
};

CodeShares shares_of_codes(const Graph& graph, const std::string& conv) {
  const Graph source = extract_bits(graph, 4);
  const std::vector<IntegerLayer> layers = integer_layers(source);
  const auto named = [&](const std::string& name) {
    for (const IntegerLayer& layer : layers)
      if (source.nodes[static_cast<std::size_t>(layer.conv)].output(0) == "b4.2/" + name) return layer;
    ADD_FAILURE() << name;
    return layers.front();
  };
  const IntegerLayer from = named(conv + "1"), to = named(conv + "2");
  const at::NoGradGuard no_grad;
  Executor exact(deploy_static(graph, 4), {.fuse = false}), fast(deploy_fast(graph, 4), {.fuse = false});
  const at::Tensor x = random_images(1, 11).abs().repeat({4, 3, 1, 1}).slice(1, 0, 8).contiguous();
  const at::Tensor expected = exact.run({{from.input, x}}, {"b4.2/" + conv + "2/codes"}).begin()->second,
                   codes = fast.run({{from.input, x}}, {from.output + "/codes"}).begin()->second;
  const at::Tensor off = (codes.to(at::kInt) - expected.to(at::kInt)).abs();
  EXPECT_GT(expected.to(at::kInt).max().item<int>(), 3);
  return {(off == 0).to(at::kDouble).mean().item<double>(), (off <= 1).to(at::kDouble).mean().item<double>()};
}

// Lower bounds that were learnt, on either side of zero: codes are those of the exact form but for roundings.
TEST(Deploy, FastTakesLearntLowerBounds) {
  Graph graph = small_model({4}).branches.graph;
  const std::string bound = "b4.2/s0.0.conv2/input";
  const float high = graph.constants.at(bound + "/high").to_floats()[0];
  for (const float low : {-0.31f, -0.04f, 0.0f, 0.12f, 0.37f}) {
    set_scalar(graph, bound + "/low", low * high);
    const CodeShares shares = shares_of_codes(graph, "s0.0.conv");
    EXPECT_GT(shares.same, 0.95) << low;
    EXPECT_EQ(shares.near, 1) << low;
  }
}

// Channels whose scale vanishes give their shift, whatever its size.
TEST(Deploy, FastKeepsShiftsOfVanishingScales) {
  Graph graph = small_model({4}).branches.graph;
  const std::string norm = "s0.0.conv1.norm", at = "@4.2";
  std::vector<float> gamma = graph.constants.at(norm + ".weight" + at).to_floats(),
                     beta = graph.constants.at(norm + ".bias" + at).to_floats();
  gamma[0] = 0;
  gamma[1] = 1e-12f;
  gamma[2] = -1e-9f;
  for (std::size_t c = 0; c < 3; ++c) beta[c] = 0.3f + 0.2f * static_cast<float>(c);
  graph.constants[norm + ".weight" + at] = TensorData::from<float>({8}, gamma);
  graph.constants[norm + ".bias" + at] = TensorData::from<float>({8}, beta);
  const CodeShares shares = shares_of_codes(graph, "s0.0.conv");
  EXPECT_GT(shares.same, 0.95);
  EXPECT_EQ(shares.near, 1);
}

// Batch norms in front of convolutions are one product and one sum, in whatever runtime.
TEST(Deploy, SpellsNormsOfTheBodyOut) {
  const Graph graph = quickly_trained(pre_activation_net(), {2, 4}).branches.graph;
  EXPECT_TRUE(operators_of(extract_bits(graph, 4)).contains("BatchNormalization"));
  const Graph integer = deploy_static(graph, 4);
  EXPECT_FALSE(operators_of(integer).contains("BatchNormalization"));
  const at::Tensor x = random_images(3, 5);
  const at::Tensor y = first_output(integer, {{"x", x}}),
                   expected = first_output(extract_bits(graph, 4), {{"x", x}});
  EXPECT_LT((y - expected).abs().median().item<double>(), 1e-3 * expected.abs().max().item<double>());
}

TEST(Deploy, OfSlots) {
  MultibitOptions options{.slots = true};
  const Graph graph = small_model({2, 4, 8}, {}, options).branches.graph;
  const Graph selectable = deploy_selectable(graph, {2, 4, 8});
  const at::Tensor x = random_images(3, 5);
  for (const int bits : {2, 4, 8}) {
    const at::Tensor fixed = first_output(deploy_static(graph, bits), {{"x", x}});
    EXPECT_TRUE(
        at::equal(first_output(selectable, {{"x", x}, {"bits", at::full({}, bits, at::kLong)}}), fixed))
        << bits;
    const at::Tensor expected = first_output(extract_bits(graph, bits), {{"x", x}});
    EXPECT_LT((fixed - expected).abs().median().item<double>(), 1e-3 * expected.abs().max().item<double>())
        << bits;
  }
}

TEST(IntegerLayers, RefuseWhatIsNotWhatTheySay) {
  const auto message = [](const std::function<void(Graph&)>& change) {
    Graph part = extract_bits(model(), 3);
    change(part);
    return message_of([&] { integer_layers(part); });
  };
  const std::string slice = "s0.0.conv1.weight@2/quantised/part";
  const auto set = [&](const char* what, std::vector<std::int64_t> values) {
    return message([&](Graph& part) {
      part.constants[slice + "/" + what] = TensorData::from<std::int64_t>({2}, values);
    });
  };
  EXPECT_THAT(set("starts", {1, 0}), HasSubstr("must be the first rows and columns"));
  EXPECT_THAT(set("axes", {1, 0}), HasSubstr("must be the first rows and columns"));
  EXPECT_THAT(set("ends", {100, 1}), HasSubstr("ends at 100 of 8 along axis 0"));
  EXPECT_THAT(set("ends", {0, 1}), HasSubstr("ends at 0"));
  EXPECT_THAT(message([](Graph& part) {
                part.constants["s0.0.conv1.norm.running_mean@3.1"] = TensorData::from<float>({2}, {0, 0});
              }),
              HasSubstr("of 8 and 2 channels"));
  EXPECT_THAT(message([](Graph& part) {
                part.constants["s0.0.conv1.norm.running_var@3.1"] =
                    TensorData::from<float>({8}, std::vector<float>(8, -1));
              }),
              HasSubstr("no finite scale"));
  EXPECT_THAT(message([](Graph& part) { set_scalar(part, "s0.0.conv1.weight@1/high", NAN); }),
              HasSubstr("not finite"));
  EXPECT_THAT(message([](Graph& part) {
                for (Node& node : part.nodes)
                  if (node.output(0) == "b3.1/s0.0.conv1/quantised")
                    node.attributes["levels"] = std::int64_t{0};
              }),
              HasSubstr("0 levels"));
}

TEST(Deploy, RefusesWhatHasNoIntegerForm) {
  MultibitOptions options{.method = MultibitMethod::Shared};
  const Graph shared = small_model({2, 4}, {}, options).branches.graph;
  EXPECT_THAT(message_of([&] { deploy_static(shared, 4); }), HasSubstr("only models of method mbquant"));
  EXPECT_THAT(message_of([&] { deploy_static(model(), 6); }),
              HasSubstr("not trained for 6 bits; it has 2,3,4,5,8"));
  EXPECT_THAT(message_of([&] { deploy_static(residual_net(), 2); }), HasSubstr("lithe multibit train"));
}

}  // namespace
}  // namespace lithe
