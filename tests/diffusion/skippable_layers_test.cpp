#include "lithe/diffusion/skippable_layers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "lithe/base/random.h"
#include "lithe/diffusion/layer_costs.h"
#include "lithe/engine/executor.h"
#include "lithe/engine/random_inputs.h"
#include "lithe/graph/cost.h"
#include "lithe/models/builder.h"
#include "lithe/models/models.h"
#include "lithe/train/initialise.h"
#include "message_of.h"

namespace lithe {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> names_of(const std::vector<SkippableLayer>& layers) {
  std::vector<std::string> names;
  for (const SkippableLayer& layer : layers) names.push_back(layer.name);
  return names;
}

std::vector<int> all_of(const std::vector<SkippableLayer>& layers) {
  std::vector<int> numbers(layers.size());
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

/// A third of the layers.
std::vector<int> random_set(std::size_t layers, std::uint64_t seed) {
  Rng rng(seed);
  std::vector<int> numbers;
  for (int number = 0; number < static_cast<int>(layers); ++number)
    if (rng.below(3) == 0) numbers.push_back(number);
  return numbers;
}

/// The small ADM with random weights everywhere.
Graph lively_adm(const AdmUnetOptions& options = {}) {
  Graph graph = build_adm_unet(options);
  initialise(graph, 5);
  return graph;
}

at::Tensor run(const Graph& graph, const Feeds& feeds) {
  const at::NoGradGuard no_grad;
  return Executor(graph).run(feeds).at(graph.outputs[0].name);
}

double largest(const at::Tensor& a) {
  return a.abs().max().item<double>();
}

TEST(SkippableLayers, CountsOfPublishedNetworks) {
  const auto count = [](std::int64_t size, std::vector<std::int64_t> multipliers, std::int64_t blocks,
                        std::vector<std::int64_t> attention) {
    return find_skippable_layers(build_adm_unet({.image_size = size,
                                                 .image_channels = 3,
                                                 .base = 8,
                                                 .multipliers = std::move(multipliers),
                                                 .residual_blocks = blocks,
                                                 .attention_sizes = std::move(attention)}))
        .size();
  };
  EXPECT_EQ(count(64, {1, 2, 3, 4}, 3, {32, 16, 8}), 58u);         // ADM on ImageNet-64
  EXPECT_EQ(count(256, {1, 1, 2, 2, 4, 4}, 2, {32, 16, 8}), 58u);  // on LSUN
  EXPECT_EQ(count(32, {1, 2, 2, 2}, 3, {16, 8}), 51u);             // on CIFAR-10
  EXPECT_EQ(find_skippable_layers(build_adm_unet()).size(), 20u);
}

TEST(SkippableLayers, AreInTheOrderOfConstruction) {
  const auto layers = find_skippable_layers(build_adm_unet());
  EXPECT_THAT(names_of(layers),
              ElementsAre("down.0.0.block", "down.0.1.block", "down.0.downsample", "down.1.0.block",
                          "down.1.0.attention", "down.1.1.block", "down.1.1.attention", "mid.block1",
                          "mid.attention", "mid.block2", "up.1.0.block", "up.1.0.attention", "up.1.1.block",
                          "up.1.1.attention", "up.1.2.block", "up.1.2.attention", "up.1.upsample",
                          "up.0.0.block", "up.0.1.block", "up.0.2.block"));
  for (const SkippableLayer& layer : layers)
    EXPECT_EQ(layer.kind == LayerKind::Attention, layer.name.ends_with("attention")) << layer.name;
  EXPECT_EQ(layers[0].shortcut, "conv_in");
  EXPECT_EQ(layers[0].branch, "down.0.0.block.conv2");
  EXPECT_EQ(layers[2].shortcut, "down.0.downsample.skip_resample");
  EXPECT_EQ(layers[3].shortcut, "down.1.0.block.skip");
  EXPECT_EQ(layers[10].entry, "up.1.0.concat");
}

TEST(SkippableLayers, OfOtherNetworks) {
  // Plain convolutions that resample carry no number.
  EXPECT_EQ(find_skippable_layers(build_unet({.image_size = 16, .base = 16, .multipliers = {1, 2}})).size(),
            18u);
  // A skip around the whole body does not swallow its blocks.
  EXPECT_THAT(names_of(find_skippable_layers(build_edsr({.channels = 8, .blocks = 4}))),
              ElementsAre("body.0", "body.1", "body.2", "body.3"));
  EXPECT_EQ(find_skippable_layers(build_vit({.dim = 48, .depth = 3, .classes = 10})).size(), 6u);
}

/// Convolution, then a block with attention and a convolution inside its own shortcut, then more
/// convolutions.
TEST(SkippableLayers, ResidualsInsideAResidualAreOneLayer) {
  GraphBuilder net("nested", 1);
  std::string x = net.conv("in", net.input("x", {-1, 4, 4, 4}), {.channels = 4});
  for (const std::string block : {"a", "b", "c"}) {
    std::string y = net.conv(block + ".first", x, {.channels = 4, .kernel = 1});
    for (const std::string inner : {".1", ".2"})
      y = net.add(block + inner + ".add", y,
                  net.relu(block + inner + ".relu", net.conv(block + inner + ".conv", y, {.channels = 4})));
    x = net.add(block + ".add", x, net.conv(block + ".last", y, {.channels = 4}));
  }
  net.output("y", x, {-1, 4, 4, 4});
  EXPECT_THAT(names_of(find_skippable_layers(net.finish())), ElementsAre("a", "b", "c"));
}

TEST(SkippableLayers, NeedACheapShortcut) {
  const auto layers_of = [](auto shortcut) {
    GraphBuilder net("one", 1);
    const std::string x = net.input("x", {-1, 4, 4, 4});
    const std::string y = net.conv("block.conv", net.relu("block.relu", x), {.channels = 4});
    net.output("y", net.add("block.add", shortcut(net, x), y), {-1, 4, 4, 4});
    return find_skippable_layers(net.finish());
  };
  const auto identity = layers_of([](GraphBuilder&, const std::string& x) { return x; });
  ASSERT_EQ(identity.size(), 1u);
  EXPECT_EQ(identity[0].shortcut, "x");
  const auto pointwise = layers_of([](GraphBuilder& net, const std::string& x) {
    return net.conv("block.skip", x, {.channels = 4, .kernel = 1});
  });
  ASSERT_EQ(pointwise.size(), 1u);
  EXPECT_EQ(pointwise[0].shortcut, "block.skip");
  EXPECT_TRUE(layers_of([](GraphBuilder& net, const std::string& x) {
                return net.conv("block.skip", x, {.channels = 4});
              }).empty());
  EXPECT_TRUE(layers_of([](GraphBuilder& net, const std::string& x) {
                return net.group_norm("block.norm", x, 2);
              }).empty());
}

TEST(SkippableLayers, ALayerAtTheOutputKeepsItsName) {
  GraphBuilder net("one", 1);
  const std::string x = net.input("x", {-1, 4, 4, 4});
  net.output("y", net.add("add", x, net.conv("conv", x, {.channels = 4})), {-1, 4, 4, 4});
  const Graph graph = net.finish();
  const Graph skipped = without_layers(graph, find_skippable_layers(graph), {0});
  const Feeds feeds = random_inputs(graph, 1, {}, 2);
  EXPECT_TRUE(at::equal(run(skipped, feeds), feeds.at("x")));
}

TEST(SkippableLayers, WithoutAnyTheTimeHasNoSay) {
  const Graph graph = lively_adm();
  const auto layers = find_skippable_layers(graph);
  Feeds feeds = random_inputs(graph, 2, {}, 2);
  const Graph bare = without_layers(graph, layers, all_of(layers));
  const at::Tensor early = run(bare, feeds), full = run(graph, feeds);
  feeds["t"] = at::full({2}, 700, at::kLong);
  EXPECT_TRUE(at::equal(run(bare, feeds), early));
  EXPECT_FALSE(at::allclose(run(graph, feeds), full));
  for (const Node& node : bare.nodes) EXPECT_FALSE(node.name.starts_with("time.")) << node.name;
}

TEST(SkippableLayers, BranchesOfZeroMayAllBeSkipped) {
  Graph graph = build_adm_unet();
  TensorData& last = graph.constants.at("out.conv.weight");  // zero too
  last = lively_adm().constants.at("out.conv.weight");
  const auto layers = find_skippable_layers(graph);
  const Feeds feeds = random_inputs(graph, 3, {}, 2);
  const at::Tensor full = run(graph, feeds);
  EXPECT_GT(largest(full), 0.01);
  for (std::uint64_t seed = 0; seed < 20; ++seed)
    EXPECT_EQ(largest(run(without_layers(graph, layers, random_set(layers.size(), seed)), feeds) - full), 0);
  EXPECT_EQ(largest(run(without_layers(graph, layers, all_of(layers)), feeds) - full), 0);
}

TEST(SkippableLayers, EveryLayerMatters) {
  const Graph graph = lively_adm();
  const auto layers = find_skippable_layers(graph);
  const Feeds feeds = random_inputs(graph, 4, {}, 2);
  const at::Tensor full = run(graph, feeds);
  EXPECT_TRUE(at::equal(run(without_layers(graph, layers, {}), feeds), full));
  for (const int layer : all_of(layers))
    EXPECT_GT(largest(run(without_layers(graph, layers, {layer}), feeds) - full), 1e-6)
        << layers[static_cast<std::size_t>(layer)].name;
}

TEST(SkippableLayers, AFetchedBranchCanBeFedBack) {
  const at::NoGradGuard no_grad;
  const Graph graph = lively_adm();
  const auto layers = find_skippable_layers(graph);
  Executor executor(graph);
  const Feeds feeds = random_inputs(graph, 6, {}, 2);
  std::vector<std::string> fetch{"prediction"};
  for (const SkippableLayer& layer : layers) fetch.push_back(layer.branch);
  const Feeds values = executor.run(feeds, fetch);
  for (const SkippableLayer& layer : layers) {
    Feeds cached = feeds;
    cached[layer.branch] = values.at(layer.branch);
    const at::Tensor again = executor.run(cached, {"prediction"}).at("prediction");
    EXPECT_LT(largest(again - values.at("prediction")), 1e-5) << layer.name;
    cached[layer.branch] = at::zeros_like(values.at(layer.branch));
    const int number = static_cast<int>(&layer - layers.data());
    EXPECT_LT(largest(executor.run(cached, {"prediction"}).at("prediction") -
                      run(without_layers(graph, layers, {number}), feeds)),
              1e-5)
        << layer.name;
  }
}

TEST(LayerCosts, AddUpForEverySet) {
  for (const bool scale_shift : {false, true}) {
    Graph graph = lively_adm({.classes = 3, .scale_shift = scale_shift});
    const auto layers = find_skippable_layers(graph);
    const LayerMacs macs = measure_layer_macs(graph, layers);
    const auto measured = [&](const std::vector<int>& skipped) {
      Graph rest = without_layers(graph, layers, skipped);
      infer_shapes(rest, concrete_input_shapes(rest));
      return measure_cost(rest).macs;
    };
    EXPECT_EQ(macs.full, measured({}));
    for (const int layer : all_of(layers)) {
      const auto index = static_cast<std::size_t>(layer);
      EXPECT_EQ(macs.full - macs.saved[index], measured({layer})) << layers[index].name;
      EXPECT_EQ(layers[index].macs, macs.saved[index]);
      EXPECT_GT(layers[index].nodes, 5);
    }
    for (std::uint64_t seed = 0; seed < 10; ++seed) {
      const std::vector<int> skipped = random_set(layers.size(), seed);
      EXPECT_EQ(macs.without(skipped), measured(skipped));
    }
    // The time embedding goes with the last layer that reads it.
    EXPECT_EQ(macs.without(all_of(layers)), measured(all_of(layers)));
    ASSERT_EQ(macs.shared.size(), 1u);
    EXPECT_EQ(macs.shared[0].second, 16 * 64 + 64 * 64);
  }
}

TEST(LayerCosts, OneByOneShortcutsRemain) {
  const Graph graph = lively_adm();
  const auto layers = find_skippable_layers(graph);
  const std::int64_t area = 4 * 4, in = 64, out = 32;
  const SkippableLayer& layer = layers.at(10);  // up.1.0.block: both convolutions and the embedding's layer
  EXPECT_EQ(layer.macs, area * 9 * (in * out + out * out) + 64 * 2 * out);
}

TEST(LayerCosts, TimesComeForEveryLayer) {
  const Graph graph = lively_adm();
  const auto layers = find_skippable_layers(graph);
  const LayerTimes times = measure_layer_times(graph, layers, {.batch = 1, .threads = 1, .repeats = 1});
  EXPECT_GT(times.full, 0);
  EXPECT_EQ(times.saved.size(), layers.size());
}

TEST(SkippableLayers, AreFoundAgainByName) {
  const auto layers = find_skippable_layers(build_adm_unet());
  EXPECT_THAT(layer_numbers(layers, {"up.0.2.block", "down.0.1.block", "up.0.2.block"}), ElementsAre(1, 19));
  EXPECT_THAT(test::message_of([&] { layer_numbers(layers, {"up.3.0.block"}); }), HasSubstr("up.3.0.block"));
  EXPECT_THAT(test::message_of([&] { without_layers(build_adm_unet(), layers, {20}); }),
              HasSubstr("no layer 20"));
}

}  // namespace
}  // namespace lithe
