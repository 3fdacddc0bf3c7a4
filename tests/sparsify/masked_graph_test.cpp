#include "lithe/sparsify/masked_graph.h"

#include <gmock/gmock.h>

#include <map>

#include "lithe/base/file.h"
#include "lithe/graph/onnx.h"
#include "lithe/sparsify/fold.h"
#include "lithe/sparsify/verify.h"
#include "message_of.h"
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
      MaskedGraph silent = masked;  // the branches and their norms do something
      for (const MaskedLayer& layer : masked.layers)
        if (layer.has_branch())
          silent.graph.constants.at(layer.branch_weight) = TensorData::from(
              layer.layer.shape, std::vector<float>(static_cast<std::size_t>(layer.layer.groups.count())));
      EXPECT_GT(relative(run(silent.graph, x), run(masked.graph, x)), 1e-2);
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
  const auto message = [&] { return test::message_of([&] { check_patterns(folded, masked.layers); }); };
  EXPECT_THAT(message(), testing::HasSubstr("'body.2.weight' of layer 'body.2' breaks 2:4 in 1 groups"));
  values = good.to_floats();
  *std::find(values.begin(), values.end(), 0.0f) = -0.0f;
  folded.constants[name] = TensorData::from(good.shape(), values);
  EXPECT_THAT(message(), testing::HasSubstr("'body.2.weight' of layer 'body.2' holds -0 at element"));
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

/// A network of one layer between two of 1x1, with random weights.
Graph around(const Node& node, const std::vector<std::int64_t>& shape, std::int64_t channels,
             std::int64_t size) {
  GraphBuilder net("one", 5);
  std::string x = net.conv("before", net.input("x", {-1, 3, 6, 6}), {.channels = channels, .kernel = 1});
  x = net.node(node.op_type, "middle", {x, net.random("middle.weight", shape, 1)}, node.attributes);
  net.set_channels(x, 6);
  net.output("y", net.conv("after", x, {.channels = 2, .kernel = 1}), {-1, 2, size, size});
  return net.finish();
}

/// Groups of the weight with more than n weights, counted by a rule that the test gives: which group the
/// element of these indices belongs to.
template <typename GroupOf>
std::int64_t crowded(const TensorData& weight, std::int64_t n, GroupOf&& group_of) {
  std::map<std::vector<std::int64_t>, std::int64_t> kept;
  const auto values = weight.to_floats();
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::vector<std::int64_t> at(weight.shape().size());
    auto rest = static_cast<std::int64_t>(i);
    for (std::size_t d = at.size(); d-- > 0; rest /= weight.shape()[d]) at[d] = rest % weight.shape()[d];
    kept[group_of(at)] += values[i] != 0 ? 1 : 0;
  }
  return std::count_if(kept.begin(), kept.end(), [&](const auto& one) { return one.second > n; });
}

// The weight of a transposed convolution is [in, out / groups, kh, kw]: input channels come first, and each
// group of the convolution has its own.
TEST(Masks, TransposedConvolutions) {
  for (const std::int64_t groups : {1, 2}) {
    Node node{.op_type = "ConvTranspose"};
    node.attributes["group"] = groups;
    const Graph graph = around(node, {8, 6 / groups, 2, 2}, 8, 7);
    const auto layers = find_sparse_layers(graph, {.pattern = {1, 4}, .include = {"middle"}});
    ASSERT_TRUE(layer_named(layers, "middle").pattern);
    for (const MaskMode mode : {MaskMode::Fixed, MaskMode::Refined}) {
      const MaskedGraph masked = insert_masks(graph, layers, {.mode = mode, .branches = true});
      EXPECT_FALSE(masked.layers.at(0).has_branch());
      const at::Tensor x = random_images(2, 3).slice(2, 0, 6).slice(3, 0, 6);
      const Graph folded = fold_masks(masked, masked.graph);
      EXPECT_LT(relative(run(folded, x), run(masked.graph, x)), 1e-6);
      check_patterns(folded, masked.layers);
      const TensorData& weight = folded.constants.at("middle.weight");
      const auto by_channel = [](const std::vector<std::int64_t>& at) {
        return std::vector<std::int64_t>{at[0] / 4, at[1], at[2], at[3]};
      };
      EXPECT_EQ(crowded(weight, 1, by_channel), 0);
      const auto values = weight.to_floats();
      EXPECT_EQ(std::count_if(values.begin(), values.end(), [](float v) { return v != 0; }) * 4,
                weight.count());
      EXPECT_EQ(values, pruned_by_hand(graph, layers).constants.at("middle.weight").to_floats());
    }
  }
}

// Groups of a convolution have their own input channels, axis 1 of the weight.
TEST(Masks, GroupedConvolutions) {
  Node node{.op_type = "Conv"};
  node.attributes["group"] = std::int64_t{2};
  node.attributes["pads"] = std::vector<std::int64_t>{1, 1, 1, 1};
  const Graph graph = around(node, {6, 8, 3, 3}, 16, 6);
  const auto layers = find_sparse_layers(graph, {.pattern = {2, 8}});
  EXPECT_EQ(layer_named(layers, "middle").groups.channels, 8);
  const MaskedGraph masked = insert_masks(graph, layers, {});
  const Graph folded = fold_masks(masked, masked.graph);
  check_patterns(folded, masked.layers);
  const auto by_channel = [](const std::vector<std::int64_t>& at) {
    return std::vector<std::int64_t>{at[0], at[2], at[3]};
  };
  EXPECT_EQ(crowded(folded.constants.at("middle.weight"), 2, by_channel), 0);
  EXPECT_EQ(crowded(graph.constants.at("middle.weight"), 2, by_channel), 6 * 9);
}

// Short last groups, kept under Ragged::Pad, written to a file and read again.
TEST(Masks, PaddedGroupsReachTheFile) {
  const Graph graph = shaken({.channels = 18});  // 18 = 4 * 4 + 2
  const auto layers = find_sparse_layers(graph, {.pattern = {1, 4}, .ragged = Ragged::Pad});
  const MaskedGraph masked = insert_masks(graph, layers, {});
  const TemporaryFolder folder;
  const Graph folded = fold_masks(masked, masked.graph);
  check_patterns(folded, masked.layers);
  write_onnx(folded, folder.path() / "padded.onnx");
  const Graph read = read_onnx(folder.path() / "padded.onnx");
  const auto by_channel = [](const std::vector<std::int64_t>& at) {
    return std::vector<std::int64_t>{at[0], at[1] / 4, at[2], at[3]};
  };
  const TensorData& weight = read.constants.at("body.2.weight");
  EXPECT_EQ(crowded(weight, 1, by_channel), 0);
  const auto values = weight.to_floats();
  EXPECT_EQ(std::count_if(values.begin(), values.end(), [](float v) { return v != 0; }), 18 * 9 * 5);
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
  const auto layers = find_sparse_layers(graph, {.pattern = {1, 64}});
  EXPECT_THAT(
      test::message_of([&] { insert_masks(graph, layers, {}); }),
      testing::HasSubstr("no layer of the model 'small' is pruned ('stem': first layer; 'body.1': 8 input "
                         "channels are no multiple of 64"));
}

}  // namespace
}  // namespace lithe
