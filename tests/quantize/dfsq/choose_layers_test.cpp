#include "lithe/quantize/dfsq/choose_layers.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <set>

#include "lithe/models/builder.h"
#include "quantize/dfsq/helpers.h"

namespace lithe {
namespace {

using namespace testing_helpers;
using ::testing::ElementsAre;
using ::testing::IsSupersetOf;

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

std::string prelu(GraphBuilder& net, const std::string& name, const std::string& x) {
  const std::string y =
      net.node("PRelu", name, {x, net.random(name + ".slope", {net.channels(x), 1, 1}, 0.1, 0.25)});
  net.set_channels(y, net.channels(x));
  return y;
}

std::string shuffle(GraphBuilder& net, const std::string& name, const std::string& x) {
  const std::string y = net.node("DepthToSpace", name, {x}, {{"blocksize", std::int64_t{2}}});
  net.set_channels(y, net.channels(x) / 4);
  return y;
}

/// Ledig et al., "Photo-Realistic Single Image Super-Resolution", CVPR 2017, figure 4, with two blocks.
Graph srresnet() {
  GraphBuilder net("srresnet", 1);
  const std::string head = prelu(
      net, "head.act", net.conv("head", net.input("input", {-1, 3, 16, 16}), {.channels = 8, .kernel = 9}));
  const auto conv = [&](const std::string& name, const std::string& x) {
    return net.batch_norm(name + ".norm", net.conv(name, x, {.channels = 8, .bias = false}));
  };
  std::string x = head;
  for (const std::string block : {"block0", "block1"})
    x = net.add(block + ".add", conv(block + ".conv2", prelu(net, block + ".act", conv(block + ".conv1", x))),
                x);
  x = net.add("skip", conv("middle", x), head);
  x = prelu(net, "up.act", shuffle(net, "up.shuffle", net.conv("up", x, {.channels = 32})));
  net.output("output", net.conv("tail", x, {.channels = 3, .kernel = 9}), {-1, 3, 32, 32});
  return net.finish();
}

TEST(DfsqLayers, OfSrresnetAreThoseOfItsBlocks) {
  const auto blocks = ElementsAre("block0.conv1", "block0.conv2", "block1.conv1", "block1.conv2");
  const Graph graph = srresnet();
  EXPECT_THAT(chosen_names(graph), blocks);
  std::vector<std::string> notes;
  const Graph folded = prepare_for_quantization(graph, nullptr, {}, notes);
  EXPECT_THAT(chosen_names(folded), blocks);
  const GraphIndex index(folded);
  for (const Layer& layer : find_layers(folded)) EXPECT_FALSE(is_rectified(folded, index, layer.input));
}

/// Hui et al., "Lightweight Image Super-Resolution with Information Multi-Distillation Network", ACM MM 2019,
/// figures 2 to 4: two blocks that split channels off, with attention by contrast.
Graph imdn() {
  GraphBuilder net("imdn", 1);
  const auto leaky = [&](const std::string& name, const std::string& x) {
    const std::string y = net.node("LeakyRelu", name, {x}, {{"alpha", 0.05f}});
    net.set_channels(y, net.channels(x));
    return y;
  };
  const auto mean = [&](const std::string& name, const std::string& x) {
    const std::string y =
        net.node("ReduceMean", name, {x}, {{"axes", ints({2, 3})}, {"keepdims", std::int64_t{1}}});
    net.set_channels(y, net.channels(x));
    return y;
  };
  const std::string head = net.conv("head", net.input("input", {-1, 3, 16, 16}), {.channels = 16});
  std::string x = head;
  std::vector<std::string> outputs;
  for (const std::string block : {"block0", "block1"}) {
    std::vector<std::string> kept;
    std::string rest = x;
    for (int step = 1; step <= 3; ++step) {
      const std::string name = fmt::format("{}.c{}", block, step);
      const std::string y = leaky(name + ".act", net.conv(name, rest, {.channels = 16}));
      const auto parts = net.node_outputs("Split", name + ".split", {y, net.ints(name + ".sizes", {4, 12})},
                                          {name + ".kept", name + ".rest"}, {{"axis", std::int64_t{1}}});
      net.set_channels(parts[0], 4);
      net.set_channels(parts[1], 12);
      kept.push_back(parts[0]);
      rest = parts[1];
    }
    kept.push_back(net.conv(block + ".c4", rest, {.channels = 4}));
    const std::string all = net.concat(block + ".concat", kept);
    const std::string middle = mean(block + ".mean", all);
    const std::string apart = net.node("Sub", block + ".apart", {all, middle});
    net.set_channels(apart, 16);
    const std::string squares = net.node("Mul", block + ".squares", {apart, apart});
    net.set_channels(squares, 16);
    const std::string contrast =
        net.add(block + ".contrast",
                net.node("Sqrt", block + ".deviation", {mean(block + ".variance", squares)}), middle);
    net.set_channels(contrast, 16);
    const std::string squeezed =
        net.relu(block + ".squeezed", net.conv(block + ".squeeze", contrast, {.channels = 4, .kernel = 1}));
    const std::string gate = net.node("Sigmoid", block + ".gate",
                                      {net.conv(block + ".excite", squeezed, {.channels = 16, .kernel = 1})});
    const std::string weighed = net.node("Mul", block + ".weighed", {all, gate});
    net.set_channels(weighed, 16);
    x = net.add(block + ".add", net.conv(block + ".c5", weighed, {.channels = 16, .kernel = 1}), x);
    net.set_channels(x, 16);
    outputs.push_back(x);
  }
  const std::string fused =
      leaky("fusion.act", net.conv("fusion", net.concat("outputs", outputs), {.channels = 16, .kernel = 1}));
  x = net.add("skip", net.conv("behind", fused, {.channels = 16}), head);
  net.set_channels(x, 16);
  net.output("output", shuffle(net, "shuffle", net.conv("up", x, {.channels = 12})), {-1, 3, 32, 32});
  return net.finish();
}

TEST(DfsqLayers, OfImdnAreThoseOfItsBlocksAndTheFusion) {
  EXPECT_THAT(chosen_names(imdn()),
              ElementsAre("behind", "block0.c1", "block0.c2", "block0.c3", "block0.c4", "block0.c5",
                          "block1.c1", "block1.c2", "block1.c3", "block1.c4", "block1.c5", "fusion"));
}

// Two such networks through all of it.
TEST(Dfsq, QuantisesOtherFamilies) {
  for (const Graph& graph : {srresnet(), imdn()}) {
    Progress silent;
    const at::Tensor images = at::sigmoid(random_tensor({4, 3, 16, 16}, 3));
    const Quantized result =
        quantize(graph, tensor_dataset({{"", images}}),
                 {.weight_bits = 6, .activation_bits = 6, .dfsq = DfsqOptions{}}, silent);
    EXPECT_GT(*result.output_sqnr_db, 15);
    EXPECT_GT(*result.output_sqnr_db, *result.minmax_sqnr_db);
  }
}

// Where a Resize by a constant factor halves the picture, the next one, which doubles it, only goes back.
TEST(DfsqLayers, BehindAResizeBackToTheSizeOfTheInput) {
  for (const float factor : {2.0f, 4.0f}) {
    GraphBuilder net("resizing", 1);
    const auto resized = [&](const std::string& name, const std::string& x, float by) {
      const std::string y =
          net.node("Resize", name, {x, "", net.constant(name + ".scales", floats({4}, {1, 1, by, by}))});
      net.set_channels(y, net.channels(x));
      return y;
    };
    std::string x = net.conv("head", net.input("input", {-1, 3, 16, 16}), {.channels = 8});
    x = resized("down", net.conv("a", x, {.channels = 8}), 0.5f);
    x = resized("up", net.conv("b", x, {.channels = 8}), factor);
    x = net.conv("d", net.conv("c", x, {.channels = 8}), {.channels = 8});
    net.output("output", net.conv("tail", x, {.channels = 3}), {-1, 3, -1, -1});
    const Graph graph = net.finish();
    if (factor == 2)
      EXPECT_THAT(chosen_names(graph), ElementsAre("a", "b", "c", "d"));
    else
      EXPECT_THAT(chosen_names(graph), ElementsAre("a"));
  }
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

// Attention that looks at a sixth of the picture (Kong et al., "Residual Local Feature Network for Efficient
// Super-Resolution", CVPR workshops 2022, figure 2) is part of the body too: it has a residual path of its
// own.
TEST(DfsqLayers, OfAttentionAtALowerResolution) {
  GraphBuilder net("rlfn", 1);
  const auto like = [&net](const std::string& y, std::int64_t channels) {
    net.set_channels(y, channels);
    return y;
  };
  const std::string head = net.conv("head", net.input("input", {-1, 3, 24, 24}), {.channels = 8});
  const std::string local =
      net.add("block.add", net.relu("block.r1", net.conv("block.c1", head, {.channels = 8})), head);
  const std::string x = net.conv("block.c5", local, {.channels = 8, .kernel = 1});
  const std::string first = net.conv("esa.c1", x, {.channels = 4, .kernel = 1});
  const std::string pooled = net.max_pool(
      "esa.pool", net.conv("esa.c2", first, {.channels = 4, .stride = 2, .padding = 0}), 7, 3, 0);
  const std::string low = net.conv("esa.c3", pooled, {.channels = 4});
  const std::string high =
      like(net.node("Resize", "esa.up", {low, "", "", net.ints("esa.size", {1, 4, 24, 24})},
                    {{"mode", std::string("linear")}}),
           4);
  const std::string sum = net.add("esa.add", high, net.conv("esa.cf", first, {.channels = 4, .kernel = 1}));
  const std::string mask =
      net.node("Sigmoid", "esa.mask", {net.conv("esa.c4", sum, {.channels = 8, .kernel = 1})});
  const std::string gated = like(net.node("Mul", "esa.gate", {x, mask}), 8);
  const std::string y = net.add("skip", net.conv("behind", gated, {.channels = 8}), head);
  net.output("output", shuffle(net, "shuffle", net.conv("up", y, {.channels = 12})), {-1, 3, 48, 48});
  EXPECT_THAT(chosen_names(net.finish()),
              IsSupersetOf({"block.c1", "esa.c1", "esa.c2", "esa.c3", "esa.c4", "esa.cf"}));
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

}  // namespace
}  // namespace lithe
