#include "lithe/quantize/dfsq/dfsq.h"

#include <gmock/gmock.h>

#include "lithe/metrics/tiled.h"
#include "lithe/quantize/dfsq/quantize_dfsq.h"
#include "lithe/quantize/dfsq/subset_weights.h"
#include "lithe/quantize/dfsq/value_sizes.h"
#include "message_of.h"
#include "open_edsr.h"
#include "quantize/dfsq/helpers.h"

namespace lithe {
namespace {

using namespace testing_helpers;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

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
  EXPECT_NEAR(four.scale[0].item<float>(), .1, 1e-8);
  EXPECT_NEAR(four.scale[1].item<float>(), .046666667, 1e-8);
  EXPECT_NEAR(eight.scale[0].item<float>(), .0058823531, 1e-9);
  EXPECT_NEAR(eight.scale[1].item<float>(), .0027450980, 1e-9);
  EXPECT_EQ(8 - four.zero_point[0].item<float>(), 3);
  EXPECT_EQ(8 - four.zero_point[1].item<float>(), 10);
  EXPECT_EQ(128 - eight.zero_point[0].item<float>(), 43);
  EXPECT_EQ(128 - eight.zero_point[1].item<float>(), 164);
}

TEST(DfsqWeights, EqualWeightsStay) {
  for (const float value : {0.0f, 0.7f, -0.3f}) {
    const at::Tensor weight = at::full({2, 9}, value);
    EXPECT_TRUE(at::allclose(fake_quantize(published_weight_quantizer(weight, 4), weight), weight));
  }
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
      EXPECT_LE(layer.used, 1 << bits);
      if (points == PointMethod::Exact) {
        EXPECT_GT(layer.used, 0.75 * (1 << bits));
      }
      EXPECT_EQ(layer.constant, 0);
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

// A static network gives every pixel from what lies around it, in tiles as in the whole.
TEST(Dfsq, TilesOfStaticNetworksGiveTheSamePixels) {
  const at::NoGradGuard no_grad;
  const Graph graph = test::open_edsr();
  const Quantized result = quantized_by(graph, {}, 4, 0);
  Executor executor(result.graph);
  const RunBatch whole = [&](const Feeds& feeds) { return executor.run(feeds); };
  const Feeds feeds{{"input", at::sigmoid(random_tensor({1, 3, 40, 53}, 6))}};
  const at::Tensor y = whole(feeds).at("output"),
                   tiles = tiled(result.graph, whole, find_tiling(result.graph), 16)(feeds).at("output");
  ASSERT_EQ(tiles.sizes(), y.sizes());
  // Sums in another order may move a value across a border between points, seldom.
  const at::Tensor apart = (tiles - y).abs() > 1e-5 * y.abs().max().item<double>();
  EXPECT_LT(apart.to(at::kDouble).mean().item<double>(), 0.01);
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

/// The first convolution of a block makes a channel that is never positive.
Graph with_dead_channel() {
  Graph graph = build_edsr(small_network());
  for (const Layer& layer : find_layers(graph))
    if (layer.name == "body.0.conv1") {
      at::Tensor bias = to_tensor(graph.constants.at(layer.bias)).clone();
      bias[0] = -1000;
      graph.constants.at(layer.bias) = to_tensor_data(bias);
    }
  return graph;
}

TEST(Dfsq, DeadChannelsAndConstantImages) {
  const Graph graph = with_dead_channel();
  Progress silent;
  for (const SubsetStatistics statistics : {SubsetStatistics::Dynamic, SubsetStatistics::Static})
    for (const PointMethod points : {PointMethod::KMeans, PointMethod::Exact}) {
      QuantizeOptions options{.weight_bits = 4, .activation_bits = 4};
      options.dfsq = DfsqOptions{.statistics = statistics, .points = points};
      const Quantized result =
          quantize(graph, tensor_dataset({{"", at::full({2, 3, 16, 16}, 0.5f)}}), options, silent);
      const at::Tensor y = run(result.graph, random_tensor({1, 3, 16, 16}, 9));
      EXPECT_TRUE(at::isfinite(y).all().item<bool>());
      // On the picture that was seen the rounding costs little, and the dead channel nothing at all.
      const at::Tensor seen = at::full({1, 3, 16, 16}, 0.5f), plain = run(graph, seen);
      EXPECT_LT(largest_gap(run(result.graph, seen), plain), 0.2 * plain.abs().max().item<double>());
      for (const LayerResult& layer : result.layers)
        if (layer.sqnr_db) {
          EXPECT_GT(*layer.sqnr_db, 8) << layer.name;
        }
      EXPECT_THAT(result.notes, Contains(HasSubstr("do not vary on the calibration data")));
    }
}

// One dead channel of varied pictures, and nothing else, is counted.
TEST(Dfsq, CountsChannelsThatDoNotVary) {
  const Graph graph = with_dead_channel();
  for (const SubsetStatistics statistics : {SubsetStatistics::Dynamic, SubsetStatistics::Static})
    for (const PointMethod points : {PointMethod::KMeans, PointMethod::Exact}) {
      const Quantized result = quantized_by(graph, {.statistics = statistics, .points = points}, 4, 0);
      for (const DfsqLayer& layer : result.dfsq->layers)
        EXPECT_EQ(layer.constant, layer.name == "body.0.conv2") << layer.name;
      EXPECT_THAT(result.notes,
                  Contains(HasSubstr("1 of 32 channels that are rounded do not vary on the "
                                     "calibration data (first of the input of 'body.0.conv2')")));
    }
  const Quantized varied = quantized_by(build_edsr(small_network()), {}, 4, 0);
  EXPECT_THAT(varied.notes, Not(Contains(HasSubstr("do not vary"))));
}

// Fewer samples at once where memory is short, one at least.
TEST(Dfsq, BatchesFitIntoMemory) {
  const Graph graph = test::open_edsr();
  const auto data = [](std::int64_t side) { return tensor_dataset({{"", at::zeros({3, 3, side, side})}}); };
  const ValueSizes sizes = value_sizes(graph, data(100), {"output"}, 1).value();
  EXPECT_EQ(sizes.widest, 32 * 100 * 100 * 4);  // in front of the pixel shuffle
  EXPECT_EQ(sizes.kept, 3 * 200 * 200 * 4);
  EXPECT_EQ(samples_within(1'000'000'000, sizes, 7), 7);
  EXPECT_EQ(samples_within(10 * (4 * sizes.widest + sizes.kept), sizes, 32), 10);
  EXPECT_EQ(samples_within(1, sizes, 32), 1);
  Progress silent;
  QuantizeOptions options{.weight_bits = 4, .activation_bits = 4, .report_samples = 0};
  options.dfsq = DfsqOptions{.memory = 1'000'000};
  const auto images = [](std::int64_t side) { return smooth_images(3, 4, side); };
  EXPECT_EQ(quantize(graph, images(16), options, silent).batch, 7);
  EXPECT_EQ(quantize(graph, images(64), options, silent).batch, 1);
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
  EXPECT_THAT(message([](auto& o) { o.exclude = {"*"}; }), HasSubstr("--exclude leaves none"));
  EXPECT_THAT(message([](auto& o) { o.weight_bits = o.activation_bits = kFloatBits; }),
              HasSubstr("none of the body gets bits"));
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
