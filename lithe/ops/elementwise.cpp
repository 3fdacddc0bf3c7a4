// Arithmetic, unary functions, activations, conversions.
#include <cmath>
#include <functional>

#include "lithe/ops/support.h"

namespace lithe {
namespace {

using at::Tensor;
using Outputs = std::vector<Tensor>;

template <Tensor (*kFunction)(const Tensor&)>
Outputs unary(const OpCall& call) {
  return {in_float(call.input(0), kFunction)};
}

template <Tensor (*kFunction)(const Tensor&, const Tensor&)>
Outputs binary(const OpCall& call) {
  return {in_float(call.input(0), call.input(1), kFunction)};
}

Tensor add(const Tensor& a, const Tensor& b) {
  return at::add(a, b);
}
Tensor subtract(const Tensor& a, const Tensor& b) {
  return at::sub(a, b);
}

/// The quotient or remainder of the smallest integer and -1 does not fit and stops the processor: -1 is kept
/// away.
Tensor without_minus_one(const Tensor& divisor) {
  return at::where(divisor == -1, at::ones_like(divisor), divisor);
}

bool is_signed_integer(const Tensor& x) {
  return at::isIntegralType(x.scalar_type(), /*includeBool=*/false) && x.scalar_type() != at::kByte;
}

Tensor divide(const Tensor& a, const Tensor& b) {
  if (is_floating(a)) return at::div(a, b);
  if (!is_signed_integer(b)) return at::div(a, b, "trunc");
  return at::where(b == -1, at::neg(a), at::div(a, without_minus_one(b), "trunc"));
}

Outputs mod(const OpCall& call) {
  const bool truncated = call.node.attr("fmod", std::int64_t{0}) != 0;
  const Tensor& a = call.input(0);
  if (!truncated && is_floating(a))
    fail("{}: the attribute fmod must be 1 for floating-point inputs", describe(call.node));
  return {in_float(a, call.input(1), [&](const Tensor& x, const Tensor& y) {
    const Tensor divisor = is_signed_integer(y) ? without_minus_one(y) : y;
    return truncated ? at::fmod(x, divisor) : at::remainder(x, divisor);
  })};
}

/// Base and exponent may differ in type; the result has the base's. A constant scalar exponent takes
/// LibTorch's cheaper route, which knows squares and roots, and whose gradient is finite at 0.
Tensor power(const Tensor& base, const Tensor& exponent) {
  if (is_floating(base) && exponent.numel() == 1 && exponent.dim() <= base.dim() &&
      !exponent.requires_grad() && exponent.device().is_cpu())
    return at::pow(base, exponent.item<double>());
  if (base.scalar_type() == exponent.scalar_type()) return at::pow(base, exponent);
  if (is_floating(base)) return at::pow(base, exponent.to(base.scalar_type()));
  return at::pow(base.to(at::kDouble), exponent.to(at::kDouble)).to(base.scalar_type());
}

Tensor soft_plus(const Tensor& x) {
  return at::softplus(x, 1, 40);
}
Tensor soft_sign(const Tensor& x) {
  return x / (1 + at::abs(x));
}

/// An activation with float attributes.
template <typename Function>
Outputs activation(const OpCall& call, Function&& function) {
  return {in_float(call.input(0), function)};
}

Outputs hard_sigmoid(const OpCall& call) {
  const double alpha = call.node.attr("alpha", 0.2f), beta = call.node.attr("beta", 0.5f);
  if (std::abs(alpha - 1.0 / 6) < 1e-7 && beta == 0.5) return unary<at::hardsigmoid>(call);
  return activation(call, [=](const Tensor& x) { return at::clamp(x * alpha + beta, 0, 1); });
}

Outputs leaky_relu(const OpCall& call) {
  const double alpha = call.node.attr("alpha", 0.01f);
  return activation(call, [=](const Tensor& x) { return at::leaky_relu(x, alpha); });
}

Tensor prelu(const Tensor& x, const Tensor& slope) {
  return at::where(x < 0, x * slope, x);
}

Outputs elu(const OpCall& call) {
  const double alpha = call.node.attr("alpha", 1.0f);
  return activation(call, [=](const Tensor& x) { return at::elu(x, alpha); });
}

Outputs selu(const OpCall& call) {
  const double alpha = call.node.attr("alpha", 1.67326319217681884765625f);
  const double gamma = call.node.attr("gamma", 1.05070102214813232421875f);
  return activation(call, [=](const Tensor& x) { return at::elu(x, alpha, gamma); });
}

Outputs celu(const OpCall& call) {
  const double alpha = call.node.attr("alpha", 1.0f);
  return activation(call, [=](const Tensor& x) { return at::celu(x, alpha); });
}

Outputs gelu(const OpCall& call) {
  const std::string approximate = call.node.attr("approximate", "none");
  if (approximate != "none" && approximate != "tanh")
    fail("{}: approximate='{}' is not one of none, tanh", describe(call.node), approximate);
  return activation(call, [&](const Tensor& x) { return at::gelu(x, approximate); });
}

Outputs swish(const OpCall& call) {
  const double alpha = call.node.attr("alpha", 1.0f);
  return activation(call,
                    [=](const Tensor& x) { return alpha == 1 ? at::silu(x) : x * at::sigmoid(x * alpha); });
}

Outputs thresholded_relu(const OpCall& call) {
  const double alpha = call.node.attr("alpha", 1.0f);
  return activation(call, [=](const Tensor& x) { return at::threshold(x, alpha, 0); });
}

Outputs shrink(const OpCall& call) {
  const double bias = call.node.attr("bias", 0.0f), lambd = call.node.attr("lambd", 0.5f);
  const at::ScalarType type = call.input(0).scalar_type();
  const Tensor x =
      is_floating(call.input(0)) && !is_half(call.input(0)) ? call.input(0) : call.input(0).to(at::kFloat);
  const Tensor zero = at::zeros_like(x);
  return {at::where(x < -lambd, x + bias, at::where(x > lambd, x - bias, zero)).to(type)};
}

/// In training as hardtanh, whose backward pass is ten times faster than that of clamp on the CPU; it differs
/// only in being 0 at the bounds themselves.
Tensor clamp_between(const Tensor& value, double low, double high) {
  if (value.requires_grad() && at::GradMode::is_enabled() && is_floating(value) && low <= high)
    return at::hardtanh(value, low, high);
  return at::clamp(value, low, high);
}

/// Opset 1-10: bounds as attributes; from 11: as inputs. Where min > max the result is max.
Outputs clip(const OpCall& call) {
  const Tensor& x = call.input(0);
  if (call.opset < 11) {
    const double low = call.node.attr("min", -std::numeric_limits<float>::infinity());
    const double high = call.node.attr("max", std::numeric_limits<float>::infinity());
    return activation(call, [=](const Tensor& value) { return clamp_between(value, low, high); });
  }
  Tensor low = call.optional(1), high = call.optional(2);
  for (const Tensor& bound : {low, high})
    if (bound.defined() && bound.numel() != 1)
      fail("{}: min and max must be scalars, but one has {} elements", describe(call.node), bound.numel());
  if (!low.defined() && !high.defined()) return {x};
  const auto is_plain = [](const Tensor& bound) {
    return !bound.defined() || (bound.device().is_cpu() && !bound.requires_grad());
  };
  // Reading a bound out of GPU memory would make the host wait, and a learnt bound needs its gradient.
  if (is_plain(low) && is_plain(high))
    return activation(call, [&](const Tensor& value) {
      if (!high.defined()) return at::clamp_min(value, low.item());
      if (!low.defined()) return at::clamp_max(value, high.item());
      if (!is_floating(value)) return at::clamp(value, low.item(), high.item());
      return clamp_between(value, low.item<double>(), high.item<double>());
    });
  return activation(call, [&](const Tensor& value) {
    Tensor out = value;
    if (low.defined()) out = at::maximum(out, low.reshape({}).to(value.scalar_type()));
    if (high.defined()) out = at::minimum(out, high.reshape({}).to(value.scalar_type()));
    return out;
  });
}

template <Tensor (*kFunction)(const Tensor&, const Tensor&)>
Tensor fold(const OpCall& call) {
  Tensor result = call.input(0);
  for (std::size_t i = 1; i < call.inputs.size(); ++i) result = in_float(result, call.input(i), kFunction);
  return result;
}

template <Tensor (*kFunction)(const Tensor&, const Tensor&)>
Outputs variadic(const OpCall& call) {
  return {fold<kFunction>(call)};
}

Outputs mean(const OpCall& call) {
  return {fold<add>(call) / static_cast<double>(call.inputs.size())};
}

Tensor converted(const Tensor& x, DType type) {
  return keep_low_bits(x, type).to(scalar_type_of(type));
}

Outputs cast(const OpCall& call) {
  scalar_type_attr(call, "to", 0);  // refuses types that cannot be computed with
  return {converted(call.input(0), static_cast<DType>(call.node.attr("to", std::int64_t{0})))};
}

Outputs cast_like(const OpCall& call) {
  return {converted(call.input(0), call.dtype(1))};
}

Outputs identity(const OpCall& call) {
  return {call.input(0)};
}

/// Opset 1-11: ratio as attribute; from 12: as input, and an input that asks for training.
/// The mask is a bool tensor from opset 10, of the input's type before.
Outputs dropout(const OpCall& call) {
  const Tensor& x = call.input(0);
  double ratio = 0.5;
  bool training = call.training;
  if (call.opset >= 12) {
    if (call.has(1)) ratio = call.input(1).item<double>();
    if (call.has(2)) training = training || call.input(2).item<bool>();
  } else {
    ratio = call.node.attr("ratio", 0.5f);
  }
  if (!(ratio >= 0 && ratio <= 1)) fail("{}: the ratio {} is not in [0, 1]", describe(call.node), ratio);
  const bool wants_mask = call.node.outputs.size() > 1 && !call.node.outputs[1].empty();
  const at::ScalarType mask_type = call.opset >= 10 ? at::kBool : x.scalar_type();
  if (!training || ratio == 0)
    return {x,
            wants_mask ? at::ones(x.sizes(), x.options().dtype(mask_type).requires_grad(false)) : Tensor()};
  const Tensor mask =
      at::rand(x.sizes(), generator_of(call), at::TensorOptions(at::kFloat)).ge(ratio).to(x.device());
  const Tensor scaled = ratio == 1 ? at::zeros_like(x) : x * mask.to(x.scalar_type()) / (1 - ratio);
  return {scaled, wants_mask ? mask.to(mask_type) : Tensor()};
}

Outputs is_nan(const OpCall& call) {
  return {at::isnan(call.input(0))};
}

Outputs is_inf(const OpCall& call) {
  const bool negative = call.node.attr("detect_negative", std::int64_t{1}) != 0;
  const bool positive = call.node.attr("detect_positive", std::int64_t{1}) != 0;
  const Tensor& x = call.input(0);
  if (negative && positive) return {at::isinf(x)};
  if (negative) return {at::isneginf(x)};
  if (positive) return {at::isposinf(x)};
  return {at::zeros(x.sizes(), x.options().dtype(at::kBool).requires_grad(false))};
}

Outputs bit_shift(const OpCall& call) {
  const std::string direction = call.node.attr("direction", "");
  if (direction == "LEFT")
    return {keep_low_bits(at::bitwise_left_shift(call.input(0), call.input(1)), call.dtype(0))};
  if (direction == "RIGHT") return {at::bitwise_right_shift(call.input(0), call.input(1))};
  fail("{}: direction='{}' is not one of LEFT, RIGHT", describe(call.node), direction);
}

}  // namespace

void register_elementwise(OpRegistry& registry) {
  registry.add("Abs", unary<at::abs>);
  registry.add("Neg", unary<at::neg>);
  registry.add("Sqrt", unary<at::sqrt>);
  registry.add("Exp", unary<at::exp>);
  registry.add("Log", unary<at::log>);
  registry.add("Reciprocal", unary<at::reciprocal>);
  registry.add("Floor", unary<at::floor>);
  registry.add("Ceil", unary<at::ceil>);
  registry.add("Round", unary<at::round>, 11);
  registry.add("Sign", unary<at::sign>, 9);
  registry.add("Erf", unary<at::erf>, 9);
  registry.add("Sin", unary<at::sin>, 7);
  registry.add("Cos", unary<at::cos>, 7);
  registry.add("Tan", unary<at::tan>, 7);
  registry.add("Asin", unary<at::asin>, 7);
  registry.add("Acos", unary<at::acos>, 7);
  registry.add("Atan", unary<at::atan>, 7);
  registry.add("Sinh", unary<at::sinh>, 9);
  registry.add("Cosh", unary<at::cosh>, 9);
  registry.add("Asinh", unary<at::asinh>, 9);
  registry.add("Acosh", unary<at::acosh>, 9);
  registry.add("Atanh", unary<at::atanh>, 9);
  registry.add("Tanh", unary<at::tanh>);
  registry.add("Sigmoid", unary<at::sigmoid>);
  registry.add("Relu", unary<at::relu>);
  registry.add("HardSwish", unary<at::hardswish>, 14);
  registry.add("Mish", unary<at::mish>, 18);
  registry.add("Softplus", unary<soft_plus>);
  registry.add("Softsign", unary<soft_sign>);

  registry.add("Add", binary<add>, 7);
  registry.add("Sub", binary<subtract>, 7);
  registry.add("Mul", binary<at::mul>, 7);
  registry.add("Div", binary<divide>, 7);
  registry.add("Pow", binary<power>, 7);
  registry.add("PRelu", binary<prelu>, 7);
  registry.add("Mod", mod, 10);
  registry.add("BitShift", bit_shift, 11);

  registry.add("Min", variadic<at::minimum>, 6);
  registry.add("Max", variadic<at::maximum>, 6);
  registry.add("Sum", variadic<add>, 6);
  registry.add("Mean", mean, 6);

  registry.add("HardSigmoid", hard_sigmoid, 6);
  registry.add("LeakyRelu", leaky_relu, 6);
  registry.add("Elu", elu, 6);
  registry.add("Selu", selu, 6);
  registry.add("Celu", celu, 12);
  registry.add("Gelu", gelu, 20);
  registry.add("Swish", swish, 24);
  registry.add("ThresholdedRelu", thresholded_relu, 10);
  registry.add("Shrink", shrink, 9);
  registry.add("Clip", clip, 6);
  registry.add("Cast", cast, 6);
  registry.add("CastLike", cast_like, 15);
  registry.add("Identity", identity);
  registry.add("Dropout", dropout, 7);
  registry.add("IsNaN", is_nan, 9);
  registry.add("IsInf", is_inf, 10);
}

}  // namespace lithe
