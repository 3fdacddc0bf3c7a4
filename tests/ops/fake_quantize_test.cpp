#include "lithe/ops/fake_quantize.h"

#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <limits>

#include "lithe/graph/shape_inference.h"
#include "ops/op_testing.h"

namespace lithe {
namespace {

struct Result {
  at::Tensor y, grad_x, grad_scale;
};
using FakeQuantizeFunction = at::Tensor (*)(const at::Tensor&, const at::Tensor&, double, double, double,
                                            const DropMask&);

Result run(FakeQuantizeFunction function, const at::Tensor& x, const at::Tensor& scale,
           const DropMask& mask = {}, const at::Tensor& grad_y = {}) {
  const at::Tensor variable = x.detach().requires_grad_(), step = scale.detach().requires_grad_();
  const at::Tensor y = function(variable, step, 3, 0, 15, mask);
  const at::Tensor weight = grad_y.defined() ? grad_y : at::ones_like(y);
  const auto gradients = torch::autograd::grad({y}, {variable, step}, {weight});
  return {y.detach(), gradients[0], gradients[1]};
}

at::Tensor number(double value) {
  return at::full({}, value, at::kFloat);
}

TEST(FakeQuantize, GoldenValuesAndGradients) {
  const at::Tensor x = floats({-1, -0.4f, 0, 0.3f, 0.55f, 0.9f, 1.7f, 2.6f}).requires_grad_();
  const at::Tensor scale = number(0.7).requires_grad_();
  for (const FakeQuantizeFunction function : {fake_quantize, fake_quantize_composed}) {
    const at::Tensor y = function(x, scale, 1, 0, 3, {});
    EXPECT_TRUE(close(y, floats({-0.7f, -0.7f, 0, 0, 0.7f, 0.7f, 1.4f, 1.4f})));
    const auto gradients = torch::autograd::grad({y.sum()}, {x, scale});
    EXPECT_TRUE(same(gradients[0], floats({1, 1, 1, 1, 1, 1, 1, 0})));
    EXPECT_TRUE(close(gradients[1], number(1.07142854)));
  }
}

class FakeQuantizeKeep : public ::testing::TestWithParam<double> {};

TEST_P(FakeQuantizeKeep, FusedIsComposed) {
  const DropMask mask{77, GetParam()};
  at::manual_seed(1);
  const at::Tensor image = at::randn({4, 6, 5, 7}), grad = at::randn({4, 6, 5, 7});
  const auto last = at::MemoryFormat::ChannelsLast;
  for (const at::Tensor& scale : {number(0.21), number(-0.21), at::full({1}, 0.21), number(0)}) {
    const at::Tensor kinds[] = {image,
                                image.contiguous(last),
                                image.transpose(1, 3),
                                image.slice(3, 0, 4),
                                image.select(0, 1).select(0, 0).select(0, 0).select(0, 0),
                                image.slice(0, 0, 0)};
    for (const at::Tensor& x : kinds) {
      const at::Tensor grad_y = at::randn(x.sizes());
      const Result fused = run(fake_quantize, x, scale, mask, grad_y);
      const Result composed = run(fake_quantize_composed, x, scale, mask, grad_y);
      EXPECT_TRUE(same(fused.y, composed.y));
      EXPECT_TRUE(close(fused.grad_x, composed.grad_x));  // composed: grad_y * s / s
      EXPECT_TRUE(close(fused.grad_scale, composed.grad_scale, 1e-4, 1e-3));
      EXPECT_EQ(fused.grad_scale.sizes(), scale.sizes());
      EXPECT_EQ(fused.y.sizes(), x.sizes());
      EXPECT_TRUE(fused.y.strides() == x.strides() || !x.is_non_overlapping_and_dense());
    }
  }
  EXPECT_TRUE(run(fake_quantize, image.contiguous(last), number(0.2), mask, grad).y.is_contiguous(last));
}

// The mask of tensors is that of kernels, in the order of memory.
TEST_P(FakeQuantizeKeep, MaskOfTensors) {
  const DropMask mask{std::uint64_t{0xFEDCBA9876543210}, GetParam()};
  const at::Tensor x = at::zeros({3, 50, 4, 3}).contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor kept_tensor = drop_mask(x, mask);
  EXPECT_EQ(kept_tensor.strides(), x.strides());
  const at::Tensor in_memory = kept_tensor.permute({0, 2, 3, 1}).flatten();
  const bool* values = in_memory.data_ptr<bool>();
  for (std::int64_t i = 0; i < x.numel(); ++i) EXPECT_EQ(values[i], kept(mask, i)) << i;
}

INSTANTIATE_TEST_SUITE_P(Shares, FakeQuantizeKeep, ::testing::Values(1.0, 0.5, 0.3, 0.0));

TEST(FakeQuantize, DoesNotDependOnThreads) {
  const int before = at::get_num_threads();
  const at::Tensor x = at::randn({9, 16, 64, 33}), grad = at::randn({9, 16, 64, 33});
  for (const double keep : {1.0, 0.5, 0.3}) {
    at::set_num_threads(1);
    const Result one = run(fake_quantize, x, number(0.3), {5, keep}, grad);
    at::set_num_threads(2);
    const Result two = run(fake_quantize, x, number(0.3), {5, keep}, grad);
    EXPECT_TRUE(same(one.y, two.y));
    EXPECT_TRUE(same(one.grad_x, two.grad_x));
    EXPECT_TRUE(same(one.grad_scale, two.grad_scale));
  }
  at::set_num_threads(before);
}

TEST(FakeQuantize, DoublesPassNumericalSlopes) {
  // Where nothing is rounded over, straight-through slopes differ from numerical ones by design: x moves
  // nothing there. What is clipped or scaled has true slopes.
  const at::Tensor x = at::tensor({-9.0, 8.0, 20.0}, at::kDouble);
  const auto total = [&](double scale) {
    return fake_quantize(x, at::full({}, scale, at::kDouble), 3, 0, 15).sum().item<double>();
  };
  const Result result = run(fake_quantize, x, at::full({}, 0.5, at::kDouble));
  EXPECT_NEAR(result.grad_scale.item<double>(), (total(0.5001) - total(0.4999)) / 2e-4, 1e-6);
  EXPECT_EQ(result.y.scalar_type(), at::kDouble);
}

TEST(FakeQuantize, SignAndFloorOfTheScale) {
  const at::Tensor x = floats({0.33f, 0.9f, -5});
  const Result plus = run(fake_quantize, x, number(0.2)), minus = run(fake_quantize, x, number(-0.2));
  EXPECT_TRUE(same(plus.y, minus.y));
  EXPECT_TRUE(same(plus.grad_scale, -minus.grad_scale));
  EXPECT_NE(plus.grad_scale.item<float>(), 0);
  const Result none = run(fake_quantize, x, number(1e-9));
  EXPECT_TRUE(close(none.y, floats({12, 12, -3}) * kSmallestScale, 1e-5, 0));
  EXPECT_EQ(none.grad_scale.item<float>(), 0);
}

TEST(FakeQuantize, NotANumberIsSeen) {
  const at::Tensor x = floats({1, std::nanf(""), 2, std::numeric_limits<float>::infinity()});
  const Result result = run(fake_quantize, x, number(0.5));
  EXPECT_TRUE(same(result.y, floats({1, std::nanf(""), 2, 6})));
  EXPECT_TRUE(std::isnan(result.grad_scale.item<float>()));
}

TEST(FakeQuantize, OtherTypesAndStrides) {
  const at::Tensor x = at::randn({3, 8});
  EXPECT_EQ(fake_quantize(x.to(at::kBFloat16), number(0.5), 3, 0, 15).scalar_type(), at::kBFloat16);
  // The gradient of a sum is one number with strides 0.
  const at::Tensor variable = x.detach().requires_grad_();
  const auto gradients =
      torch::autograd::grad({fake_quantize(variable, number(10), 3, 0, 15).sum()}, {variable});
  EXPECT_TRUE(same(gradients[0], at::ones({3, 8})));
  EXPECT_THAT(message_of([&] { fake_quantize(x, at::ones({3}), 0, 0, 15); }),
              ::testing::HasSubstr("3 are given"));
}

std::vector<at::Tensor> run_node(const std::vector<at::Tensor>& inputs, const Attributes& attributes) {
  Node node{.name = "node", .op_type = "FakeQuantize", .domain = "lithe", .attributes = attributes};
  for (std::size_t i = 0; i < inputs.size(); ++i) node.inputs.push_back("x" + std::to_string(i));
  node.outputs = {"y"};
  const OpEntry* entry = op_registry().find("lithe", "FakeQuantize");
  return entry->run(OpCall{.node = node, .opset = 1, .inputs = inputs});
}

TEST(FakeQuantize, Operator) {
  const at::Tensor x = at::randn({2, 3, 40});
  const Attributes codes{{"low", std::int64_t{0}}, {"high", std::int64_t{15}}};
  EXPECT_TRUE(same(run_node({x, number(0.3), number(4)}, codes)[0], fake_quantize(x, number(0.3), 4, 0, 15)));
  EXPECT_TRUE(same(run_node({x, number(0.3), number(4), ints({-12, 32768})}, codes)[0],
                   fake_quantize(x, number(0.3), 4, 0, 15, {static_cast<std::uint64_t>(-12), 0.5})));
  EXPECT_TRUE(same(run_node({x, number(0.3), number(4), ints({9, 0})}, codes)[0], x));
  EXPECT_TRUE(same(run_node({x, number(0.01), number(4)}, {})[0], fake_quantize(x, number(0.01), 4, 0, 255)));
  EXPECT_EQ(message_of([&] {
              run_node({x, number(0.3), number(4), ints({9})}, codes);
            }),
            "lithe.FakeQuantize node 'node': drop must be a key and a number from 0 to 65536");
  EXPECT_THAT(message_of([&] {
                run_node({x, at::ones({2}), number(4)}, codes);
              }),
              ::testing::HasSubstr("single numbers"));
  EXPECT_THAT(message_of([&] {
                run_node({x, number(1), number(4)}, {{"low", std::int64_t{5}}, {"high", std::int64_t{5}}});
              }),
              ::testing::HasSubstr("no range of codes"));
}

TEST(FakeQuantize, ShapeIsThatOfTheInput) {
  Graph graph;
  graph.header.opsets["lithe"] = 1;
  graph.inputs = {
      {.name = "x", .dtype = DType::Float32, .shape = DimVector{{.symbol = "batch"}, {.value = 8}}}};
  graph.constants["s"] = TensorData::from<float>({}, {0.5f});
  graph.constants["z"] = TensorData::from<float>({}, {3.0f});
  graph.nodes.push_back(
      {.op_type = "FakeQuantize", .domain = "lithe", .inputs = {"x", "s", "z"}, .outputs = {"y"}});
  graph.outputs = {{.name = "y"}};
  infer_shapes(graph);
  EXPECT_EQ(format_type(graph.outputs[0]), "float32 [batch, 8]");
}

}  // namespace
}  // namespace lithe
