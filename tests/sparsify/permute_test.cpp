#include "lithe/sparsify/permute.h"

#include <gmock/gmock.h>

#include "lithe/models/models.h"
#include "sparsify/helpers.h"

namespace lithe {
namespace {

using namespace testing_helpers;

/// Sets the weight so that important channels crowd in the same groups.
void crowd(Graph& graph, const std::string& name) {
  const auto shape = graph.constants.at(name).shape();
  auto values = graph.constants.at(name).to_floats();
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto channel = static_cast<std::int64_t>(i) / 9 % shape[1];
    values[i] *= channel / 4 % 2 == 0 ? 5.0f : 0.2f;
  }
  graph.constants[name] = TensorData::from(shape, std::move(values));
}

TEST(PermuteChannels, KeepsMoreAndComputesTheSame) {
  for (const bool residual : {false, true}) {
    Graph graph = small_net({.residual = residual});
    shake_norms(graph, 3);
    crowd(graph, "body.2.weight");
    const auto layers = find_sparse_layers(graph, {});
    const at::Tensor x = random_images(4, 5), before = run(graph, x);
    Graph permuted = graph;
    const auto groups = permute_channels(permuted, layers);
    EXPECT_LT(relative(run(permuted, x), before), 1e-5);
    // Without a sum every layer's input has its own order; with one the inputs of body.2 and point share it.
    ASSERT_EQ(groups.size(), residual ? 2u : 3u);
    const auto found = std::find_if(groups.begin(), groups.end(), [](const PermutedGroup& group) {
      return std::count(group.layers.begin(), group.layers.end(), "body.2") > 0;
    });
    ASSERT_NE(found, groups.end());
    EXPECT_EQ(found->layers.size(), residual ? 2u : 1u);
    EXPECT_GT(found->kept_after, found->kept_before * (residual ? 1.0 : 1.1));
    double kept = 0;
    for (const SparseLayer& layer : layers)
      if (std::count(found->layers.begin(), found->layers.end(), layer.name) > 0) {
        const auto values = permuted.constants.at(layer.weight).to_floats();
        const auto mask = mask_of(permuted.constants.at(layer.weight), layer);
        for (std::size_t i = 0; i < values.size(); ++i) kept += mask[i] * std::abs(values[i]);
      }
    EXPECT_NEAR(kept, found->kept_after, 1e-3 * kept);
  }
}

TEST(PermuteChannels, LeavesAloneWhatItDoesNotUnderstand) {
  // Shortcuts by Slice and Pad bind the channels of a stage; those inside a block are free.
  Graph graph = build_resnet20({.classes = 10, .image_size = 16, .width = 0.5});
  shake_norms(graph, 3);
  const auto layers = find_sparse_layers(graph, {});
  const at::Tensor x = at::randn({2, 3, 16, 16}), before = run(graph, x);
  const auto groups = permute_channels(graph, layers);
  EXPECT_EQ(groups.size(), 9u);
  for (const PermutedGroup& group : groups)
    EXPECT_TRUE(group.layers.at(0).ends_with("conv2")) << group.layers[0];
  EXPECT_LT(relative(run(graph, x), before), 1e-4);
}

TEST(PermuteChannels, ThroughDepthwiseConvolutions) {
  Graph graph = build_mobilenet_v2({.classes = 10, .image_size = 32, .width = 0.25});
  shake_norms(graph, 3);
  const at::Tensor x = at::randn({2, 3, 32, 32}), before = run(graph, x);
  const auto groups =
      permute_channels(graph, find_sparse_layers(graph, {.ragged = Ragged::Pad}), {.max_swaps = 50});
  EXPECT_GT(groups.size(), 15u);
  EXPECT_LT(relative(run(graph, x), before), 1e-4);
}

}  // namespace
}  // namespace lithe
