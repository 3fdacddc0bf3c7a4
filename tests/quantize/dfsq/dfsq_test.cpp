#include "lithe/quantize/dfsq/dfsq.h"

#include <gmock/gmock.h>

#include <cmath>
#include <set>

#include "lithe/graph/subset_function.h"
#include "lithe/metrics/metrics.h"
#include "lithe/models/models.h"
#include "lithe/quantize/dfsq/choose_layers.h"
#include "lithe/quantize/dfsq/normalised_graph.h"
#include "lithe/quantize/dfsq/quantize_dfsq.h"
#include "lithe/quantize/dfsq/subset_weights.h"
#include "message_of.h"
#include "quantize/helpers.h"

namespace lithe {
namespace {

using namespace testing_helpers;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

SuperResolutionOptions small_network() {
  return {.scale = 2, .channels = 8, .blocks = 2, .image_channels = 3, .image_size = 16};
}

std::set<std::string> chosen_names(const Graph& graph) {
  const std::vector<Layer> layers = find_layers(graph);
  const std::vector<bool> body = choose_body_layers(graph, layers);
  std::set<std::string> names;
  for (std::size_t i = 0; i < layers.size(); ++i)
    if (body[i]) names.insert(layers[i].name);
  return names;
}

TEST(DfsqLayers, OfEdsrAreThoseOfItsBlocks) {
  EXPECT_THAT(chosen_names(build_edsr(small_network())),
              ElementsAre("body.0.conv1", "body.0.conv2", "body.1.conv1", "body.1.conv2"));
  SuperResolutionOptions single = small_network();
  single.blocks = 1;
  EXPECT_THAT(chosen_names(build_edsr(single)), ElementsAre("body.0.conv1", "body.0.conv2"));
}

TEST(DfsqLayers, OfRdnAreDenseAndFusingOnes) {
  SuperResolutionOptions options = small_network();
  options.growth = 4;
  options.layers = 3;
  const auto names = chosen_names(build_rdn(options));
  EXPECT_EQ(names.size(), 2u * 4 + 2);
  EXPECT_TRUE(names.contains("block0.layer0.conv"));
  EXPECT_TRUE(names.contains("block1.fusion"));
  EXPECT_TRUE(names.contains("fusion1"));
  EXPECT_TRUE(names.contains("fusion2"));
  EXPECT_FALSE(names.contains("shallow2"));
}

// Attention with a residual path of its own is part of the body, like the convolutions between it and the
// blocks.
TEST(DfsqLayers, OfGatesWithResidualPaths) {
  Graph graph;
  graph.header.opsets[""] = 13;
  graph.inputs = {image("x", {-1, 8, 8, 8})};
  graph.outputs = {image("y", {-1, 8, 8, 8})};
  const auto conv = [&](const std::string& out, const std::string& in) {
    graph.constants[out + "_w"] = random_data({8, 8, 3, 3}, graph.constants.size());
    graph.nodes.push_back(make("Conv", out, {in, out + "_w"}, {{"pads", ints({1, 1, 1, 1})}}));
    return out;
  };
  const auto join = [&](const std::string& op, const std::string& out, const std::string& a,
                        const std::string& b) {
    graph.nodes.push_back(make(op, out, {a, b}));
    return out;
  };
  const std::string head = conv("head", "x");
  const std::string block = join("Add", "block", conv("b2", conv("b1", head)), head);
  const std::string fusion = conv("fusion", block), before = conv("a1", fusion);
  const std::string inner = join("Add", "inner", conv("a3", conv("a2", before)), conv("af", before));
  conv("a4", inner);
  graph.nodes.push_back(make("Sigmoid", "mask", {"a4"}));
  const std::string gate = join("Mul", "gate", fusion, "mask");
  join("Add", "long", conv("last", gate), head);
  conv("y", "long");
  EXPECT_THAT(chosen_names(graph), ElementsAre("a1_node", "a2_node", "a3_node", "a4_node", "af_node",
                                               "b1_node", "b2_node", "fusion_node"));
}

TEST(DfsqLayers, WithoutBlocksAllButTheEnds) {
  Graph graph;
  graph.header.opsets[""] = 13;
  graph.inputs = {image("x", {-1, 3, 8, 8})};
  graph.outputs = {image("y", {-1, 3, 16, 16})};
  std::string x = "x";
  for (int i = 0; i < 4; ++i) {
    const std::string out = "c" + std::to_string(i), weight = out + "_w";
    const std::int64_t in = i == 0 ? 3 : 12;
    graph.constants[weight] = random_data({12, in, 3, 3}, static_cast<std::uint64_t>(i));
    graph.nodes.push_back(make("Conv", out, {x, weight}, {{"pads", ints({1, 1, 1, 1})}}));
    x = out;
  }
  graph.nodes.push_back(make("DepthToSpace", "y", {x}, {{"blocksize", std::int64_t{2}}}));
  EXPECT_THAT(chosen_names(graph), ElementsAre("c1_node", "c2_node"));
}

TEST(DfsqLayers, RectifiedValues) {
  const Graph graph = build_edsr(small_network());
  const GraphIndex index(graph);
  for (const Layer& layer : find_layers(graph))
    EXPECT_EQ(is_rectified(graph, index, layer.input), layer.name.ends_with("conv2")) << layer.name;
}

TEST(DfsqWeights, Golden) {
  const at::Tensor weight =
      at::tensor({-.5f, -.31f, -.1f, 0.f, .07f, .2f, .44f, 1.f, .1f, .2f, .3f, .4f, .5f, .6f, .7f, .8f})
          .view({2, 8});
  const auto signed_codes = [&](int bits) {
    const Quantizer quantizer = published_weight_quantizer(weight, bits);
    const at::Tensor codes = (encode(quantizer, weight) - (1 << (bits - 1))).to(at::kLong).contiguous();
    return std::vector<std::int64_t>(codes.data_ptr<std::int64_t>(), codes.data_ptr<std::int64_t>() + 16);
  };
  EXPECT_THAT(signed_codes(4), ElementsAre(-8, -6, -4, -3, -2, -1, 1, 7, -8, -6, -4, -1, 1, 3, 5, 7));
  EXPECT_THAT(signed_codes(8),
              ElementsAre(-128, -96, -60, -43, -31, -9, 32, 127, -128, -91, -55, -18, 18, 55, 91, 127));
  const at::Tensor values = fake_quantize(published_weight_quantizer(weight, 4), weight);
  const at::Tensor wanted = at::tensor({-.5, -.3, -.1, 0., .1, .2, .4, 1., .0933333, .1866667, .28, .42,
                                        .5133333, .6066667, .7, .7933334})
                                .to(at::kFloat)
                                .view({2, 8});
  EXPECT_LT(largest_gap(values, wanted), 1e-6);
  const Quantizer four = published_weight_quantizer(weight, 4), eight = published_weight_quantizer(weight, 8);
  EXPECT_NEAR(four.scale[1].item<float>(), .046666667, 1e-8);
  EXPECT_NEAR(eight.scale[0].item<float>(), .0058823531, 1e-9);
  EXPECT_EQ(8 - four.zero_point[1].item<float>(), 10);
  EXPECT_EQ(128 - eight.zero_point[1].item<float>(), 164);
}

TEST(DfsqWeights, EqualWeightsStay) {
  for (const float value : {0.0f, 0.7f, -0.3f}) {
    const at::Tensor weight = at::full({2, 9}, value);
    EXPECT_TRUE(at::allclose(fake_quantize(published_weight_quantizer(weight, 4), weight), weight));
  }
}

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

DatasetPtr smooth_images(std::int64_t count, std::uint64_t seed, std::int64_t size = 16) {
  const at::Tensor coarse = random_tensor({count, 3, size / 4, size / 4}, seed);
  return tensor_dataset({{"", at::sigmoid(coarse.repeat_interleave(4, 2).repeat_interleave(4, 3) +
                                          0.1 * random_tensor({count, 3, size, size}, seed + 1))}});
}

Quantized quantized_by(const Graph& graph, const DfsqOptions& dfsq, int bits, std::int64_t report = 8) {
  Progress silent;
  return quantize(graph, smooth_images(8, 3),
                  {.weight_bits = bits, .activation_bits = bits, .dfsq = dfsq, .report_samples = report},
                  silent);
}

class DfsqVariants : public ::testing::TestWithParam<std::pair<SubsetStatistics, PointMethod>> {};

TEST_P(DfsqVariants, BeatMinMaxAndImproveWithBits) {
  const auto [statistics, points] = GetParam();
  const Graph graph = build_edsr(small_network());
  double last = 0;
  for (const int bits : {3, 4, 6}) {
    const Quantized result = quantized_by(graph, {.statistics = statistics, .points = points}, bits);
    ASSERT_TRUE(result.output_sqnr_db && result.minmax_sqnr_db && result.dfsq);
    EXPECT_GT(*result.output_sqnr_db, *result.minmax_sqnr_db) << bits;
    EXPECT_GT(*result.output_sqnr_db, last) << bits;
    last = *result.output_sqnr_db;
    EXPECT_EQ(result.dfsq->layers.size(), 4u);
    for (const DfsqLayer& layer : result.dfsq->layers) {
      EXPECT_EQ(layer.centred, layer.name.ends_with("conv1"));
      EXPECT_GT(layer.noise, 0);
      EXPECT_LT(layer.noise, 0.2);
      if (points == PointMethod::Exact) {
        EXPECT_NEAR(layer.distinct, 1 << bits, 1e-9);
      }
    }
    for (const LayerResult& layer : result.layers)
      EXPECT_EQ(layer.weight_bits,
                layer.name.starts_with("body.") && layer.name != "body.conv" ? bits : kFloatBits)
          << layer.name;
  }
}

INSTANTIATE_TEST_SUITE_P(All, DfsqVariants,
                         ::testing::Values(std::pair{SubsetStatistics::Dynamic, PointMethod::KMeans},
                                           std::pair{SubsetStatistics::Dynamic, PointMethod::Exact},
                                           std::pair{SubsetStatistics::Static, PointMethod::KMeans},
                                           std::pair{SubsetStatistics::Static, PointMethod::Exact}));

// A network of a head, two blocks and an upsampler on a few made-up images: the order of methods at 4 bits.
TEST(Dfsq, IsAheadOfUniformRangesAtFourBits) {
  const Graph graph = build_edsr(small_network());
  const Quantized subset = quantized_by(graph, {}, 4);
  Progress silent;
  QuantizeOptions options{.weight_bits = 4, .activation_bits = 4};
  options = uniform_counterpart(options, subset.layers, QuantizeMethod::Mse);
  options.report_samples = 8;
  const Quantized uniform = quantize(graph, smooth_images(8, 3), options, silent);
  EXPECT_GT(*subset.output_sqnr_db, *uniform.output_sqnr_db);
}

TEST(Dfsq, RepeatsItself) {
  const Graph graph = build_edsr(small_network());
  for (const PointMethod points : {PointMethod::KMeans, PointMethod::Exact}) {
    const Quantized a = quantized_by(graph, {.points = points}, 4, 0),
                    b = quantized_by(graph, {.points = points}, 4, 0);
    ASSERT_EQ(a.graph.constants.size(), b.graph.constants.size());
    for (const auto& [name, data] : a.graph.constants) {
      const auto other = b.graph.constants.at(name).bytes();
      EXPECT_TRUE(std::equal(data.bytes().begin(), data.bytes().end(), other.begin(), other.end())) << name;
    }
  }
}

// Memory for a single value at a time takes more passes and gives the same.
TEST(Dfsq, MemoryChangesNothing) {
  const Graph graph = build_edsr(small_network());
  for (const PointMethod points : {PointMethod::KMeans, PointMethod::Exact}) {
    const Quantized a = quantized_by(graph, {.points = points}, 4, 0),
                    b = quantized_by(graph, {.points = points, .memory = 1}, 4, 0);
    for (const auto& [name, data] : a.graph.constants) {
      const auto other = b.graph.constants.at(name).bytes();
      EXPECT_TRUE(std::equal(data.bytes().begin(), data.bytes().end(), other.begin(), other.end())) << name;
    }
  }
}

TEST(Dfsq, RulesOverrideTheStructure) {
  const Graph graph = build_edsr(small_network());
  Progress silent;
  const Quantized result =
      quantize(graph, smooth_images(4, 3),
               {.weight_bits = 4,
                .activation_bits = 4,
                .bits_for = {parse_bits_rule("body.conv=w6a5"), parse_bits_rule("body.0.conv2=a8")},
                .exclude = {"body.1.*"},
                .dfsq = DfsqOptions{},
                .report_samples = 0},
               silent);
  std::map<std::string, std::pair<int, int>> bits;
  for (const LayerResult& layer : result.layers)
    bits[layer.name] = {layer.weight_bits, layer.activation_bits};
  EXPECT_EQ(bits.at("body.conv"), (std::pair{6, 5}));
  EXPECT_EQ(bits.at("body.0.conv1"), (std::pair{4, 4}));
  EXPECT_EQ(bits.at("body.0.conv2"), (std::pair{4, 8}));
  EXPECT_EQ(bits.at("body.1.conv1"), (std::pair{kFloatBits, kFloatBits}));
  EXPECT_EQ(bits.at("head"), (std::pair{kFloatBits, kFloatBits}));
}

TEST(Dfsq, LearnsRoundings) {
  const Graph graph = build_edsr(small_network());
  Progress silent;
  for (const SubsetStatistics statistics : {SubsetStatistics::Dynamic, SubsetStatistics::Static}) {
    QuantizeOptions options{.weight_bits = 2, .activation_bits = 6};
    options.dfsq = DfsqOptions{.statistics = statistics};
    options.reconstruct = reconstruct_options(ReconstructMethod::Brecq, Effort::Fast);
    set_steps(*options.reconstruct, 250);
    options.reconstruct->batch = 8;
    const Quantized result = quantize(graph, smooth_images(16, 3), options, silent);
    ASSERT_TRUE(result.reconstruction && result.nearest_sqnr_db);
    EXPECT_GT(*result.output_sqnr_db, *result.nearest_sqnr_db);
  }
}

TEST(Dfsq, DeadChannelsAndConstantImages) {
  Graph graph = build_edsr(small_network());
  // The first convolution of a block makes a channel that is never positive.
  const std::vector<Layer> layers = find_layers(graph);
  for (const Layer& layer : layers)
    if (layer.name == "body.0.conv1") {
      at::Tensor bias = to_tensor(graph.constants.at(layer.bias)).clone();
      bias[0] = -1000;
      graph.constants.at(layer.bias) = to_tensor_data(bias);
    }
  Progress silent;
  for (const SubsetStatistics statistics : {SubsetStatistics::Dynamic, SubsetStatistics::Static})
    for (const PointMethod points : {PointMethod::KMeans, PointMethod::Exact}) {
      QuantizeOptions options{.weight_bits = 4, .activation_bits = 4};
      options.dfsq = DfsqOptions{.statistics = statistics, .points = points};
      const Quantized result =
          quantize(graph, tensor_dataset({{"", at::full({2, 3, 16, 16}, 0.5f)}}), options, silent);
      const at::Tensor y = run(result.graph, random_tensor({1, 3, 16, 16}, 9));
      EXPECT_TRUE(at::isfinite(y).all().item<bool>());
    }
}

TEST(Dfsq, RefusesWhatHasNoMeaning) {
  const Graph graph = build_edsr(small_network());
  Progress silent;
  const auto message = [&](auto&& change) {
    QuantizeOptions options{.weight_bits = 4, .activation_bits = 4};
    options.dfsq = DfsqOptions{};
    change(options);
    return test::message_of([&] { quantize(graph, smooth_images(2, 3), options, silent); });
  };
  EXPECT_THAT(message([](auto& o) { o.profile = Profile::Int8; }), HasSubstr("profile int8"));
  EXPECT_THAT(message([](auto& o) { o.target = Target::TensorRt; }), HasSubstr("--target ort"));
  EXPECT_THAT(message([](auto& o) { o.correct_bias = true; }), HasSubstr("--correct-bias"));
  EXPECT_THAT(message([](auto& o) { o.budget = BitBudget{}; }), HasSubstr("--budget"));
  EXPECT_THAT(message([](auto& o) { o.exclude = {"*"}; }), HasSubstr("no layer is left"));
  EXPECT_THAT(message([](auto& o) { o.bits_for = {parse_bits_rule("nothing=4")}; }), HasSubstr("nothing"));
}

TEST(Dfsq, PlansWithoutData) {
  QuantizeOptions options{.weight_bits = 4, .activation_bits = 4};
  options.dfsq = DfsqOptions{};
  const QuantizationPlan plan = plan_quantization(build_edsr(small_network()), options);
  EXPECT_EQ(std::count_if(plan.layers.begin(), plan.layers.end(),
                          [](const LayerResult& layer) { return layer.weight_bits == 4; }),
            4);
}

}  // namespace
}  // namespace lithe
