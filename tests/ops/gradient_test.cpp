// Gradients of operators against finite differences in float64.
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/variable.h>

#include <functional>

#include "ops/op_testing.h"

namespace lithe {
namespace {

using Computation = std::function<at::Tensor(const std::vector<at::Tensor>&)>;

/// Compares the gradient of sum(weights * f(inputs)), with fixed uneven weights, with central differences.
void expect_gradients(const Computation& function, std::vector<at::Tensor> inputs) {
  constexpr double kStep = 1e-6;
  for (at::Tensor& input : inputs) input = input.to(at::kDouble).contiguous().requires_grad_(true);
  const at::Tensor output = function(inputs);
  ASSERT_TRUE(output.requires_grad()) << "the operator cuts the gradient";
  const at::Tensor weights =
      at::arange(1, output.numel() + 1, at::kDouble).mul(0.7).sin().add(0.3).reshape(output.sizes());
  const auto gradients = torch::autograd::grad({(output * weights).sum()}, inputs);

  const at::NoGradGuard no_grad;
  for (std::size_t which = 0; which < inputs.size(); ++which) {
    ASSERT_TRUE(gradients[which].defined()) << "no gradient reaches input " << which;
    const at::Tensor numeric = at::zeros_like(inputs[which]).contiguous();
    for (std::int64_t i = 0; i < numeric.numel(); ++i) {
      const auto shifted = [&](double step) {
        std::vector<at::Tensor> moved = inputs;
        moved[which] = inputs[which].detach().clone();
        moved[which].view(-1)[i] += step;
        return (function(moved) * weights).sum().item<double>();
      };
      numeric.data_ptr<double>()[i] = (shifted(kStep) - shifted(-kStep)) / (2 * kStep);
    }
    EXPECT_TRUE(at::allclose(gradients[which], numeric, 1e-4, 1e-6))
        << "input " << which << "\n"
        << gradients[which] << "\nfinite differences\n"
        << numeric;
  }
}

/// Numbers without ties and away from 0, the same in every run.
at::Tensor numbers(const std::vector<std::int64_t>& shape, double phase = 0) {
  const std::int64_t count = at::empty(shape, at::kDouble).numel();
  return at::arange(count, at::kDouble).mul(1.37).add(phase + 0.5).sin().mul(1.7).reshape(shape);
}

/// Checks the first output with respect to the first inputs; `fixed` follow them and are not differentiated.
void expect_op_gradients(const std::string& op_type, const std::vector<at::Tensor>& inputs,
                         const std::vector<at::Tensor>& fixed = {}, const OpSettings& settings = {}) {
  SCOPED_TRACE(op_type);
  expect_gradients(
      [&](const std::vector<at::Tensor>& x) {
        std::vector<at::Tensor> all = x;
        all.insert(all.end(), fixed.begin(), fixed.end());
        return run_op(op_type, all, settings);
      },
      inputs);
}

TEST(Gradient, Arithmetic) {
  expect_op_gradients("Mul", {numbers({2, 3}), numbers({3}, 1)});
  expect_op_gradients("Div", {numbers({2, 1, 3}), numbers({2, 1}, 1) + 3});
  expect_op_gradients("Pow", {numbers({2, 3}).abs() + 0.5, numbers({3}, 1)});
  expect_op_gradients("Pow", {numbers({2, 3})}, {at::tensor(2.0)});
  expect_op_gradients("Max", {numbers({2, 3}), numbers({3}, 2), numbers({2, 1}, 4)});
  expect_op_gradients("Mean", {numbers({2, 3}), numbers({3}, 2)});
}

TEST(Gradient, SmoothFunctions) {
  for (const char* op :
       {"Exp", "Tanh", "Sigmoid", "Erf", "Sin", "Softplus", "Softsign", "Mish", "Selu", "Elu", "Celu",
        "HardSwish", "HardSigmoid", "LeakyRelu", "Gelu", "Swish", "Identity", "Atan"})
    expect_op_gradients(op, {numbers({7})});
  expect_op_gradients("Gelu", {numbers({7})}, {}, {.attributes = {{"approximate", std::string("tanh")}}});
  expect_op_gradients("PRelu", {numbers({2, 3}), numbers({3}, 1)});
}

TEST(Gradient, ClipOfFixedBounds) {
  expect_op_gradients("Clip", {numbers({9})}, {at::tensor(-0.8), at::tensor(0.9)});
  expect_op_gradients("Clip", {numbers({9})}, {},
                      {.attributes = {{"min", 0.0f}, {"max", 0.5f}}, .opset = 10});
}

TEST(Gradient, ClipOfLearntBounds) {
  expect_gradients(
      [](const std::vector<at::Tensor>& x) {
        return run_op("Clip", {x[0], x[1].sum(), x[2].sum()});
      },
      {numbers({3, 3}), at::tensor({-0.8}), at::tensor({0.9})});
}

TEST(Gradient, Reductions) {
  const std::vector<at::Tensor> axes{ints({0, 2})};
  for (const char* op : {"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1",
                         "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp"})
    expect_op_gradients(op, {numbers({2, 3, 2})}, axes, {.attributes = {{"keepdims", std::int64_t{0}}}});
  expect_op_gradients("ReduceLogSum", {numbers({2, 3, 2}).abs() + 0.1}, axes);
  expect_op_gradients("CumSum", {numbers({2, 4})}, {ints({1})},
                      {.attributes = {{"exclusive", std::int64_t{1}}, {"reverse", std::int64_t{1}}}});
  expect_op_gradients("TopK", {numbers({3, 4})}, {ints({2})});
}

TEST(Gradient, NormHasOneAtTheOrigin) {
  const at::Tensor x = at::zeros({3}, at::kDouble).requires_grad_(true);
  run_op("ReduceL2", {x}).sum().backward();
  EXPECT_TRUE(same(x.grad(), at::zeros({3}, at::kDouble)));
}

TEST(Gradient, MovingElements) {
  expect_op_gradients("Slice", {numbers({4, 5})},
                      {ints({-1, 0}), ints({-5, 5}), ints({0, 1}), ints({-2, 2})});
  expect_op_gradients("Pad", {numbers({1, 1, 3, 4})}, {ints({0, 0, 1, 2, 0, 0, 2, 0})},
                      {.attributes = {{"mode", std::string("reflect")}}});
  expect_op_gradients("Pad", {numbers({3, 4})}, {ints({1, -1, 0, 2})},
                      {.attributes = {{"mode", std::string("wrap")}}});
  expect_op_gradients("Expand", {numbers({2, 1, 3})}, {ints({2, 4, 1})});
  expect_op_gradients("DepthToSpace", {numbers({1, 8, 1, 2})}, {},
                      {.attributes = {{"blocksize", std::int64_t{2}}}});
  expect_op_gradients("Concat", {numbers({2, 1}), numbers({2, 3}, 1)}, {},
                      {.attributes = {{"axis", std::int64_t{1}}}});
  const at::Tensor choice = at::tensor({1, 0, 1, 0, 0, 1}).to(at::kBool).reshape({2, 3});
  expect_gradients(
      [&](const std::vector<at::Tensor>& x) {
        return run_op("Where", {choice, x[0], x[1]});
      },
      {numbers({2, 3}), numbers({3}, 1)});
}

TEST(Gradient, Indexing) {
  expect_op_gradients("Gather", {numbers({3, 4})}, {ints({2, 0, -1, 2})},
                      {.attributes = {{"axis", std::int64_t{1}}}});
  expect_op_gradients("GatherND", {numbers({3, 4})}, {ints({2, 0, -1, 2}).reshape({2, 2})});
  for (const char* reduction : {"none", "add", "mul", "max"}) {
    const at::Tensor places = ints({2, 0}).reshape({2, 1});
    expect_gradients(
        [&](const std::vector<at::Tensor>& x) {
          return run_op("ScatterND", {x[0], places, x[1]},
                        {.attributes = {{"reduction", std::string(reduction)}}});
        },
        {numbers({4, 3}), numbers({2, 3}, 1)});
  }
}

// Kernels of single positions that step over some, with few channels, channels last.
TEST(Gradient, StridedPointConvolution) {
  at::manual_seed(1);
  const OpSettings settings{.attributes = {{"strides", std::vector<std::int64_t>{2, 2}}}};
  for (const std::int64_t channels : {2, 4, 5, 8}) {
    const at::Tensor x = at::randn({32, channels, 8, 8}), weight = at::randn({16, channels, 1, 1});
    const auto gradients_in = [&](at::ScalarType type) {
      const at::Tensor a = x.to(type).requires_grad_(), b = weight.to(type).requires_grad_();
      const at::Tensor y =
          run_op("Conv",
                 {a.contiguous(at::MemoryFormat::ChannelsLast), b.contiguous(at::MemoryFormat::ChannelsLast)},
                 settings);
      return torch::autograd::grad({(y * y).sum()}, {a, b});
    };
    const auto single = gradients_in(at::kFloat), twice = gradients_in(at::kDouble);
    for (std::size_t i = 0; i < 2; ++i)
      EXPECT_TRUE(at::allclose(single[i].to(at::kDouble), twice[i], 1e-4, 1e-3)) << channels << " " << i;
  }
  expect_op_gradients("Conv", {numbers({2, 3, 5, 5}), numbers({2, 3, 1, 1}, 1), numbers({2}, 2)}, {},
                      settings);
}

TEST(Gradient, ImageAndLinear) {
  expect_op_gradients("Conv", {numbers({1, 2, 4, 4}), numbers({3, 2, 3, 3}, 1), numbers({3}, 2)}, {},
                      {.attributes = {{"pads", std::vector<std::int64_t>{1, 0, 1, 1}},
                                      {"strides", std::vector<std::int64_t>{2, 1}}}});
  expect_op_gradients("Gemm", {numbers({2, 3}), numbers({4, 3}, 1), numbers({4}, 2)}, {},
                      {.attributes = {{"transB", std::int64_t{1}}, {"alpha", 0.5f}}});
  expect_op_gradients("MatMul", {numbers({2, 2, 3}), numbers({3, 2}, 1)});
  expect_op_gradients("Softmax", {numbers({2, 3})});
  expect_op_gradients("LayerNormalization", {numbers({2, 4}), numbers({4}, 1), numbers({4}, 2)});
  expect_op_gradients("AveragePool", {numbers({1, 1, 4, 4})}, {},
                      {.attributes = {{"kernel_shape", std::vector<std::int64_t>{2, 2}}}});
}

}  // namespace
}  // namespace lithe
