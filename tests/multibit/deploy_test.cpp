#include "lithe/multibit/deploy.h"

#include <gmock/gmock.h>

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

at::Tensor first_output(const Graph& graph, Feeds feeds) {
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
