#include "lithe/graph/blocks.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "lithe/graph/dataflow.h"
#include "lithe/graph/onnx.h"
#include "lithe/graph/shape_inference.h"
#include "lithe/models/models.h"
#include "tests/graph/quantized_graph.h"
#include "tests/real_models.h"

namespace lithe {
namespace {

using testing::ElementsAre;

std::vector<std::string> names(const std::vector<Block>& blocks) {
  std::vector<std::string> result;
  for (const Block& block : blocks) result.push_back(block.name);
  return result;
}

const Block* find(const std::vector<Block>& blocks, const std::string& name) {
  for (const Block* block : flatten(blocks))
    if (block->name == name) return block;
  return nullptr;
}

/// What every block promises: nodes only reach outside through entry, side inputs and exit.
void expect_closed(const Graph& graph, const std::vector<Block>& blocks) {
  const GraphIndex index(graph);
  std::set<std::string> block_names;
  for (const Block* block : flatten(blocks)) {
    SCOPED_TRACE(block->name);
    EXPECT_TRUE(block_names.insert(block->name).second);
    const auto inside = [&](int node) {
      return std::binary_search(block->nodes.begin(), block->nodes.end(), node);
    };
    for (const int node : block->nodes) {
      const Node& one = graph.nodes[static_cast<std::size_t>(node)];
      for (const std::string& name : all_reads(one)) {
        const bool known = name == block->entry || graph.is_constant(name) ||
                           std::count(block->side_inputs.begin(), block->side_inputs.end(), name) > 0 ||
                           (index.producer(name) >= 0 && inside(index.producer(name)));
        EXPECT_TRUE(known) << one.name << " reads " << name;
      }
      for (const std::string& name : one.outputs)
        if (name != block->exit)
          for (const int reader : index.consumers(name)) {
            const bool only_size = graph.nodes[static_cast<std::size_t>(reader)].op_type == "Shape";
            EXPECT_TRUE(inside(reader) || only_size) << name;
          }
    }
    for (const Block& child : block->children)
      EXPECT_TRUE(
          std::includes(block->nodes.begin(), block->nodes.end(), child.nodes.begin(), child.nodes.end()));
  }
}

TEST(FindBlocks, ResidualBlocksOfResNet18) {
  for (const bool batch_norm : {true, false}) {
    Graph graph = build_resnet18({.width = 0.25, .batch_norm = batch_norm});
    infer_shapes(graph);
    const auto blocks = find_blocks(graph);
    EXPECT_THAT(names(blocks), ElementsAre("layer1.0", "layer1.1", "layer2.0", "layer2.1", "layer3.0",
                                           "layer3.1", "layer4.0", "layer4.1"));
    EXPECT_EQ(blocks[0].entry, "maxpool");
    EXPECT_EQ(blocks[0].exit, "layer1.0.relu2");
    EXPECT_EQ(blocks[2].entry, "layer1.1.relu2");
    for (const Block& block : blocks) {
      EXPECT_EQ(block.kind, BlockKind::Residual);
      EXPECT_EQ(block.depth, 0);
      EXPECT_THAT(block.side_inputs, testing::IsEmpty());
      const bool down = block.name != "layer1.0" && block.name.ends_with(".0");
      EXPECT_EQ(block.skippable, !down) << block.name;
    }
    expect_closed(graph, blocks);
  }
}

TEST(FindBlocks, QuantisersDoNotHideBlocks) {
  Graph graph = test::with_quantizers(build_resnet18({.width = 0.25, .batch_norm = false}));
  const auto blocks = find_blocks(graph);
  EXPECT_EQ(blocks.size(), 8u);
  for (const Block& block : blocks) EXPECT_EQ(block.kind, BlockKind::Residual);
  expect_closed(graph, blocks);
}

TEST(FindBlocks, AGlobalSkipHoldsTheInnerBlocks) {
  const Graph graph = build_edsr({.channels = 8, .blocks = 5});
  const auto blocks = find_blocks(graph);
  ASSERT_EQ(blocks.size(), 1u);
  EXPECT_EQ(blocks[0].name, "body");
  EXPECT_EQ(blocks[0].entry, "head");
  EXPECT_EQ(blocks[0].exit, "body.add");
  EXPECT_THAT(names(blocks[0].children), ElementsAre("body.0", "body.1", "body.2", "body.3", "body.4"));
  EXPECT_EQ(blocks[0].children[3].entry, "body.2.add");
  EXPECT_EQ(blocks[0].children[3].depth, 1);
  expect_closed(graph, blocks);
}

TEST(FindBlocks, DenseBlocksInsideResidualBlocks) {
  const Graph graph = build_rdn({.channels = 8, .blocks = 3, .growth = 4, .layers = 3});
  const auto blocks = find_blocks(graph);
  ASSERT_EQ(blocks.size(), 1u);
  const Block* block = find(blocks, "block1");
  ASSERT_NE(block, nullptr);
  EXPECT_EQ(block->kind, BlockKind::Residual);
  EXPECT_THAT(names(block->children), ElementsAre("block1.layer0", "block1.layer1", "block1.layer2"));
  EXPECT_EQ(block->children[0].kind, BlockKind::Concat);
  expect_closed(graph, blocks);
}

TEST(FindBlocks, ConcatenationsOfAUnetDoNotSwallowItsBlocks) {
  Graph graph = build_unet({.image_size = 16, .base = 16, .multipliers = {1, 2}, .attention_sizes = {8}});
  infer_shapes(graph);
  const auto blocks = find_blocks(graph);
  for (const std::string name :
       {"down.0.0.block", "down.0.1.block", "down.1.0.block", "down.1.0.attention", "down.1.1.block",
        "down.1.1.attention", "mid.block1", "mid.attention", "mid.block2", "up.1.0.block", "up.1.0.attention",
        "up.1.1.block", "up.1.2.block", "up.0.0.block", "up.0.1.block", "up.0.2.block"}) {
    const Block* block = find(blocks, name);
    ASSERT_NE(block, nullptr) << name;
    EXPECT_EQ(block->kind, BlockKind::Residual) << name;
    const bool residual = name.ends_with("block") || name.starts_with("mid.block");
    EXPECT_EQ(block->side_inputs.size(), residual ? 1u : 0u) << name;
    if (residual) {
      EXPECT_EQ(block->side_inputs[0], "time.out");
    }
  }
  EXPECT_TRUE(find(blocks, "mid.block1")->skippable);
  EXPECT_TRUE(find(blocks, "mid.attention")->skippable);
  EXPECT_FALSE(find(blocks, "down.1.0.block")->skippable);
  EXPECT_EQ(find(blocks, "mid.block1")->entry, "down.1.1.attention.add");
  expect_closed(graph, blocks);
}

TEST(FindBlocks, AttentionAndMlpOfEveryTransformerLayer) {
  for (const bool norm_operator : {false, true})
    for (const std::int64_t batch : {-1, 2}) {
      Graph graph = build_vit(
          {.dim = 48, .depth = 3, .classes = 10, .layer_norm_operator = norm_operator, .batch = batch});
      infer_shapes(graph);
      const auto blocks = find_blocks(graph);
      ASSERT_EQ(blocks.size(), 6u);
      for (std::size_t layer = 0; layer < 3; ++layer) {
        const std::string name = fmt::format("blocks.{}", layer);
        const Block &attention = blocks[2 * layer], &mlp = blocks[2 * layer + 1];
        EXPECT_EQ(attention.exit, name + ".add1");
        EXPECT_EQ(attention.entry, layer == 0 ? "pos_add" : fmt::format("blocks.{}.add2", layer - 1));
        EXPECT_EQ(mlp.entry, name + ".add1");
        EXPECT_EQ(mlp.exit, name + ".add2");
        EXPECT_TRUE(attention.skippable);
        EXPECT_TRUE(mlp.skippable);
      }
      expect_closed(graph, blocks);
    }
}

TEST(FindBlocks, OptionAShortcutsWithShapeChains) {
  EXPECT_EQ(find_blocks(build_resnet20()).size(), 9u);
  int files = 0;
  for (const std::filesystem::path& path : test::real_models()) {
    if (path.filename() != "resnet20_cifar10.onnx") continue;
    SCOPED_TRACE(path.string());
    Graph graph = read_onnx(path);
    infer_shapes(graph, concrete_input_shapes(graph));
    const auto blocks = find_blocks(graph);
    EXPECT_EQ(blocks.size(), 9u);
    for (const Block& block : blocks) EXPECT_EQ(block.kind, BlockKind::Residual);
    expect_closed(graph, blocks);
    ++files;
  }
  EXPECT_GE(files, 1);
}

TEST(FindBlocks, SurvivesSkipsNestedWithoutMeasure) {
  // x0 -> w x0 -> ... and then every value is added back, the last first.
  constexpr int kLevels = 600;
  Graph graph;
  graph.inputs = {{.name = "x0", .dtype = DType::Float32, .shape = DimVector{{1, ""}, {2, ""}}}};
  graph.constants["w"] = TensorData::from<float>({2, 2}, {1, 0, 0, 1});
  for (int i = 0; i < kLevels; ++i)
    graph.nodes.push_back({.op_type = "MatMul",
                           .inputs = {fmt::format("x{}", i), "w"},
                           .outputs = {fmt::format("x{}", i + 1)}});
  std::string value = fmt::format("x{}", kLevels);
  for (int i = kLevels; i-- > 0;) {
    graph.nodes.push_back(
        {.op_type = "Add", .inputs = {value, fmt::format("x{}", i)}, .outputs = {fmt::format("y{}", i)}});
    value = fmt::format("y{}", i);
  }
  graph.outputs = {{.name = value}};
  const auto blocks = find_blocks(graph);
  ASSERT_FALSE(blocks.empty());
  int deepest = 0;
  for (const Block* block : flatten(blocks)) deepest = std::max(deepest, block->depth);
  EXPECT_EQ(deepest, 199);
}

TEST(FindBlocks, MobileNetHasTenResidualBlocks) {
  const Graph graph = build_mobilenet_v2({.width = 0.5});
  const auto blocks = find_blocks(graph);
  EXPECT_EQ(blocks.size(), 10u);
  EXPECT_EQ(blocks[0].name, "block2");
  expect_closed(graph, blocks);
}

TEST(DataFlow, SeparatesDataFromSizesAndConditions) {
  const Graph graph =
      build_unet({.image_size = 16, .base = 16, .multipliers = {1, 2}, .attention_sizes = {8}});
  const DataFlow flow(graph);
  EXPECT_EQ(flow.main_input, "x");
  for (int i = 0; i < static_cast<int>(graph.nodes.size()); ++i) {
    const Node& node = graph.nodes[static_cast<std::size_t>(i)];
    EXPECT_EQ(flow.is_conditioned(i), node.name.find("time") != std::string::npos) << node.name;
    if (node.op_type == "Shape") {
      EXPECT_FALSE(flow.is_data(i)) << node.name;
    }
    if (node.op_type == "Conv") {
      EXPECT_TRUE(flow.is_data(i)) << node.name;
    }
  }
}

}  // namespace
}  // namespace lithe
