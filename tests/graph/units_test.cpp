#include "lithe/graph/units.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>
#include <span>

#include "lithe/base/error.h"
#include "lithe/graph/dataflow.h"
#include "lithe/graph/onnx.h"
#include "lithe/graph/shape_inference.h"
#include "lithe/models/models.h"
#include "tests/graph/quantized_graph.h"
#include "tests/real_models.h"

namespace lithe {
namespace {

using testing::ElementsAre;
using Counts = std::vector<std::int64_t>;

Counts weights(const Graph& graph) {
  Counts counts;
  for (const Unit& unit : find_units(graph)) counts.push_back(unit_weights(graph, unit));
  return counts;
}

Counts capacities(const Graph& graph, double factor) {
  Counts counts;
  for (const Unit& unit : find_units(graph))
    counts.push_back(std::llround(unit_capacity(
        graph, unit, [](const Node&) { return 2; }, factor)));
  return counts;
}

std::vector<std::string> names(const std::vector<Unit>& units) {
  std::vector<std::string> result;
  for (const Unit& unit : units) result.push_back(unit.name);
  return result;
}

/// Every node of the data path is in exactly one unit, and inputs come from earlier units.
void expect_partition(const Graph& graph, const std::vector<Unit>& units) {
  const DataFlow flow(graph);
  std::vector<int> seen(graph.nodes.size(), 0);
  std::set<std::string> made;
  for (const ValueInfo& input : graph.inputs) made.insert(input.name);
  std::set<std::string> unit_names;
  for (const Unit& unit : units) {
    EXPECT_TRUE(unit_names.insert(unit.name).second) << unit.name;
    for (const int node : unit.nodes) ++seen[static_cast<std::size_t>(node)];
    for (const std::string& input : unit.inputs) {
      const int maker = flow.index.producer(input);
      EXPECT_TRUE(made.contains(input) || !(flow.is_data(maker) || flow.is_conditioned(maker)))
          << unit.name << " reads " << input;
    }
    EXPECT_FALSE(unit.outputs.empty()) << unit.name;
    EXPECT_FALSE(unit.layers.empty()) << unit.name;
    made.insert(unit.outputs.begin(), unit.outputs.end());
  }
  for (int node = 0; node < static_cast<int>(graph.nodes.size()); ++node) {
    EXPECT_LE(seen[static_cast<std::size_t>(node)], 1);
    if (flow.is_data(node)) {
      EXPECT_EQ(seen[static_cast<std::size_t>(node)], 1) << describe(graph.nodes[node]);
    }
    if (flow.weight(node)) {
      EXPECT_EQ(seen[static_cast<std::size_t>(node)], 1) << describe(graph.nodes[node]);
    }
  }
}

// Unit tables and weight counts of the published implementations; capacities at 2 bits follow from them.

TEST(FindUnits, ResNet18) {
  for (const bool batch_norm : {true, false}) {
    const Graph graph = build_resnet18({.batch_norm = batch_norm});
    const auto units = find_units(graph);
    EXPECT_THAT(names(units), ElementsAre("conv1", "layer1.0", "layer1.1", "layer2.0", "layer2.1", "layer3.0",
                                          "layer3.1", "layer4.0", "layer4.1", "fc"));
    EXPECT_EQ(weights(graph),
              (Counts{9408, 73728, 73728, 229376, 294912, 917504, 1179648, 3670016, 4718592, 512000}));
    EXPECT_EQ(capacities(graph, 1.6),
              (Counts{30106, 147456, 147456, 557056, 589824, 2228224, 2359296, 8912896, 9437184, 1024000}));
    EXPECT_EQ(units[0].outputs, std::vector<std::string>{"maxpool"});
    EXPECT_EQ(units[1].outputs, std::vector<std::string>{"layer1.0.relu2"});
    EXPECT_EQ(units[9].inputs, std::vector<std::string>{"layer4.1.relu2"});
    EXPECT_EQ(units[9].nodes.size(), 3u);  // pool, flatten, gemm
    expect_partition(graph, units);
  }
}

TEST(FindUnits, QuantisersDoNotChangeTheTable) {
  const Graph graph = test::with_quantizers(build_resnet18({.batch_norm = false}));
  EXPECT_EQ(weights(graph), weights(build_resnet18()));
  expect_partition(graph, find_units(graph));
}

TEST(FindUnits, ResNet50) {
  const Graph graph = build_resnet50();
  const auto units = find_units(graph);
  ASSERT_EQ(units.size(), 18u);
  EXPECT_EQ(units[0].name, "conv1");
  EXPECT_EQ(units[4].name, "layer2.0");
  EXPECT_EQ(units[8].name, "layer3.0");
  EXPECT_EQ(units[14].name, "layer4.0");
  EXPECT_EQ(units[17].name, "fc");
  EXPECT_EQ(units[1].layers.size(), 4u);
  EXPECT_EQ(units[2].layers.size(), 3u);
  // 25,502,912 in all: the 25,557,032 parameters of the usual count less batch norms and the last bias.
  EXPECT_EQ(weights(graph),
            (Counts{9408, 73728, 69632, 69632, 376832, 278528, 278528, 278528, 1507328, 1114112, 1114112,
                    1114112, 1114112, 1114112, 6029312, 4456448, 4456448, 2048000}));
  expect_partition(graph, units);
}

TEST(FindUnits, RegNetX600M) {
  const Graph graph = build_regnetx_600m();
  const auto units = find_units(graph);
  ASSERT_EQ(units.size(), 18u);
  EXPECT_EQ(units[0].name, "stem");
  EXPECT_EQ(units[1].name, "s1.b1");
  EXPECT_EQ(units[2].name, "s2.b1");
  EXPECT_EQ(units[5].name, "s3.b1");
  EXPECT_EQ(units[10].name, "s4.b1");
  EXPECT_EQ(units[17].name, "head.fc");
  // Of a block of w channels after v: v w + 9 * 24 w + w w, and v w for the shortcut where there is one.
  EXPECT_EQ(weights(graph), (Counts{864, 15744, 39168, 39168, 39168, 155520, 167040, 167040, 167040, 167040,
                                    646272, 671616, 671616, 671616, 671616, 671616, 671616, 528000}));
  expect_partition(graph, units);
}

// Blocks alike have names alike, whatever lies between them.
TEST(FindUnits, NamesOfTransformerBlocksAreEven) {
  const Graph graph =
      build_vit({.image_size = 16, .patch = 8, .dim = 24, .depth = 3, .heads = 2, .classes = 10});
  std::map<std::string, std::set<std::string>> kinds;  // by the block's number, without it
  for (const Unit& unit : find_units(graph)) {
    const std::size_t digit = unit.name.find_first_of("0123456789");
    if (digit == std::string::npos) continue;
    std::string kind = unit.name;
    kinds[std::string(1, kind[digit])].insert(kind.replace(digit, 1, "#"));
  }
  ASSERT_EQ(kinds.size(), 3u);
  EXPECT_EQ(kinds.at("0"), kinds.at("1"));
  EXPECT_EQ(kinds.at("1"), kinds.at("2"));
}

TEST(FindUnits, MobileNetV2) {
  const Graph graph = build_mobilenet_v2();
  EXPECT_EQ(weights(graph), (Counts{1664, 4704, 8208, 9360, 14016, 14016, 20160, 52608, 52608, 52608, 64896,
                                    115776, 115776, 152640, 315840, 315840, 469440, 1689600}));
  EXPECT_EQ(capacities(graph, 1.6),
            (Counts{4365, 10445, 16416, 20275, 28032, 28032, 42394, 105216, 105216, 105216, 129792, 231552,
                    231552, 311501, 631680, 631680, 938880, 3379200}));
  const auto units = find_units(graph);
  EXPECT_EQ(units[0].layers.size(), 3u);
  EXPECT_FALSE(units[0].block);
  EXPECT_TRUE(units[2].block);
  EXPECT_EQ(units[17].layers.size(), 2u);
  expect_partition(graph, units);
  EXPECT_EQ(weights(build_mobilenet_v2({.width = 0.5, .batch_norm = false})),
            (Counts{704, 1584, 3936, 3936, 3936, 3936, 5472, 14016, 14016, 14016, 17088, 30240, 30240, 39456,
                    81120, 81120, 119520, 1484800}));
}

TEST(FindUnits, ResNet20) {
  const Graph graph = build_resnet20();
  const Counts expected{432, 4608, 4608, 4608, 13824, 18432, 18432, 55296, 73728, 73728, 640};
  EXPECT_EQ(weights(graph), expected);
  EXPECT_EQ(capacities(graph, 1.6),
            (Counts{864, 9216, 9216, 9216, 33178, 36864, 36864, 132710, 147456, 147456, 1280}));
  EXPECT_EQ(capacities(graph, 1)[4], 27648);
  expect_partition(graph, find_units(graph));
}

TEST(FindUnits, RealModels) {
  const std::map<std::string, std::size_t> counts{{"resnet20_cifar10.onnx", 11},
                                                  {"mobilenet_v2_imagenet.onnx", 18},
                                                  {"mobilenet_v2_x0.5_cifar10.onnx", 18}};
  for (const std::filesystem::path& path : test::real_models()) {
    const std::string file = path.filename().string();
    SCOPED_TRACE(path.string());
    const Graph graph = read_onnx(path);
    const auto units = find_units(graph);
    if (const auto found = counts.find(file); found != counts.end()) {
      EXPECT_EQ(units.size(), found->second);
    }
    expect_partition(graph, units);
    expect_partition(graph, split_units(graph, units));
  }
}

TEST(FindUnits, DividesWhatAGlobalSkipSpans) {
  const Graph graph = build_edsr({.channels = 8, .blocks = 16});
  const auto units = find_units(graph);
  ASSERT_EQ(units.size(), 19u);
  EXPECT_EQ(units[0].name, "head");
  for (int i = 0; i < 16; ++i)
    EXPECT_EQ(units[static_cast<std::size_t>(i + 1)].name, fmt::format("body.{}", i));
  EXPECT_EQ(units[17].inputs, (std::vector<std::string>{"body.15.add", "head"}));
  EXPECT_EQ(units[17].outputs, (std::vector<std::string>{"body.add"}));
  EXPECT_EQ(units[18].layers.size(), 2u);
  expect_partition(graph, units);
}

TEST(FindUnits, DividesUnetsAtTheirBlocks) {
  Graph graph = build_unet({.image_size = 16, .base = 16, .multipliers = {1, 2}, .attention_sizes = {8}});
  infer_shapes(graph);
  const auto units = find_units(graph);
  const auto all = names(units);
  for (const char* name :
       {"down.0.0.block", "down.1.1.attention", "mid.block1", "mid.attention", "mid.block2"})
    EXPECT_THAT(all, testing::Contains(name));
  EXPECT_EQ(units[0].name, "time");
  EXPECT_EQ(units[0].layers.size(), 2u);
  EXPECT_EQ(units[1].name, "conv_in");
  for (const Unit& unit : units) EXPECT_LE(unit.layers.size(), 4u) << unit.name;
  expect_partition(graph, units);
}

TEST(FindUnits, DenseAndTransformerNetworks) {
  for (const Graph& graph : {build_rdn({.channels = 8, .blocks = 3, .growth = 4, .layers = 6}),
                             build_rdn({.channels = 8, .blocks = 2, .growth = 4, .layers = 16}),
                             build_vit({.dim = 48, .depth = 3, .classes = 10})}) {
    SCOPED_TRACE(graph.name);
    const auto units = find_units(graph);
    expect_partition(graph, units);
    for (const Unit& unit : units) EXPECT_LE(unit.layers.size(), 12u) << unit.name;
  }
  const auto units = find_units(build_vit({.dim = 48, .depth = 3, .classes = 10}));
  EXPECT_EQ(units.size(), 8u);  // patches, attention and MLP of three layers, head
}

TEST(FindUnits, AGraphWithoutLayersHasNone) {
  Graph graph;
  graph.inputs = {{.name = "x", .dtype = DType::Float32, .shape = DimVector{{2, ""}}}};
  graph.nodes = {{.name = "r", .op_type = "Relu", .inputs = {"x"}, .outputs = {"y"}}};
  graph.outputs = {{.name = "y"}};
  EXPECT_TRUE(find_units(graph).empty());
}

TEST(MakeUnit, OfAnyNodes) {
  Graph graph = build_resnet18({.batch_norm = false});
  infer_shapes(graph);
  for (const Unit& unit : find_units(graph)) {
    std::vector<int> shuffled(unit.nodes.rbegin(), unit.nodes.rend());
    const Unit made = make_unit(graph, shuffled);
    EXPECT_EQ(made.nodes, unit.nodes);
    EXPECT_EQ(made.layers, unit.layers);
    EXPECT_EQ(made.inputs, unit.inputs);
    EXPECT_EQ(made.outputs, unit.outputs);
    EXPECT_EQ(made.name, unit.name);
    EXPECT_EQ(made.stage_boundary, unit.stage_boundary);
  }
  EXPECT_THROW(make_unit(graph, {0, 9999}), Error);
}

TEST(MergeUnits, JoinsNeighbours) {
  Graph graph = build_resnet18();
  infer_shapes(graph);
  const auto units = find_units(graph);
  const auto merged = merge_units(graph, units, {{0}, {1}, {2, 3}, {4, 5, 6}, {7}, {8}, {9}});
  expect_partition(graph, merged);
  EXPECT_THAT(names(merged), ElementsAre("conv1", "layer1.0", "layer1.1+layer2.0",
                                         "layer2.1+layer3.0+layer3.1", "layer4.0", "layer4.1", "fc"));
  EXPECT_EQ(merged[2].inputs, units[2].inputs);
  EXPECT_EQ(merged[2].outputs, units[3].outputs);
  EXPECT_EQ(merged[2].layers.size(), 5u);
  EXPECT_TRUE(merged[2].stage_boundary);
  EXPECT_TRUE(merged[2].block);
  EXPECT_EQ(merged[0].nodes, units[0].nodes);
  const Unit one = merge_units(graph, std::span(units).subspan(2, 2));
  EXPECT_EQ(one.nodes, merged[2].nodes);
  EXPECT_EQ(one.name, merged[2].name);
  EXPECT_THROW(merge_units(graph, units, {{9, 10}}), Error);
}

TEST(MergeUnits, ValuesThatSkipOverAGroupStayInputs) {
  Graph graph = build_unet({.image_size = 16, .base = 16, .multipliers = {1, 2}, .attention_sizes = {8}});
  infer_shapes(graph);
  const auto units = find_units(graph);
  std::vector<std::vector<int>> groups;
  for (int i = 0; i < static_cast<int>(units.size()); ++i) {
    if (i % 3 == 0) groups.emplace_back();
    groups.back().push_back(i);
  }
  const auto merged = merge_units(graph, units, groups);
  expect_partition(graph, merged);
  // Everything at once reads what the model reads and makes what it makes.
  const Unit all = merge_units(graph, units);
  EXPECT_THAT(all.inputs, testing::UnorderedElementsAre("x", "t"));
  EXPECT_THAT(all.outputs, ElementsAre("epsilon"));
}

TEST(SplitUnits, GivesEveryLayerItsSlice) {
  const auto check = [](Graph graph) {
    SCOPED_TRACE(graph.name);
    infer_shapes(graph);
    const auto units = find_units(graph);
    const auto slices = split_units(graph, units);
    std::size_t layers = 0;
    for (const Unit& unit : units) layers += unit.layers.size();
    EXPECT_EQ(slices.size(), layers);
    for (const Unit& slice : slices) EXPECT_EQ(slice.layers.size(), 1u) << slice.name;
    expect_partition(graph, slices);
  };
  check(build_resnet18());
  check(build_resnet20());
  check(test::with_quantizers(build_resnet18({.batch_norm = false})));
  check(build_mobilenet_v2({.width = 0.5}));
  check(build_edsr({.channels = 8, .blocks = 2}));
  check(build_rdn({.channels = 8, .blocks = 2, .growth = 4, .layers = 3}));
  check(build_unet({.image_size = 16, .base = 16, .multipliers = {1, 2}, .attention_sizes = {8}}));
  check(build_vit({.dim = 48, .depth = 2, .classes = 10}));
}

TEST(SplitUnits, KeepsTheShortcutOfABlock) {
  const Graph graph = build_resnet18({.batch_norm = false});
  const auto slices = split_units(graph, find_units(graph));
  const auto at = std::find_if(slices.begin(), slices.end(),
                               [](const Unit& slice) { return slice.name.starts_with("layer1.0."); });
  ASSERT_NE(at, slices.end());
  const Unit &first = at[0], &second = at[1];
  EXPECT_EQ(first.inputs, std::vector<std::string>{"maxpool"});
  EXPECT_EQ(first.outputs.size(), 1u);
  EXPECT_EQ(second.inputs, (std::vector<std::string>{first.outputs[0], "maxpool"}));
  EXPECT_EQ(second.outputs, std::vector<std::string>{"layer1.0.relu2"});
}

}  // namespace
}  // namespace lithe
