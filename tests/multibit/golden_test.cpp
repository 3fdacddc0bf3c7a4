// Numbers that the authors' operators gave, through graphs, exported models and the integer run time.
#include <gmock/gmock.h>

#include <cmath>
#include <numeric>

#include "lithe/engine/executor.h"
#include "lithe/multibit/deploy.h"
#include "lithe/multibit/integer_layers.h"
#include "lithe/multibit/session.h"
#include "multibit/helpers.h"

namespace lithe {
namespace {

using namespace test;
using ::testing::ElementsAre;
using ::testing::ElementsAreArray;

BranchGraph rewritten(const Graph& model, const BranchOptions& options) {
  const Graph graph = prepared(model);
  return insert_branches(graph, find_body(graph), options);
}

/// A stem of 1x1, one convolution with a norm that changes nothing, and a head.
Graph one_convolution(std::int64_t stem, std::int64_t channels, std::int64_t kernel, std::int64_t size) {
  GraphBuilder net("point", 1);
  std::string x =
      net.conv("stem", net.input("x", {-1, 1, size, size}), {.channels = stem, .kernel = 1, .bias = false});
  x = net.batch_norm("norm", net.conv("conv", x, {.channels = channels, .kernel = kernel, .bias = false}));
  net.output("y", net.gemm("fc", net.flatten("flat", net.global_average_pool("pool", x)), channels, 2),
             {-1, 2});
  Graph graph = net.finish();
  const auto fill = [&](const std::string& name, float value) {
    graph.constants[name] =
        TensorData::from<float>({channels}, std::vector<float>(static_cast<std::size_t>(channels), value));
  };
  fill("norm.weight", 1);
  fill("norm.bias", 0);
  fill("norm.running_mean", 0);
  fill("norm.running_var", 1);
  for (Node& node : graph.nodes)
    if (node.name == "norm") node.attributes["epsilon"] = 0.0f;
  return graph;
}

// --- the Any-Precision baseline

// Weights of the authors' AnyPrecision operators: tanh, by the largest, times the mean magnitude.
TEST(GoldenAnyPrecision, Weights) {
  Graph model = one_convolution(6, 1, 1, 2);
  model.constants["conv.weight"] = TensorData::from<float>({1, 6, 1, 1}, {-1, -.5f, -.1f, 0, .25f, .8f});
  const BranchGraph branches = rewritten(model, {.method = MultibitMethod::AnyPrecision, .bits = {2, 4, 8}});
  const std::map<int, std::vector<double>> expected{
      {2, {-.4416666, -.1472222, -.1472222, .1472222, .1472222, .4416666}},
      {4, {-.4416666, -.265, -.0294444, .0294445, .1472222, .3827778}},
      {8, {-.4416666, -.268464, -.0571569, .0017321, .1437582, .3862418}}};
  const at::NoGradGuard no_grad;
  Executor run(branches.graph);
  for (const auto& [bits, values] : expected) {
    const std::string name = fmt::format("conv.weight@1/b{}/quantised", bits);
    const at::Tensor weight = run.run({{"x", at::zeros({1, 1, 2, 2})}}, {name}).at(name).flatten();
    for (std::int64_t i = 0; i < 6; ++i)
      EXPECT_NEAR(weight[i].item<double>(), values[static_cast<std::size_t>(i)], 1e-6) << bits << " " << i;
  }
  // What is quantised, without being so: the authors' 32 bits.
  const Feeds parts =
      run.run({{"x", at::zeros({1, 1, 2, 2})}}, {"conv.weight@1/scaled", "conv.weight@1/mean"});
  const at::Tensor plain = (parts.at("conv.weight@1/scaled") * parts.at("conv.weight@1/mean")).flatten();
  const double unquantised[] = {-.4416666, -.2679928, -.0577998, 0, .1420342, .3850907};
  for (std::int64_t i = 0; i < 6; ++i) EXPECT_NEAR(plain[i].item<double>(), unquantised[i], 1e-6) << i;
}

// 1 bit, which no model has: the quantiser alone.
TEST(GoldenAnyPrecision, WeightsOfOneBit) {
  Graph model = one_convolution(6, 1, 1, 2);
  model.constants["conv.weight"] = TensorData::from<float>({1, 6, 1, 1}, {-1, -.5f, -.1f, 0, .25f, .8f});
  BranchGraph branches = rewritten(model, {.method = MultibitMethod::Shared, .bits = {2}});
  const std::string name = QuantiserWriter(branches.graph).dorefa_weight("conv.weight@1", 1);
  const at::NoGradGuard no_grad;
  Executor run(branches.graph);
  const at::Tensor weight = run.run({{"x", at::zeros({1, 1, 2, 2})}}, {name}).at(name).flatten();
  const double expected[] = {-.4416666, -.4416666, -.4416666, -.4416666, .4416666, .4416666};
  for (std::int64_t i = 0; i < 6; ++i) EXPECT_NEAR(weight[i].item<double>(), expected[i], 1e-6) << i;
}

TEST(GoldenAnyPrecision, Activations) {
  const BranchGraph branches =
      rewritten(one_convolution(6, 1, 1, 1), {.method = MultibitMethod::AnyPrecision, .bits = {2, 4}});
  const at::NoGradGuard no_grad;
  Executor run(branches.graph);
  const std::map<int, std::vector<double>> expected{{2, {0, 0, .3333333, .6666667, .6666667, 1}},
                                                    {4, {0, .1333333, .2666667, .5333334, .7333333, 1}}};
  for (const auto& [bits, values] : expected) {
    const std::string name = branch_prefix(bits, 1) + "conv/quantised";
    const at::Tensor x = at::tensor({0.0f, .1f, .25f, .5f, .75f, 1.0f}).view({1, 6, 1, 1});
    const at::Tensor y = run.run({{"stem", x}}, {name}).at(name).flatten();
    for (std::int64_t i = 0; i < 6; ++i)
      EXPECT_NEAR(y[i].item<double>(), values[static_cast<std::size_t>(i)], 1e-6) << bits << " " << i;
  }
}

// --- the AdaBits baseline

/// Quantised weights of one convolution by bit-width, given those between -1 and 1.
std::map<int, at::Tensor> nested_weights(const std::vector<float>& scaled, const std::vector<int>& bits) {
  const auto count = static_cast<std::int64_t>(scaled.size());
  const BranchGraph branches =
      rewritten(one_convolution(count, 1, 1, 2), {.method = MultibitMethod::AdaBits, .bits = bits});
  const at::Tensor values = at::tensor(at::ArrayRef<float>(scaled), at::kFloat).view({1, count, 1, 1});
  const at::NoGradGuard no_grad;
  Executor run(branches.graph);
  std::map<int, at::Tensor> out;
  for (const int one : bits) {
    const std::string name = fmt::format("conv.weight@1/b{}/quantised", one);
    out[one] = run.run({{"conv.weight@1/scaled", values}}, {name}).at(name).flatten();
  }
  return out;
}

TEST(GoldenAdaBits, CentredWeights) {
  const std::map<int, std::vector<double>> expected{{2, {-.75, -.25, -.25, .25, .25, .75, .75}},
                                                    {3, {-.875, -.375, -.125, .125, .375, .875, .875}}};
  const auto weights = nested_weights({-1, -.5f, -.1f, 0, .25f, .8f, 1}, {2, 3});
  for (const auto& [bits, values] : expected)
    for (std::int64_t i = 0; i < 7; ++i)
      EXPECT_NEAR(weights.at(bits)[i].item<double>(), values[static_cast<std::size_t>(i)], 1e-7)
          << bits << " " << i;
}

// The codes of fewer bits are the first bits of those of 8, also where a weight stands on a step.
TEST(GoldenAdaBits, CodesNest) {
  std::vector<float> scaled;
  for (int i = -128; i <= 128; ++i) scaled.push_back(static_cast<float>(i) / 128);
  Rng rng(11);
  for (int i = 0; i < 300; ++i) scaled.push_back(static_cast<float>(2 * rng.uniform() - 1));
  const std::vector<int> bits{2, 3, 4, 5, 6, 7, 8};
  const auto weights = nested_weights(scaled, bits);
  const auto codes = [&](int of) {
    const double count = std::exp2(of);
    return at::round((weights.at(of).to(at::kDouble) + 1) * (count / 2) - 0.5).to(at::kLong);
  };
  const at::Tensor most = codes(8);
  EXPECT_EQ(most.min().item<std::int64_t>(), 0);
  EXPECT_EQ(most.max().item<std::int64_t>(), 255);
  for (const int one : bits)
    EXPECT_TRUE(at::equal(codes(one), at::floor(most / std::exp2(8 - one)).to(at::kLong))) << one;
  for (std::int64_t i = 0; i < 256; ++i) EXPECT_EQ(most[i].item<std::int64_t>(), i);
}

// --- the quantiser of weights

// Gradients of a weight and of its bounds, through the graph that is trained.
TEST(GoldenWeights, GradientsReachWeightsAndBounds) {
  BranchGraph branches = rewritten(one_convolution(1, 6, 1, 1), {.bits = {2}});
  Graph& graph = branches.graph;
  graph.constants["conv.weight@1"] =
      TensorData::from<float>({6, 1, 1, 1}, {-.9f, -.5f, -.1f, .25f, .5f, .9f});
  set_scalar(graph, "conv.weight@1/low", -.6f);
  set_scalar(graph, "conv.weight@1/high", .6f);
  Executor run(graph, {.training = true, .fuse = false});
  std::vector<at::Tensor> learnt;
  for (const char* name : {"conv.weight@1", "conv.weight@1/low", "conv.weight@1/high"}) {
    learnt.push_back(run.constant(name).clone().requires_grad_());
    run.set_constant(name, learnt.back());
  }
  const std::string value = "conv.weight@1/quantised";
  const at::Tensor y = run.run({{"x", at::zeros({1, 1, 1, 1})}}, {value}).at(value).flatten();
  const float expected[] = {-3, -3, -1, 1, 3, 3};
  for (std::int64_t i = 0; i < 6; ++i) EXPECT_FLOAT_EQ(3 * y[i].item<float>(), expected[i]);
  const at::Tensor upstream = at::arange(1, 7, at::kFloat);
  (y * upstream).sum().backward();
  const double slopes[] = {0, 3.333333, 5, 6.666667, 8.333333, 0};
  for (std::int64_t i = 0; i < 6; ++i)
    EXPECT_NEAR(learnt[0].grad().flatten()[i].item<double>(), slopes[i], 1e-5) << i;
  EXPECT_NEAR(learnt[1].grad().item<double>(), -8.611111, 1e-5);
  EXPECT_NEAR(learnt[2].grad().item<double>(), -14.722221, 1e-5);
}

// --- 8 -> 8 channels in four branches of two, 3x3, padded, bounds by place

struct Case {
  int bits;
  std::vector<int> at_one_one;  // accumulators, two channels a branch
  std::int64_t all;             // their sum over all positions
  double mean;                  // over the branches, of channel 0
};

const Case kCases[] = {{2, {-9, 11}, -96, -1.0},
                       {4, {-53, -55, -114, -60}, -958, -1.855556},
                       {6, {-227, -215, -501, -237, 166, -458}, -5840, -0.991182},
                       {8, {-496, 988, -745, 1061, -478, -1490, -1298, -470}, -64952, -0.985947}};

/// What the convolution gives at 8 bits, in float.
const std::vector<float> kEightBits{-.648366f, 1.291503f,  -.973856f,  1.386928f,
                                    -.624836f, -1.947712f, -1.696732f, -.614379f};

class GoldenBranches : public ::testing::Test {
 protected:
  GoldenBranches() {
    BranchGraph branches = rewritten(one_convolution(2, 2, 3, 4), {.bits = {2, 4, 6, 8}, .slots = true});
    graph_ = std::move(branches.graph);
    for (int branch = 1; branch <= 4; ++branch) {
      std::vector<float> weight;
      for (int j = 36 * (branch - 1); j < 36 * branch; ++j)
        weight.push_back(static_cast<float>(37 * j % 101) / 101.0f - 0.5f);
      graph_.constants[fmt::format("conv.weight@{}", branch)] =
          TensorData::from<float>({2, 2, 3, 3}, std::move(weight));
    }
    for (const Case& one : kCases)
      for (int slot = 0; slot < one.bits / 2; ++slot) {
        const auto at = static_cast<float>(slot);
        const std::string weight = fmt::format("conv.weight@slot{}", slot),
                          input = fmt::format("b{}.slot{}/conv/input", one.bits, slot);
        set_scalar(graph_, weight + "/low", -0.4f);
        set_scalar(graph_, weight + "/high", 0.4f + 0.05f * at);
        set_scalar(graph_, input + "/low", 0.1f * at);
        set_scalar(graph_, input + "/high", 2 + 0.25f * at);
      }
  }

  /// Channels 2 slot and 2 slot + 1 of the input.
  static at::Tensor input_of(int slot) {
    at::Tensor x = at::empty({1, 2, 4, 4});
    for (int j = 0; j < 32; ++j)
      x.data_ptr<float>()[j] = 3.0f * static_cast<float>(53 * (32 * slot + j) % 97) / 97.0f;
    return x;
  }

  Graph graph_;
};

TEST_F(GoldenBranches, ExportedModelsHaveTheAccumulators) {
  const at::NoGradGuard no_grad;
  for (const Case& one : kCases) {
    const std::vector<int> selected = multibit_info(graph_).path(one.bits).branches.full;
    Executor integer(deploy_static(graph_, one.bits), {.fuse = false}),
        plain(extract_bits(graph_, one.bits), {.fuse = false});
    const double range = 3 * ((1 << one.bits) - 1);
    std::vector<int> here;
    std::vector<float> scores;
    std::int64_t all = 0;
    double mean = 0, difference = 0;
    for (std::size_t slot = 0; slot < selected.size(); ++slot) {
      const std::string prefix = branch_prefix(one.bits, selected[slot]);
      const Feeds entry{{"stem", input_of(static_cast<int>(slot))}};
      const at::Tensor sums = integer.run(entry, {prefix + "conv/sums"}).begin()->second;
      const at::Tensor outputs = plain.run(entry, {prefix + "norm"}).begin()->second;
      for (int c = 0; c < 2; ++c) {
        here.push_back(sums[0][c][1][1].item<int>());
        scores.push_back(outputs[0][c][1][1].item<float>());
      }
      all += sums.sum().item<std::int64_t>();
      mean += sums[0][0][1][1].item<double>() / range / static_cast<double>(selected.size());
      difference = std::max(
          difference, (sums.to(at::kDouble) / range - outputs.to(at::kDouble)).abs().max().item<double>());
    }
    EXPECT_THAT(here, ElementsAreArray(one.at_one_one)) << one.bits;
    EXPECT_EQ(all, one.all) << one.bits;
    EXPECT_NEAR(mean, one.mean, 1e-6) << one.bits;
    EXPECT_LE(difference, 9.6e-7) << one.bits;
    if (one.bits == 8) {
      EXPECT_THAT(scores, ::testing::Pointwise(::testing::FloatNear(1e-6f), kEightBits));
    }
  }
}

// The run time gives all branches one input: its exit is the mean of what the accumulators of the exported
// model stand for.
TEST_F(GoldenBranches, RunTimeHasTheSameMean) {
  const at::NoGradGuard no_grad;
  MultibitSession session(graph_);
  for (const Case& one : kCases) {
    const BitPath path = multibit_info(graph_).path(one.bits);
    session.set_bits(one.bits);
    Executor integer(deploy_static(graph_, one.bits), {.fuse = false});
    for (int slot = 0; slot < 4; ++slot) {
      const at::Tensor entry = input_of(slot), exit = at::empty({1, 2, 4, 4});
      session.run_body(entry.data_ptr<float>(), exit.data_ptr<float>());
      at::Tensor mean = at::zeros({1, 2, 4, 4}, at::kDouble);
      for (const int branch : path.branches.full)
        mean += integer.run({{"stem", entry}}, {branch_prefix(one.bits, branch) + "conv/sums"})
                    .begin()
                    ->second.to(at::kDouble);
      mean /= 3.0 * ((1 << one.bits) - 1) * static_cast<double>(path.branches.full.size());
      EXPECT_LT((exit.to(at::kDouble) - mean).abs().max().item<double>(), 1e-6) << one.bits << " " << slot;
      EXPECT_TRUE(at::equal(exit, integer.run({{"stem", entry}}, {path.exit}).begin()->second)) << one.bits;
    }
  }
  // One branch alone: the accumulators themselves.
  session.set_bits(2);
  const at::Tensor entry = input_of(0), exit = at::empty({1, 2, 4, 4});
  session.run_body(entry.data_ptr<float>(), exit.data_ptr<float>());
  EXPECT_FLOAT_EQ(exit[0][0][1][1].item<float>() * 9, -9);
  EXPECT_FLOAT_EQ(exit[0][1][1][1].item<float>() * 9, 11);
}

// Branch 2 is quantised by the bounds of place 0 at 4 bits and of place 1 at 8: its codes are not the same.
TEST_F(GoldenBranches, CodesDependOnTheSlot) {
  const auto codes = [&](int bits) {
    const Graph part = extract_bits(graph_, bits);
    for (const IntegerLayer& layer : integer_layers(part))
      if (layer.weight == "conv.weight@2") return weight_codes(part, layer);
    return std::vector<std::uint8_t>();
  };
  const auto first = codes(4), second = codes(8);
  ASSERT_EQ(first.size(), 36u);
  ASSERT_EQ(second.size(), 36u);
  int differing = 0;
  for (std::size_t i = 0; i < 36; ++i) differing += first[i] != second[i] ? 1 : 0;
  EXPECT_EQ(differing, 2);
  for (const auto& row : {first, second}) {
    std::vector<int> values;
    for (std::size_t i = 0; i < 18; ++i) values.push_back(2 * row[i] - 3);
    EXPECT_THAT(values, ElementsAre(-3, 1, 3, -1, 1, -3, -1, 1, -3, -1, 3, -3, 1, 3, -1, 1, -3, -1));
  }
}

}  // namespace
}  // namespace lithe
