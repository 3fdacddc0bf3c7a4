#include "lithe/sparsify/masked_graph.h"

#include <gmock/gmock.h>

#include "lithe/base/error.h"
#include "lithe/sparsify/fold.h"
#include "sparsify/helpers.h"

namespace lithe {
namespace {

using namespace testing_helpers;

/// Weights as `run` uses them under masks by magnitude.
Graph pruned_by_hand(Graph graph, const std::vector<SparseLayer>& layers) {
  for (const SparseLayer& layer : layers) {
    if (!layer.pattern) continue;
    auto values = graph.constants.at(layer.weight).to_floats();
    const auto mask = mask_of(graph.constants.at(layer.weight), layer);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] *= mask[i];
    graph.constants[layer.weight] = TensorData::from(layer.shape, std::move(values));
  }
  return graph;
}

Graph shaken(const SmallNet& options = {}) {
  Graph graph = small_net(options);
  shake_norms(graph, options.seed + 5);
  return graph;
}

TEST(Masks, EveryModePrunesAlike) {
  const Graph graph = shaken();
  const auto layers = find_sparse_layers(graph, {.pattern = {1, 4}});
  const at::Tensor x = random_images(3, 2), wanted = run(pruned_by_hand(graph, layers), x);
  EXPECT_GT(relative(run(graph, x), wanted), 1e-3);
  for (const MaskMode mode : {MaskMode::Fixed, MaskMode::StraightThrough, MaskMode::Refined})
    for (const bool branches : {false, true}) {
      // A branch of scale 0 adds nothing.
      const MaskedGraph masked = insert_masks(graph, layers, {.mode = mode, .branches = branches});
      EXPECT_EQ(masked.layers.size(), 3u);
      EXPECT_EQ(masked.layers[0].has_branch(), branches);
      EXPECT_FALSE(masked.layers[2].has_branch());  // 1x1
      EXPECT_LT(relative(run(masked.graph, x), wanted), 1e-6);
      const Graph folded = fold_masks(masked, masked.graph);
      EXPECT_LT(relative(run(folded, x), wanted), 1e-6);
      check_patterns(folded, masked.layers);
    }
}

TEST(Masks, FoldIsExactForAnyBranch) {
  for (const auto& [n, m] : std::vector<std::pair<int, int>>{{2, 4}, {1, 4}, {3, 8}, {1, 8}})
    for (const SpatialChoice spatial :
         {SpatialChoice::Measured, SpatialChoice::Everywhere, SpatialChoice::Inverted}) {
      const Graph graph = shaken({.residual = true, .seed = static_cast<std::uint64_t>(n + m)});
      MaskedGraph masked = insert_masks(graph, find_sparse_layers(graph, {.pattern = {n, m}}),
                                        {.branches = true, .branch_gamma = 1, .spatial = spatial, .seed = 9});
      shake_norms(masked.graph, 77);
      const at::Tensor x = random_images(4, 8);
      const Graph folded = fold_masks(masked, masked.graph);
      EXPECT_LT(relative(run(folded, x), run(masked.graph, x)), 1e-5);
      EXPECT_LT(fold_difference(masked.graph, folded, small_data(20, 3)).absolute, 1e-5);
      EXPECT_LT(fold_difference(masked.graph, folded, nullptr).absolute, 1e-5);
      check_patterns(folded, masked.layers);
      for (const Node& node : folded.nodes) EXPECT_EQ(node.domain, "");
      EXPECT_EQ(folded.nodes.size() + 2, graph.nodes.size());  // less two norms
      // What survives was kept by the mask of the latent weight.
      for (const MaskedLayer& layer : masked.layers) {
        const auto mask = mask_of(masked.graph.constants.at(layer.layer.weight), layer.layer);
        const auto kernel = folded.constants.at(layer.layer.weight).to_floats();
        for (std::size_t i = 0; i < mask.size(); ++i) EXPECT_EQ(kernel[i] != 0, mask[i] != 0);
      }
    }
}

TEST(Masks, EmptySpatialMaskFolds) {
  const Graph graph = shaken();
  MaskedGraph masked =
      insert_masks(graph, find_sparse_layers(graph, {}), {.branches = true, .branch_gamma = 1});
  shake_norms(masked.graph, 4);
  const MaskedLayer& layer = masked.layers[0];
  masked.graph.constants.at(layer.spatial_mask) = TensorData::from({1, 1, 3, 3}, std::vector<float>(9));
  EXPECT_LT(fold_difference(masked.graph, fold_masks(masked, masked.graph), nullptr).absolute, 1e-5);
}

TEST(Masks, BrokenPatternsAreRefused) {
  const Graph graph = shaken();
  const MaskedGraph masked = insert_masks(graph, find_sparse_layers(graph, {}), {});
  Graph folded = fold_masks(masked, masked.graph);
  const std::string name = masked.layers[1].layer.weight;
  auto values = folded.constants.at(name).to_floats();
  const TensorData good = folded.constants.at(name);
  values[static_cast<std::size_t>(std::find(values.begin(), values.end(), 0.0f) - values.begin())] = 1;
  folded.constants[name] = TensorData::from(good.shape(), values);
  EXPECT_THROW(check_patterns(folded, masked.layers), Error);
  values = good.to_floats();
  *std::find(values.begin(), values.end(), 0.0f) = -0.0f;
  folded.constants[name] = TensorData::from(good.shape(), values);
  EXPECT_THROW(check_patterns(folded, masked.layers), Error);
}

TEST(Masks, SharedWeightsAreMaskedOnce) {
  Graph graph = shaken({.channels = 8});
  // body.1 and body.2 are both 8 -> 8.
  for (Node& node : graph.nodes)
    std::replace(node.inputs.begin(), node.inputs.end(), std::string("body.2.weight"),
                 std::string("body.1.weight"));
  graph.constants.erase("body.2.weight");
  const auto layers = find_sparse_layers(graph, {});
  EXPECT_TRUE(layer_named(layers, "body.1").shared);
  const MaskedGraph masked = insert_masks(graph, layers, {.branches = true});
  EXPECT_EQ(masked.layers.size(), 2u);
  EXPECT_FALSE(masked.layers[0].has_branch());
  const at::Tensor x = random_images(2, 1);
  EXPECT_LT(relative(run(fold_masks(masked, masked.graph), x), run(pruned_by_hand(graph, layers), x)), 1e-6);
}

TEST(InsertedNorms, ChangeNothingAndFoldAgain) {
  Graph graph = small_net({.norms = false});
  Rng rng(4);
  for (auto& [name, data] : graph.constants)
    if (name.ends_with(".bias")) {
      std::vector<float> values(static_cast<std::size_t>(data.count()));
      for (float& value : values) value = static_cast<float>(rng.normal());
      data = TensorData::from(data.shape(), std::move(values));
    }
  const at::Tensor x = random_images(5, 6), before = run(graph, x);
  Graph with = graph;
  auto layers = find_sparse_layers(with, {});
  const auto inserted = insert_batch_norms(with, layers, small_data(100, 2), 64, 16);
  EXPECT_EQ(inserted.size(), 3u);
  EXPECT_LT(relative(run(with, x), before), 1e-5);
  const MaskedGraph masked = insert_masks(with, layers, {.branches = true, .branch_gamma = 1}, inserted);
  EXPECT_TRUE(masked.layers[0].has_branch());
  const Graph folded = fold_masks(masked, masked.graph);
  EXPECT_EQ(folded.nodes.size(), graph.nodes.size());
  EXPECT_LT(fold_difference(masked.graph, folded, nullptr).absolute, 1e-5);
  EXPECT_TRUE(insert_batch_norms(with, layers, small_data(20, 2), 16, 16).empty());
}

TEST(Masks, NothingToPrune) {
  const Graph graph = small_net();
  EXPECT_THROW(insert_masks(graph, find_sparse_layers(graph, {.pattern = {1, 64}}), {}), Error);
}

}  // namespace
}  // namespace lithe
