// Numbers computed with NumPy and PyTorch 1.13 in double precision.
#include <gtest/gtest.h>

#include <cmath>

#include "lithe/ops/registry.h"
#include "lithe/quantize/quantizer.h"
#include "sparsify/helpers.h"

namespace lithe {
namespace {

using Numbers = std::vector<double>;

TensorData doubles(std::vector<std::int64_t> shape, Numbers values) {
  return TensorData::from(std::move(shape), std::move(values));
}

/// Convolution 4 -> 2, 3x3, padding 1, with batch norm, in double; W = sin(n + 1).
Graph golden_graph() {
  Graph graph;
  Numbers w;
  for (int n = 0; n < 72; ++n) w.push_back(std::sin(n + 1.0));
  graph.constants["w"] = doubles({2, 4, 3, 3}, w);
  graph.constants["scale"] = doubles({2}, {1.2, -0.7});
  graph.constants["bias"] = doubles({2}, {0.1, -0.2});
  graph.constants["mean"] = doubles({2}, {0.05, 0.3});
  graph.constants["var"] = doubles({2}, {0.9, 1.6});
  graph.inputs = {{.name = "x",
                   .dtype = DType::Float64,
                   .shape = DimVector{{.symbol = "batch"}, {.value = 4}, {.value = 4}, {.value = 4}}}};
  graph.outputs = {{.name = "y", .dtype = DType::Float64}};
  Node conv{.name = "conv", .op_type = "Conv", .inputs = {"x", "w"}, .outputs = {"c"}};
  conv.attributes["pads"] = std::vector<std::int64_t>{1, 1, 1, 1};
  Node norm{.name = "norm",
            .op_type = "BatchNormalization",
            .inputs = {"c", "scale", "bias", "mean", "var"},
            .outputs = {"y"}};
  graph.nodes = {conv, norm};
  return graph;
}

/// The same with masks 2:4 and a second branch of V = cos(0.5 n + 0.25).
MaskedGraph golden_masked(double decay = 2e-4) {
  const Graph graph = golden_graph();
  MaskedGraph masked =
      insert_masks(graph, find_sparse_layers(graph, {.prune_first = true, .prune_last = true}),
                   {.decay = decay, .branches = true});
  Graph& g = masked.graph;
  const MaskedLayer& layer = masked.layers.at(0);
  Numbers v;
  for (int n = 0; n < 72; ++n) v.push_back(std::cos(0.5 * n + 0.25));
  g.constants.at(layer.branch_weight) = doubles({2, 4, 3, 3}, v);
  const Node& norm = g.nodes[node_of(g, layer.branch_norm)];
  g.constants.at(norm.input(1)) = doubles({2}, {0.5, 0.8});
  g.constants.at(norm.input(2)) = doubles({2}, {-0.3, 0.25});
  g.constants.at(norm.input(3)) = doubles({2}, {-0.1, 0.2});
  g.constants.at(norm.input(4)) = doubles({2}, {0.4, 2.5});
  return masked;
}

at::Tensor golden_input(std::int64_t images) {
  at::Tensor x = at::empty({images, 4, 4, 4}, at::kDouble);
  for (std::int64_t m = 0; m < x.numel(); ++m)
    x.data_ptr<double>()[m] = (static_cast<double>(7 * m % 11) - 5) / 5;
  return x;
}

double element(const TensorData& data, std::initializer_list<std::int64_t> at) {
  std::int64_t index = 0;
  auto size = data.shape().begin();
  for (const std::int64_t i : at) index = index * *size++ + i;
  return data.to_doubles()[static_cast<std::size_t>(index)];
}

// Golden case G5.
TEST(GoldenFold, KernelBiasAndOutput) {
  const MaskedGraph masked = golden_masked();
  const MaskedLayer& layer = masked.layers.at(0);
  ASSERT_TRUE(layer.has_branch());
  EXPECT_EQ(masked.graph.constants.at(layer.spatial_mask).to_doubles(), (Numbers{0, 0, 0, 1, 0, 0, 0, 0, 0}));

  const Graph folded = fold_masks(masked, masked.graph);
  ASSERT_EQ(folded.nodes.size(), 1u);
  EXPECT_EQ(folded.opset("lithe"), 0);
  const TensorData &k = folded.constants.at("w"), &b = folded.constants.at(folded.nodes[0].input(2));
  EXPECT_NEAR(b.to_doubles()[0], -0.184189, 1e-6);
  EXPECT_NEAR(b.to_doubles()[1], 0.114826, 1e-6);
  const Numbers corner{1.06438, -0.688134, 0, 0}, centre{-1.212947, 1.253023, 0, 0},
      other{0, -0.545997, 0.534647, 0};
  for (std::int64_t c = 0; c < 4; ++c) {
    EXPECT_NEAR(element(k, {0, c, 0, 0}), corner[static_cast<std::size_t>(c)], 1e-5);
    EXPECT_NEAR(element(k, {0, c, 1, 1}), centre[static_cast<std::size_t>(c)], 1e-6);
    EXPECT_NEAR(element(k, {1, c, 2, 0}), other[static_cast<std::size_t>(c)], 1e-6);
  }
  double sum = 0;
  int nonzero = 0;
  for (const double value : k.to_doubles()) {
    sum += std::abs(value);
    nonzero += value != 0 ? 1 : 0;
    EXPECT_TRUE(value != 0 || !std::signbit(value));
  }
  EXPECT_NEAR(sum, 29.34725796, 1e-8);
  EXPECT_EQ(nonzero, 36);

  const at::Tensor x = golden_input(1);
  const at::Tensor y = testing_helpers::run(folded, x), two = testing_helpers::run(masked.graph, x);
  EXPECT_LT((y - two).abs().max().item<double>(), 1e-14);
  EXPECT_NEAR(y[0][0][0][0].item<double>(), -0.3265767954, 1e-9);
  EXPECT_NEAR(y[0][0][1][2].item<double>(), -5.0357256556, 1e-9);
  EXPECT_NEAR(y[0][1][3][3].item<double>(), -1.2410790179, 1e-9);
  EXPECT_NEAR(y.sum().item<double>(), 0.4302768546, 1e-8);
  EXPECT_NEAR(y.square().sum().item<double>(), 225.4431312700, 1e-7);
}

// Golden case G8: a symmetric quantiser per channel keeps every zero.
TEST(GoldenFold, SymmetricCodesKeepZeros) {
  const MaskedGraph masked = golden_masked();
  const at::Tensor k =
      to_tensor(fold_masks(masked, masked.graph).constants.at("w")).to(at::kFloat).select(0, 0);
  const Quantizer quantizer = quantizer_for_range(min_max_range(k), Scheme::Symmetric, symmetric_codes(8));
  EXPECT_NEAR(quantizer.scale.item<double>(), 0.0104062618, 1e-8);
  const at::Tensor codes = encode(quantizer, k);
  EXPECT_EQ((codes != 0).sum().item<std::int64_t>(), 18);
  EXPECT_EQ((k != 0).sum().item<std::int64_t>(), 18);
  EXPECT_TRUE(at::equal(codes.select(1, 1).select(1, 1), at::tensor({-117.0f, 120.0f, 0.0f, 0.0f})));
}

// Golden case G9, the pair in brackets: without the decay of pruned weights.
TEST(GoldenStep, GradientWithoutDecay) {
  MaskedGraph masked = golden_masked(0);
  Graph& g = masked.graph;
  Executor run(g, {.training = true});
  const at::Tensor w = run.constant("w").clone().requires_grad_(true);
  run.set_constant("w", w);
  (0.5 * at::relu(run(golden_input(2))).square().mean()).backward();
  const Numbers wanted{0.0017489337, -0.0448120342, 0.0211459105, 0.0498462336};
  for (std::int64_t c = 0; c < 4; ++c)
    EXPECT_NEAR(w.grad()[0][c][1][1].item<double>(), wanted[static_cast<std::size_t>(c)], 1e-8) << c;
}

// Golden case G9: one step with batch statistics.
TEST(GoldenStep, GradientsAndStatistics) {
  MaskedGraph masked = golden_masked();
  Graph& g = masked.graph;
  const MaskedLayer& layer = masked.layers.at(0);
  const Node norm = g.nodes[node_of(g, layer.norm)], second = g.nodes[node_of(g, layer.branch_norm)];
  for (const Node* one : {&norm, &second}) {
    g.constants.at(one->input(3)) = doubles({2}, {0, 0});
    g.constants.at(one->input(4)) = doubles({2}, {1, 1});
  }
  Executor run(g, {.training = true});
  const auto learn = [&](const std::string& name) {
    at::Tensor value = run.constant(name).clone().requires_grad_(true);
    run.set_constant(name, value);
    return value;
  };
  const at::Tensor w = learn("w"), v = learn(layer.branch_weight), scale = learn(norm.input(1)),
                   second_scale = learn(second.input(1));
  const at::Tensor y = run(golden_input(2));
  EXPECT_NEAR(y[0][0][0][0].item<double>(), -0.3033961183, 1e-7);
  EXPECT_NEAR(y[1][1][2][3].item<double>(), -0.7260110275, 1e-7);
  const at::Tensor loss = 0.5 * at::relu(y).square().mean();
  EXPECT_NEAR(loss.item<double>(), 0.5363902231, 1e-8);
  loss.backward();

  const auto expect = [](const at::Tensor& gradient, std::int64_t i, std::int64_t j, const Numbers& wanted) {
    for (std::int64_t c = 0; c < 4; ++c)
      EXPECT_NEAR(gradient[0][c][i][j].item<double>(), wanted[static_cast<std::size_t>(c)], 1e-8) << c;
  };
  expect(w.grad(), 1, 1, {0.0017489337, -0.0448120342, 0.0209766664, 0.0499565190});
  expect(w.grad(), 1, 0, {0.0229640982, 0.0484850291, -0.0074721231, -0.0127962783});
  expect(v.grad(), 1, 0, {0.0680165063, 0.0121344169, 0, 0});
  expect(v.grad(), 1, 1, {0, 0, 0, 0});
  EXPECT_NEAR(w.grad().abs().sum().item<double>(), 1.1789449823, 1e-7);
  EXPECT_NEAR(v.grad().abs().sum().item<double>(), 0.1586786246, 1e-8);
  EXPECT_EQ((v.grad() != 0).sum().item<std::int64_t>(), 4);
  EXPECT_NEAR(scale.grad()[0].item<double>(), 0.3565404336, 1e-8);
  EXPECT_NEAR(scale.grad()[1].item<double>(), -0.2765554348, 1e-8);
  EXPECT_NEAR(second_scale.grad()[0].item<double>(), 0.2374642409, 1e-8);
  EXPECT_NEAR(second_scale.grad()[1].item<double>(), 0.4559975931, 1e-8);

  // PyTorch blends in the variance over n - 1 samples, ONNX that over n = 32; its momentum is a float32.
  const auto population = [](double var) { return 0.9 + (var - 0.9) * 31 / 32; };
  const auto statistics = [&](const Node& one, const Numbers& mean, const Numbers& var) {
    for (int c = 0; c < 2; ++c) {
      const auto i = static_cast<std::size_t>(c);
      EXPECT_NEAR(run.constant(one.input(3))[c].item<double>(), mean[i], 1e-8);
      EXPECT_NEAR(run.constant(one.input(4))[c].item<double>(), population(var[i]), 3e-7);
    }
  };
  statistics(norm, {0.0076687548, -0.0116091183}, {1.4958288886, 1.4076043015});
  statistics(second, {0.0009588672, 0.0037306021}, {0.9301725245, 0.9369288047});
}

}  // namespace
}  // namespace lithe
