#include "lithe/multibit/account.h"

#include <gmock/gmock.h>

#include <cmath>

#include "lithe/models/models.h"
#include "multibit/helpers.h"

namespace lithe {
namespace {

using namespace test;

const std::vector<int> kAll{2, 3, 4, 5, 6, 7, 8};

BranchGraph rewritten(const Graph& model, const BranchOptions& options) {
  const Graph graph = prepared(model);
  return insert_branches(graph, find_body(graph), options);
}

TEST(BitCost, EvenBitWidthsCostAsUniformOnes) {
  const BranchGraph branches = rewritten(residual_net({.blocks = 2}), {.bits = kAll});
  for (const int bits : kAll) {
    const BitCost cost = bit_cost(branches.graph, bits);
    if (bits % 2 == 0) {
      EXPECT_EQ(cost.ratio(), 1) << bits;
    } else {
      EXPECT_LE(cost.ratio(), 1) << bits;  // the part is at most half of a branch
      EXPECT_GT(cost.ratio(), 0.97) << bits;
    }
    for (const BitLayer& layer : cost.layers) {
      EXPECT_EQ(layer.weight_bits, 2);
      EXPECT_EQ(layer.activation_bits, bits);
    }
  }
}

TEST(BitCost, PartsAreAtMostHalf) {
  for (const Graph& model : {build_resnet20(), build_resnet18(), build_resnet50(), build_mobilenet_v2()}) {
    const Graph graph = prepared(model);
    const Body body = find_body(graph);
    const NarrowWidths widths = choose_narrow_widths(graph, body);
    const double share = partial_share(body, partial_channels(graph, body, widths));
    EXPECT_LE(share, 0.5) << graph.name;
    EXPECT_GT(share, 0.48) << graph.name;
  }
}

// ResNet-20 and -8 with 1x1 shortcuts: the weights of four branches of the authors' models.
TEST(BitCost, StoresWeightsOnce) {
  for (const auto& [blocks, weights] :
       {std::pair{3, std::int64_t{1079296}}, std::pair{1, std::int64_t{305152}}}) {
    const BranchGraph branches = rewritten(
        residual_net({.widths = {16, 32, 64}, .blocks = blocks, .size = 32, .classes = 10}), {.bits = kAll});
    const BitStorage storage = bit_storage(branches.graph);
    EXPECT_EQ(storage.weights, weights / 4);  // 2 bits each
    EXPECT_GT(storage.norms, 0);
    EXPECT_GT(storage.as_float, weights);  // a quarter of them, 4 bytes each, and the rest
  }
}

/// What a network with the given widths keeps as a plain model: two numbers a channel for a norm.
TEST(BitStorage, CountsEveryConstantOnce) {
  const BranchGraph branches = rewritten(residual_net({.widths = {8, 16}}), {.bits = {2, 4}});
  const BitStorage storage = bit_storage(branches.graph);
  const std::int64_t body = 8 * 8 * 9 * 2 + 8 * 16 * 9 + 16 * 16 * 9 + 8 * 16, channels = 8 + 8 + 16 * 3,
                     stem_and_head = 3 * 8 * 9 + 2 * 8 + 16 * 4 + 4;
  EXPECT_EQ(storage.rest, 4 * stem_and_head);
  EXPECT_EQ(storage.as_float, 4 * (stem_and_head + body + 2 * channels));
  EXPECT_EQ(storage.weights, 2 * body / 4);
  // One branch at 2 bits, two at 4; two bounds for each branch's weights and for all its inputs.
  EXPECT_EQ(storage.norms, 4 * (3 * 2 * channels + 2 * 5 * (2 + 3)));
}

// With slots a branch has codes for each place that it runs in: here 1, 2, 2 and 1.
TEST(BitStorage, CountsTheCodesOfEverySlot) {
  const Graph model = residual_net({.widths = {16, 32}});
  const BitStorage branches = bit_storage(rewritten(model, {.bits = {2, 4, 8}}).graph),
                   slots = bit_storage(rewritten(model, {.bits = {2, 4, 8}, .slots = true}).graph);
  EXPECT_EQ(slots.weights * 4, branches.weights * 6);
  EXPECT_EQ(slots.as_float, branches.as_float);
}

TEST(BitStorage, OfBaselines) {
  const Graph model = residual_net();
  const std::int64_t weights = 8 * 8 * 9 * 2 + 8 * 16 * 9 + 16 * 16 * 9 + 8 * 16;
  const std::int64_t plain = bit_storage(rewritten(model, {}).graph).as_float;
  for (const MultibitMethod method :
       {MultibitMethod::Shared, MultibitMethod::AnyPrecision, MultibitMethod::AdaBits}) {
    const BitStorage storage = bit_storage(rewritten(model, {.method = method, .bits = {2, 8}}).graph);
    EXPECT_EQ(storage.weights, weights);  // 8 bits each
    EXPECT_EQ(storage.as_float, plain);
  }
  EXPECT_EQ(bit_storage(rewritten(model, {.method = MultibitMethod::Lsq, .bits = {4}}).graph).weights,
            weights / 2);
}

// --- what was counted in the authors' models, with a counter in place of the convolutions

/// Ratios to uniform networks at 3, 5 and 7 bits.
using Ratios = std::map<int, double>;

double rounded(double ratio) {
  return std::round(1e4 * ratio) / 1e4;
}

void expect_ratios(const BranchGraph& branches, const Ratios& expected, std::int64_t macs) {
  for (const auto& [bits, ratio] : expected)
    EXPECT_DOUBLE_EQ(rounded(bit_cost(branches.graph, bits).ratio()), ratio) << bits;
  EXPECT_EQ(bit_cost(branches.graph, 2).macs, macs);
}

/// Where widths of one size differ by layer: from the share of the part's multiply-accumulates.
void expect_ratios(const Body& body, const std::map<std::string, Channels>& channels, const Ratios& expected,
                   std::int64_t macs) {
  const double share = partial_share(body, channels);
  for (const auto& [bits, ratio] : expected)
    EXPECT_DOUBLE_EQ(rounded(2 * (std::floor(bits / 2.0) + share) / bits), ratio) << bits;
  std::int64_t all = 0;
  for (const BodyConvolution& conv : body.convolutions) all += conv.macs;
  EXPECT_EQ(all, macs);
}

TEST(BitCost, PublishedRatiosOfResNet18) {
  expect_ratios(
      rewritten(build_resnet18(), {.bits = kAll, .widths = {{64, 40}, {128, 76}, {256, 184}, {512, 396}}}),
      {{3, 0.9906}, {5, 0.9944}, {7, 0.9960}}, 1695547392);
}

// At 64 pixels, of which stem and pool leave 16.
TEST(BitCost, PublishedRatiosOfResNet34) {
  GraphBuilder net("resnet34", 1);
  const auto conv = [&](const std::string& name, const std::string& x, ConvOptions options) {
    options.bias = false;
    return net.batch_norm(name + ".norm", net.conv(name, x, options));
  };
  std::string x = conv("stem", net.input("x", {-1, 3, 64, 64}), {.channels = 64, .kernel = 7, .stride = 2});
  x = net.max_pool("pool", net.relu("relu", x), 3, 2, 1);
  const std::int64_t widths[] = {64, 128, 256, 512}, blocks[] = {3, 4, 6, 3};
  for (int stage = 0; stage < 4; ++stage)
    for (int block = 0; block < blocks[stage]; ++block) {
      const std::string name = fmt::format("s{}.{}", stage, block);
      const std::int64_t channels = widths[stage], stride = stage > 0 && block == 0 ? 2 : 1;
      std::string y = conv(name + ".conv1", x, {.channels = channels, .stride = stride});
      y = conv(name + ".conv2", net.relu(name + ".relu1", y), {.channels = channels});
      if (stride == 2) x = conv(name + ".down", x, {.channels = channels, .kernel = 1, .stride = 2});
      x = net.relu(name + ".relu2", net.add(name + ".add", y, x));
    }
  x = net.flatten("flat", net.global_average_pool("gap", x));
  net.output("logits", net.gemm("fc", x, 512, 10), {-1, 10});
  expect_ratios(
      rewritten(net.finish(), {.bits = kAll, .widths = {{64, 39}, {128, 78}, {256, 188}, {512, 400}}}),
      {{3, 0.9926}, {5, 0.9956}, {7, 0.9968}}, 289406976);
}

/// Sets the channels of what a convolution reads and makes.
class Widths {
 public:
  explicit Widths(const Body& body) : body_(body) {}
  void set(const std::string& name, Channels in, Channels out) {
    for (const BodyConvolution& conv : body_.convolutions)
      if (conv.name == name) {
        channels[conv.input] = in;
        channels[conv.output] = out;
        EXPECT_EQ(conv.shape[0], out.full) << name;
        return;
      }
    ADD_FAILURE() << name;
  }
  std::map<std::string, Channels> channels;

 private:
  const Body& body_;
};

TEST(BitCost, PublishedRatiosOfResNet50) {
  const Graph graph = prepared(build_resnet50({.image_size = 64}));
  const Body body = find_body(graph);
  struct Stage {
    int blocks;
    Channels middle, out;
  };
  const Stage stages[] = {{3, {64, 40}, {256, 208}},
                          {4, {128, 80}, {512, 416}},
                          {6, {256, 160}, {1024, 832}},
                          {3, {512, 320}, {2048, 2048}}};
  Widths widths(body);
  Channels now{64, 64};
  for (int stage = 0; stage < 4; ++stage)
    for (int block = 0; block < stages[stage].blocks; ++block) {
      const auto& [blocks, middle, out] = stages[stage];
      const std::string name = fmt::format("layer{}.{}", stage + 1, block);
      widths.set(name + ".conv1", now, middle);
      widths.set(name + ".conv2", middle, middle);
      widths.set(name + ".conv3", middle, out);
      if (block == 0) widths.set(name + ".downsample.0", now, out);
      now = out;
    }
  expect_ratios(body, widths.channels, {{3, 0.9873}, {5, 0.9924}, {7, 0.9945}}, 324009984);
}

// Howard et al., "MobileNets", 2017, Table 1, at 64 pixels.
TEST(BitCost, PublishedRatiosOfMobileNetV1) {
  struct Layer {
    std::int64_t full, narrow, stride;  // of the depthwise convolution in front
  };
  const Layer layers[] = {{64, 52, 1},   {128, 40, 2},   {128, 101, 1},  {256, 148, 2}, {256, 223, 1},
                          {512, 373, 2}, {512, 404, 1},  {512, 236, 1},  {512, 376, 1}, {512, 419, 1},
                          {512, 233, 1}, {1024, 892, 2}, {1024, 1024, 1}};
  GraphBuilder net("mobilenet_v1", 1);
  const auto conv = [&](const std::string& name, const std::string& x, ConvOptions options) {
    options.bias = false;
    return net.relu(name + ".relu", net.batch_norm(name + ".norm", net.conv(name, x, options)));
  };
  std::string x = conv("stem", net.input("x", {-1, 3, 64, 64}), {.channels = 32, .stride = 2});
  std::int64_t channels = 32;
  for (int i = 0; i < 13; ++i) {
    const Layer& layer = layers[i];
    x = conv(fmt::format("dw{}", i), x, {.channels = channels, .stride = layer.stride, .groups = channels});
    x = conv(fmt::format("pw{}", i), x, {.channels = layer.full, .kernel = 1});
    channels = layer.full;
  }
  x = net.flatten("flat", net.global_average_pool("gap", x));
  net.output("logits", net.gemm("fc", x, channels, 10), {-1, 10});
  const Graph graph = prepared(net.finish());
  const Body body = find_body(graph);
  Widths widths(body);
  Channels now{32, 32};
  for (int i = 0; i < 13; ++i) {
    const Channels out{layers[i].full, layers[i].narrow};
    widths.set(fmt::format("dw{}", i), now, now);
    widths.set(fmt::format("pw{}", i), now, out);
    now = out;
  }
  expect_ratios(body, widths.channels, {{3, 0.9978}, {5, 0.9987}, {7, 0.9990}}, 45459456);
}

// Networks for small images, with 1x1 shortcuts, and the authors' widths, which pass the budget.
Graph small_images_net(int blocks) {
  return residual_net({.widths = {16, 32, 64}, .blocks = blocks, .size = 32, .classes = 10});
}
const NarrowWidths kSmallImages{{16, 16}, {32, 24}, {64, 48}};

TEST(BitCost, PublishedRatiosOfResNet8) {
  expect_ratios(rewritten(small_images_net(1), {.bits = kAll, .widths = kSmallImages}),
                {{3, 1.1952}, {5, 1.1171}, {7, 1.0837}}, 12058624);
}

// In the authors' network the first convolution of a stage's later blocks reads 8, 16 and 24 of the 16, 24
// and 48 channels that the block before it gives in a part. Where all are read, as here, the ratio is higher.
TEST(BitCost, PublishedRatiosOfSmallResNet20) {
  const Graph graph = prepared(small_images_net(3));
  const Body body = find_body(graph);
  std::map<std::string, Channels> channels = partial_channels(graph, body, kSmallImages);
  const auto read = [&](const std::string& conv, std::int64_t full, std::int64_t part) {
    for (const BodyConvolution& one : body.convolutions)
      if (one.name == conv) {
        EXPECT_EQ(channels.at(one.input).full, full) << conv;
        channels[one.input].narrow = part;
        return;
      }
    ADD_FAILURE() << conv;
  };
  const std::int64_t full[] = {16, 32, 64}, part[] = {8, 16, 24};
  for (int stage = 0; stage < 3; ++stage)
    for (int block = 1; block < 3; ++block)
      read(fmt::format("s{}.{}.conv1", stage, block), full[stage], part[stage]);
  expect_ratios(body, channels, {{3, 1.0798}, {5, 1.0479}, {7, 1.0342}}, 40370176);
  expect_ratios(rewritten(small_images_net(3), {.bits = kAll, .widths = kSmallImages}),
                {{2, 1}, {3, 1.1553}, {4, 1}, {6, 1}, {8, 1}}, 40370176);
}

// The parameters of the authors' models. Theirs have some that are never used: a batch norm of 4 * 64
// channels behind every last convolution, and for each convolution seven scales and the activations' bounds
// of the bit-widths at which a place does not run. Their stem makes 64 channels, of which 16 are used.
TEST(BitStorage, ParametersOfThePublishedNetworks) {
  struct Published {
    int blocks;
    std::int64_t all, weights, norms, quantisers;
  };
  for (const Published& net :
       {Published{3, 1112006, 1079296, 28784, 1420}, Published{1, 321170, 305152, 12944, 568}}) {
    const BranchGraph branches =
        rewritten(small_images_net(net.blocks), {.bits = kAll, .slots = true, .widths = kSmallImages});
    std::int64_t weights = 0;
    for (const std::string& name : branches.weights) weights += branches.graph.constants.at(name).count();
    EXPECT_EQ(weights, net.weights);
    const std::int64_t layers = 6 * net.blocks + 2, last = net.blocks == 1 ? 2 : 1;
    const std::int64_t unused_norms = last * 2 * 4 * 64, unused_bounds = layers * (7 + 2 * (4 * 7 - 19)),
                       unused_stem = 48 * (3 * 9 + 2);
    const BitStorage storage = bit_storage(branches.graph);
    EXPECT_EQ(storage.norms, 4 * (net.norms - unused_norms + net.quantisers - unused_bounds));
    EXPECT_EQ(2 * static_cast<std::int64_t>(branches.bounds.size()), net.quantisers - unused_bounds);
    EXPECT_EQ(weights + (storage.norms + storage.rest) / 4 + unused_norms + unused_bounds + unused_stem,
              net.all);
  }
}

}  // namespace
}  // namespace lithe
