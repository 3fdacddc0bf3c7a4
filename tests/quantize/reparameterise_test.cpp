#include "lithe/quantize/reparameterise.h"

#include <gtest/gtest.h>

#include <cmath>

#include "helpers.h"
#include "lithe/models/models.h"
#include "lithe/quantize/prepare.h"

namespace lithe {
namespace {

using namespace testing_helpers;

Graph small_vit(bool layer_norm_operator) {
  Graph graph = build_vit({.image_size = 16,
                           .patch = 4,
                           .dim = 24,
                           .depth = 2,
                           .heads = 2,
                           .classes = 10,
                           .layer_norm_operator = layer_norm_operator});
  simplify(graph);
  // Norms with channels of very different size, as trained networks have.
  Rng rng(1);
  for (auto& [name, data] : graph.constants)
    if (data.dtype() == DType::Float32 && data.rank() == 1 && data.count() == 24) {
      std::vector<float> values = data.to_floats();
      for (float& value : values) value += static_cast<float>(std::exp(1.5 * rng.normal()));
      data = TensorData::from<float>({24}, std::move(values));
    }
  return graph;
}

/// Largest over smallest range of the channels of the inputs of MatMul and Gemm layers behind norms.
double spread(const Graph& graph, const at::Tensor& x, const std::string& value) {
  Executor executor(graph);
  const at::Tensor y = executor.run({{"input", x}}, {value}).at(value).reshape({-1, 24});
  const at::Tensor width = std::get<0>(y.max(0)) - std::get<0>(y.min(0));
  return width.max().item<double>() / width.min().item<double>();
}

TEST(ReparameteriseNorms, ComputesTheSameWithChannelsOfOneRange) {
  for (const bool layer_norm_operator : {false, true}) {
    const Graph before = small_vit(layer_norm_operator);
    Graph after = before;
    const at::Tensor x = random_tensor({16, 3, 16, 16}, 4);
    // Two norms a block; the last one feeds the head through a Gather of the class token.
    EXPECT_EQ(reparameterise_norms(after, tensor_dataset({{"", x}}), {.batch = 16}), 4);
    const at::Tensor a = run(before, x), b = run(after, x);
    EXPECT_LT(largest_gap(a, b), 1e-4 * a.abs().max().item<double>());
    int narrower = 0;
    for (const Node& node : after.nodes) {
      if (!node.is("MatMul") && !node.is("Gemm")) continue;
      const TensorData* weight = after.constant(node.input(1));
      if (!weight || weight->shape()[0] != 24) continue;
      const double ratio = spread(after, x, node.input(0));
      if (ratio > 1.01) continue;
      ++narrower;
      EXPECT_GT(spread(before, x, node.input(0)), 3);
    }
    EXPECT_GE(narrower, 4);
  }
}

TEST(ReparameteriseNorms, LeavesConvolutionalNetworksAlone) {
  Graph graph = build_resnet20({.classes = 10, .image_size = 16, .width = 0.25});
  simplify(graph);
  EXPECT_EQ(reparameterise_norms(graph, random_dataset({4, 3, 16, 16}, 1)), 0);
}

}  // namespace
}  // namespace lithe
