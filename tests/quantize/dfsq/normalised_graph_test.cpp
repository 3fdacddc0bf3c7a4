#include "lithe/quantize/dfsq/normalised_graph.h"

#include <gmock/gmock.h>

#include <cmath>

#include "quantize/dfsq/helpers.h"

namespace lithe {
namespace {

using namespace testing_helpers;
using ::testing::ElementsAre;

/// One convolution and a quantiser of its input.
struct OneLayer {
  Graph graph;
  SubsetLayer layer;
};

OneLayer one_layer(std::map<std::string, Attribute, std::less<>> attributes, std::int64_t groups, bool bias) {
  OneLayer one;
  one.graph.header.opsets[""] = 17;
  one.graph.inputs = {image("x", {-1, 4, 9, 10})};
  one.graph.outputs = {{.name = "y", .dtype = DType::Float32}};
  attributes["group"] = groups;
  one.graph.constants["w"] = random_data({6, 4 / groups, 3, 3}, 1);
  Node conv = make("Conv", "y", {"x", "w"}, std::move(attributes));
  if (bias) {
    one.graph.constants["b"] = random_data({6}, 2);
    conv.inputs.push_back("b");
  }
  one.graph.nodes = {conv};
  std::vector<std::int16_t> points;
  for (std::int64_t c = 0; c < 4; ++c)
    for (const int point : {-800, -300, -10, 0, 40, 260, 512, 1000})
      points.push_back(static_cast<std::int16_t>(point + static_cast<int>(c)));
  one.layer = {.layer = "y_node", .input = "x"};
  one.layer.quantizer.points = TensorData::from<std::int16_t>({4, 8}, std::move(points));
  one.layer.quantizer.mean = floats({4, 1, 1}, {0.3f, -1.2f, 0.01f, 5});
  one.layer.quantizer.scale = floats({4, 1, 1}, {2, 3.5f, 0.7f, 4});
  return one;
}

/// The convolution of values brought back to their range, as published.
at::Tensor unfolded(const OneLayer& one, const at::Tensor& x) {
  Graph graph = one.graph;
  graph.nodes.insert(graph.nodes.begin(), subset_node(graph, one.layer.quantizer, "q", "x", "xq", true));
  graph.nodes[1].inputs[0] = "xq";
  return run(graph, x);
}

class StaticFold : public ::testing::TestWithParam<std::map<std::string, Attribute, std::less<>>> {};

TEST_P(StaticFold, IsExactUpToTheBorder) {
  const at::NoGradGuard no_grad;
  const at::Tensor x = 3 * random_tensor({2, 4, 9, 10}, 7);
  for (const std::int64_t groups : {1, 2})
    for (const bool bias : {false, true}) {
      OneLayer one = one_layer(GetParam(), groups, bias);
      const NormalisedGraph normalised = normalise_channels(one.graph, {one.layer});
      const at::Tensor plain = run(one.graph, x);
      EXPECT_LT(largest_gap(run(normalised.graph, x), plain), 5e-6 * plain.abs().max().item<double>());
      const Graph exported = export_subsets(normalised, {.layers = find_layers(normalised.graph)});
      const at::Tensor wanted = unfolded(one, x);
      EXPECT_LT(largest_gap(run(exported, x), wanted), 2e-5 * wanted.abs().max().item<double>());
      for (const Node& node : exported.nodes) EXPECT_NE(node.op_type, "Div");

      // Powers of two on either side change nothing.
      one.layer.weight_bits = 4;
      one.layer.energy = {0.1, 0.2, 0.1, 0.05};
      const NormalisedGraph shifted = normalise_channels(one.graph, {one.layer});
      EXPECT_LT(largest_gap(run(export_subsets(shifted, {.layers = find_layers(shifted.graph)}), x), wanted),
                2e-5 * wanted.abs().max().item<double>());
    }
}

// With weights rounded after folding: what the values less their means give by the rounded weights, and the
// means by those that are not.
TEST_P(StaticFold, RoundsWhatItFolds) {
  const at::NoGradGuard no_grad;
  const at::Tensor x = 3 * random_tensor({2, 4, 9, 10}, 7);
  for (const int bits : {3, 8}) {
    OneLayer one = one_layer(GetParam(), 1, true);
    one.layer.weight_bits = bits;
    one.layer.energy = {0.1, 0.2, 0.1, 0.05};
    const NormalisedGraph normalised = normalise_channels(one.graph, {one.layer});
    std::vector<Layer> layers = find_layers(normalised.graph);
    for (Layer& layer : layers)
      if (layer.name == "y_node") layer.weight_bits = bits;
    const QdqPlan plan{
        .layers = layers,
        .weights = quantize_weights(normalised.graph, layers,
                                    {.method = RangeMethod::Mse, .scheme = Scheme::Asymmetric})};
    ASSERT_EQ(plan.weights.size(), 1u);
    const at::Tensor weight = to_tensor(one.graph.constants.at("w"));
    const std::vector<float> scales = one.layer.quantizer.scale.to_floats();
    const std::vector<int> shifts = choose_shifts(weight, 1, scales, one.layer.energy, bits);
    const at::Tensor folded = to_tensor(normalised.graph.constants.at(plan.weights[0].constant));
    at::Tensor rounded = fake_quantize(plan.weights[0].quantizer, folded).clone();
    EXPECT_GT(largest_gap(rounded, folded), 0);
    for (std::int64_t c = 0; c < 4; ++c)
      rounded.select(1, c).mul_(std::ldexp(1.0, shifts[static_cast<std::size_t>(c)]) /
                                scales[static_cast<std::size_t>(c)]);
    OneLayer by_rounded = one;
    by_rounded.graph.constants["w"] = to_tensor_data(rounded.contiguous());
    Graph means = one.graph;
    means.constants["w"] = to_tensor_data((weight - rounded).contiguous());
    means.constants["b"] = to_tensor_data(at::zeros({6}));
    const at::Tensor plane = to_tensor(one.layer.quantizer.mean).expand({2, 4, 9, 10}).contiguous();
    const at::Tensor wanted = unfolded(by_rounded, x) + run(means, plane);
    EXPECT_LT(largest_gap(run(export_subsets(normalised, plan), x), wanted),
              3e-5 * wanted.abs().max().item<double>());
  }
}

// Inputs of very different size: with shifts, rounded weights do far less harm.
TEST(Shifts, KeepWeakChannelsAlive) {
  const at::NoGradGuard no_grad;
  const at::Tensor weight = random_tensor({8, 4, 3, 3}, 1);
  const std::vector<float> scales{100, 1, 0.1f, 10};
  const std::vector<double> energy(4, 0.1);
  const std::vector<int> shifts = choose_shifts(weight, 1, scales, energy, 4);
  EXPECT_THAT(shifts, ElementsAre(0, -7, -8, -3));
  EXPECT_THAT(choose_shifts(weight, 1, scales, energy, 8), ElementsAre(0, 0, 0, 0));
  // Large weights on weak inputs need none.
  const at::Tensor balanced = weight / at::tensor({100.0, 1.0, 0.1, 10.0}).to(at::kFloat).view({1, 4, 1, 1});
  for (const int shift : choose_shifts(balanced, 1, scales, energy, 4)) EXPECT_GE(shift, -1);
  const std::vector<int> grouped = choose_shifts(random_tensor({8, 2, 3, 3}, 2), 2, scales, energy, 4);
  EXPECT_EQ(grouped.size(), 4u);
}

INSTANTIATE_TEST_SUITE_P(
    Windows, StaticFold,
    ::testing::Values(std::map<std::string, Attribute, std::less<>>{{"pads", ints({1, 1, 1, 1})}},
                      std::map<std::string, Attribute, std::less<>>{},
                      std::map<std::string, Attribute, std::less<>>{{"pads", ints({0, 2, 1, 0})},
                                                                    {"strides", ints({2, 1})}},
                      std::map<std::string, Attribute, std::less<>>{{"pads", ints({2, 2, 2, 2})},
                                                                    {"dilations", ints({2, 2})}},
                      std::map<std::string, Attribute, std::less<>>{
                          {"auto_pad", std::string("SAME_UPPER")}}));

}  // namespace
}  // namespace lithe
