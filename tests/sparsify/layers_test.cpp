#include "lithe/sparsify/layers.h"

#include <gmock/gmock.h>

#include <functional>
#include <limits>

#include "lithe/base/error.h"
#include "lithe/models/models.h"
#include "sparsify/helpers.h"

namespace lithe {
namespace {

using namespace testing_helpers;
using testing::HasSubstr;

std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(SparseLayers, FirstAndLastStayDense) {
  const auto layers = find_sparse_layers(small_net(), {});
  ASSERT_EQ(layers.size(), 5u);
  EXPECT_TRUE(layers[0].first);
  EXPECT_EQ(layers[0].dense_reason, "first layer");
  EXPECT_TRUE(layers[4].last);
  EXPECT_EQ(layers[4].dense_reason, "last layer");
  for (std::size_t i = 1; i < 4; ++i) EXPECT_TRUE(layers[i].pattern) << layers[i].name;
  const SparseLayer& body = layer_named(layers, "body.1");
  EXPECT_EQ(body.macs, 8 * 8 * 16 * 8 * 9);
  EXPECT_EQ(body.groups.outer, 16);
  EXPECT_EQ(body.groups.channels, 8);
  EXPECT_EQ(body.groups.inner, 9);
  EXPECT_EQ(body.kernel(), (std::vector<std::int64_t>{3, 3}));
  const SparseLayer fc = find_sparse_layers(small_net(), {.prune_last = true}).at(4);
  EXPECT_EQ(fc.groups.outer * fc.groups.inner, 4);
  EXPECT_EQ(fc.groups.channels, 16);
}

TEST(SparseLayers, NamesDecide) {
  const auto layers = find_sparse_layers(
      small_net(), {.pattern = {2, 4},
                    .include = {"fc"},
                    .pattern_for = {parse_pattern_rule("body.*=1:4"), parse_pattern_rule("body.2=dense")},
                    .exclude = {"point"}});
  EXPECT_EQ(layer_named(layers, "body.1").pattern->kept, 1);
  EXPECT_FALSE(layer_named(layers, "body.2").pattern);
  EXPECT_EQ(layer_named(layers, "point").dense_reason, "excluded");
  EXPECT_EQ(layer_named(layers, "fc").density(), 0.5);
  for (const char* flag : {"--include", "--pattern-for", "--exclude"}) {
    LayerPolicy policy;
    if (flag == std::string("--include")) policy.include = {"nothing*"};
    if (flag == std::string("--exclude")) policy.exclude = {"nothing*"};
    if (flag == std::string("--pattern-for")) policy.pattern_for = {parse_pattern_rule("nothing*=1:2")};
    EXPECT_THAT(error_of([&] { find_sparse_layers(small_net(), policy); }), HasSubstr(flag));
  }
}

TEST(SparseLayers, Rules) {
  EXPECT_EQ(parse_pattern_rule("a=b=1:16").names, "a=b");
  EXPECT_EQ(parse_pattern_rule("a=1:16").pattern->group, 16);
  for (const char* text : {"1:16", "=1:16", "a=", "a=5:4", "a=x"})
    EXPECT_THROW(parse_pattern_rule(text), Error) << text;
}

TEST(SparseLayers, RaggedChannels) {
  LayerPolicy policy{.pattern = {1, 16}};
  EXPECT_EQ(layer_named(find_sparse_layers(small_net(), policy), "body.1").dense_reason,
            "8 input channels are no multiple of 16");
  policy.ragged = Ragged::Pad;
  EXPECT_TRUE(layer_named(find_sparse_layers(small_net(), policy), "body.1").pattern);
  policy.ragged = Ragged::Error;
  EXPECT_THAT(error_of([&] { find_sparse_layers(small_net(), policy); }),
              HasSubstr("'body.1' has 8 input channels"));
}

TEST(SparseLayers, DepthwiseStaysDense) {
  const Graph model = build_mobilenet_v2({.classes = 10, .image_size = 32, .width = 0.25});
  int depthwise = 0;
  for (const SparseLayer& layer : find_sparse_layers(model, {.ragged = Ragged::Pad}))
    if (layer.op == "Conv" && layer.shape[1] == 1) {
      ++depthwise;
      EXPECT_EQ(layer.dense_reason, "1 input channels in a group of the convolution");
    }
  EXPECT_EQ(depthwise, 17);
}

TEST(SparseLayers, ConstantNodesAreAdopted) {
  Graph graph = small_net();
  Node constant{.name = "k", .op_type = "Constant", .outputs = {"body.1.weight"}};
  constant.attributes["value"] = graph.constants.at("body.1.weight");
  graph.constants.erase("body.1.weight");
  graph.nodes.insert(graph.nodes.begin(), constant);
  Node copy{.name = "i", .op_type = "Identity", .inputs = {"body.2.weight"}, .outputs = {"copied"}};
  for (Node& node : graph.nodes)
    std::replace(node.inputs.begin(), node.inputs.end(), std::string("body.2.weight"), std::string("copied"));
  graph.nodes.insert(graph.nodes.begin(), copy);
  const at::Tensor x = random_images(2, 3), before = run(graph, x);
  adopt_constants(graph);
  EXPECT_TRUE(at::equal(run(graph, x), before));
  const auto layers = find_sparse_layers(graph, {});
  EXPECT_TRUE(layer_named(layers, "body.1").pattern);
  EXPECT_TRUE(layer_named(layers, "body.2").pattern);
}

TEST(SparseLayers, RefusesWhatIsNotFinite) {
  Graph graph = small_net();
  auto values = graph.constants.at("body.1.weight").to_floats();
  values[7] = std::numeric_limits<float>::quiet_NaN();
  graph.constants["body.1.weight"] = TensorData::from(std::vector<std::int64_t>{16, 8, 3, 3}, values);
  EXPECT_THAT(error_of([&] { find_sparse_layers(graph, {}); }), HasSubstr("NaN at element 7"));
}

}  // namespace
}  // namespace lithe
