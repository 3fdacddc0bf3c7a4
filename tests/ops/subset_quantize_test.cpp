#include "lithe/ops/subset_quantize.h"

#include <gtest/gtest.h>

#include "lithe/base/error.h"
#include "lithe/base/random.h"
#include "lithe/engine/executor.h"
#include "lithe/graph/shape_inference.h"
#include "lithe/graph/subset_function.h"
#include "lithe/ops/registry.h"
#include "message_of.h"

namespace lithe {
namespace {

at::Tensor normals(at::IntArrayRef shape, std::uint64_t seed) {
  Rng rng(seed);
  at::Tensor x = at::empty(shape, at::kFloat);
  for (std::int64_t i = 0; i < x.numel(); ++i) x.data_ptr<float>()[i] = static_cast<float>(rng.normal());
  return x;
}

TensorData random_points(std::int64_t channels, std::int64_t count, std::uint64_t seed) {
  Rng rng(seed);
  std::vector<std::int16_t> points;
  for (std::int64_t c = 0; c < channels; ++c) {
    for (std::int64_t k = 0; k < count; ++k)
      points.push_back(static_cast<std::int16_t>(static_cast<int>(rng.below(2049)) - 1024));
    std::sort(points.end() - count, points.end());
  }
  return TensorData::from<std::int16_t>({channels, count}, std::move(points));
}

/// One node; with another domain than "lithe" the function's body runs instead of the kernel.
Graph graph_of(bool dynamic, std::int64_t count, float centre, const std::string& domain) {
  Graph graph;
  graph.header.opsets[""] = 17;
  graph.inputs = {{.name = "x",
                   .dtype = DType::Float32,
                   .shape = DimVector{{.value = 2}, {.value = 3}, {.symbol = "h"}, {.symbol = "w"}}}};
  graph.outputs = {{.name = "y", .dtype = DType::Float32}};
  graph.constants["points"] = random_points(3, count, 5);
  graph.constants["centre"] = TensorData::scalar(centre);
  graph.constants["mean"] = TensorData::from<float>({3, 1, 1}, std::vector<float>{0.1f, -0.7f, 0});
  graph.constants["scale"] = TensorData::from<float>({3, 1, 1}, std::vector<float>{2.3f, 1.1f, 3});
  Node node{.name = "q", .op_type = dynamic ? kDynamicSubsetQuantize : kSubsetQuantize, .domain = "lithe"};
  node.inputs = dynamic ? std::vector<std::string>{"x", "points", "centre"}
                        : std::vector<std::string>{"x", "points", "mean", "scale"};
  node.outputs = {"y"};
  graph.nodes = {node};
  add_subset_functions(graph);
  graph.nodes[0].domain = domain;
  for (Function& function : graph.header.functions) function.domain = domain;
  graph.header.opsets[domain] = 1;
  return graph;
}

struct Case {
  bool dynamic;
  std::int64_t count;
  float centre;
};

class SubsetFunction : public ::testing::TestWithParam<Case> {};

TEST_P(SubsetFunction, BodyEqualsKernel) {
  const auto& [dynamic, count, centre] = GetParam();
  at::Tensor x = normals({2, 3, 9, 7}, 1);
  x[0][1] = 0;  // a dead channel
  if (!dynamic) {
    x[1][2][0][0] = INFINITY;
    x[1][2][0][1] = -INFINITY;
    x[1][2][0][2] = NAN;
  }
  Executor kernel(graph_of(dynamic, count, centre, "lithe")), body(graph_of(dynamic, count, centre, "other"));
  const at::Tensor a = kernel(x), b = body(x);
  EXPECT_EQ(a.sizes(), x.sizes());
  if (dynamic)  // means may differ in their last bit
    EXPECT_LT((a - b).abs().max().item<double>(), 1e-5);
  else
    EXPECT_TRUE(at::equal(a, b));
  EXPECT_GT(a.abs().max().item<double>(), 0);
}

INSTANTIATE_TEST_SUITE_P(All, SubsetFunction,
                         ::testing::Values(Case{false, 4, 0}, Case{false, 16, 0}, Case{false, 64, 0},
                                           Case{true, 16, 0}, Case{true, 16, 1}, Case{true, 256, 1}));

// Selections may hold a point more than once, the lowest one too.
TEST(SubsetFunctions, EqualPointsAreOne) {
  for (const bool dynamic : {false, true}) {
    const TensorData points = TensorData::from<std::int16_t>(
        {3, 4},
        std::vector<std::int16_t>{-1024, -1024, 0, 512, 256, 256, 256, 256, -1024, -1024, -1024, 1024});
    Graph with_kernel = graph_of(dynamic, 4, 0, "lithe"), with_body = graph_of(dynamic, 4, 0, "other");
    with_kernel.constants["points"] = with_body.constants["points"] = points;
    const at::Tensor x = normals({2, 3, 9, 7}, 3);
    Executor kernel(with_kernel), body(with_body);
    EXPECT_LT((kernel(x) - body(x)).abs().max().item<double>(), 1e-5);
  }
}

// Statistics of a batch are those of its samples apart.
TEST(SubsetQuantize, SamplesDoNotMix) {
  Executor run(graph_of(true, 16, 1, "lithe"));
  const at::Tensor x = normals({2, 3, 8, 8}, 2);
  const at::Tensor twice = at::cat({x.narrow(0, 0, 1), 100 * x.narrow(0, 1, 1)});
  EXPECT_TRUE(at::equal(run(x).narrow(0, 0, 1), run(twice).narrow(0, 0, 1)));
}

TEST(SubsetQuantize, LayoutsGiveTheSame) {
  const at::Tensor x = normals({2, 3, 8, 5}, 3);
  const at::Tensor points = to_tensor(random_points(3, 16, 4));
  const SubsetNormalisation how{.dynamic = true, .centre = true};
  EXPECT_TRUE(at::equal(subset_quantize(x, points, how, ""),
                        subset_quantize(x.contiguous(at::MemoryFormat::ChannelsLast), points, how, "")));
}

TEST(SubsetQuantize, GradientsPass) {
  const at::Tensor points = to_tensor(random_points(3, 16, 4));
  const SubsetNormalisation fixed{.mean = at::zeros({3}), .scale = at::full({3}, 4.0f), .restore = false};
  for (const bool restore : {true, false}) {
    const at::AutoGradMode grad(true);
    at::Tensor x = normals({1, 3, 4, 4}, 6).requires_grad_(true);
    SubsetNormalisation how = fixed;
    how.restore = restore;
    const at::Tensor y = subset_quantize(x, points, how, "");
    y.sum().backward();
    EXPECT_TRUE(at::equal(x.grad(), at::full_like(x, restore ? 1.0 : 0.25)));
    const at::NoGradGuard no_grad;
    EXPECT_LT((y - subset_quantize(x, points, how, "")).abs().max().item<double>(), 1e-6);
  }
}

TEST(SubsetQuantize, ShapesAreInferredAndChecked) {
  Graph graph = graph_of(false, 4, 0, "lithe");
  infer_shapes(graph);
  ASSERT_TRUE(graph.outputs[0].shape);
  EXPECT_EQ((*graph.outputs[0].shape)[1].value, 3);
  const at::Tensor points = to_tensor(random_points(2, 4, 4));
  EXPECT_EQ(test::message_of([&] {
              subset_quantize(at::zeros({1, 3, 2, 2}), points, {.dynamic = true}, "node");
            }),
            "node: the points [2, 4] do not fit the input [1, 3, 2, 2]");
  EXPECT_THROW(subset_quantize(at::zeros({3, 2, 2}), points, {.dynamic = true}, "node"), Error);
}

}  // namespace
}  // namespace lithe
