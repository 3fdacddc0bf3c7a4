// Rounding to integers and back, and operators on the integers. Integer arithmetic is exact; int4 and uint4
// values live in int8 and uint8 tensors, uint16 in int32 (see to_tensor).
#include <algorithm>
#include <array>

#include "lithe/base/math.h"
#include "lithe/ops/support.h"
#include "lithe/ops/window.h"

namespace lithe {
namespace {

using Ints = std::vector<std::int64_t>;

struct Range {
  std::int64_t low, high;
};

Range range_of(const OpCall& call, DType dtype) {
  switch (dtype) {
    case DType::UInt8:
      return {0, 255};
    case DType::Int8:
      return {-128, 127};
    case DType::UInt16:
      return {0, 65535};
    case DType::Int16:
      return {-32768, 32767};
    case DType::UInt4:
      return {0, 15};
    case DType::Int4:
      return {-8, 7};
    case DType::UInt2:
      return {0, 3};
    case DType::Int2:
      return {-2, 1};
    default:
      fail("{}: quantising to {} is not supported", describe(call.node), dtype_name(dtype));
  }
}

/// A scale or zero point spread over x: a scalar, one entry per slice of an axis, or one per block of it.
at::Tensor spread(const OpCall& call, const at::Tensor& parameter, const at::Tensor& x) {
  if (parameter.numel() == 1 && parameter.dim() <= 1) return parameter.reshape({});
  const std::int64_t block = call.node.attr("block_size", std::int64_t{0});
  const std::int64_t axis = checked_axis(call, call.node.attr("axis", std::int64_t{1}), x.dim());
  const auto mismatch = [&] {
    fail("{}: scale or zero point {} does not fit the input {} along axis {}", describe(call.node),
         format_shape(shape_of(parameter)), format_shape(shape_of(x)), axis);
  };
  if (block == 0) {
    if (parameter.dim() != 1 || parameter.numel() != x.size(axis)) mismatch();
    Ints shape(static_cast<std::size_t>(x.dim()), 1);
    shape[static_cast<std::size_t>(axis)] = -1;
    return parameter.view(shape);
  }
  if (block < 0 || parameter.dim() != x.dim() || parameter.size(axis) != ceil_div(x.size(axis), block))
    mismatch();
  return parameter.repeat_interleave(block, axis).narrow(axis, 0, x.size(axis));
}

/// Rounds half to even; the gradient passes as if nothing had been rounded (straight-through).
at::Tensor round_through(const at::Tensor& x) {
  if (!x.requires_grad() || !at::GradMode::is_enabled()) return at::round(x);
  return x + (at::round(x) - x).detach();
}

std::vector<at::Tensor> quantize_linear(const OpCall& call) {
  const at::Tensor x = call.input(0).to(at::kFloat);
  const at::Tensor scale = spread(call, call.input(1).to(at::kFloat), x);
  // The element type comes from the zero point's declared type, which its tensor may have widened.
  DType dtype = static_cast<DType>(call.node.attr("output_dtype", std::int64_t{0}));
  if (dtype == DType::Undefined) dtype = call.has(2) ? call.dtype(2) : DType::UInt8;
  const Range range = range_of(call, dtype);
  at::Tensor q = round_through(x / scale);
  if (call.has(2)) q = q + spread(call, call.inputs[2], x).to(at::kFloat);
  q = q.clamp(range.low, range.high);
  // Integers carry no gradient: where one is asked for, the codes stay whole numbers in float.
  if (q.requires_grad()) return {q};
  return {q.to(scalar_type_of(dtype))};
}

std::vector<at::Tensor> dequantize_linear(const OpCall& call) {
  const at::Tensor& q = call.input(0);
  const at::Tensor& given = call.input(1);
  const at::Tensor scale = spread(call, given, q);
  if (!call.has(2)) return {q.to(given.scalar_type()) * scale};
  const at::Tensor zero = spread(call, call.inputs[2], q);
  // int32 codes pass what float32 holds exactly: subtract as integers.
  if (q.scalar_type() == at::kInt) return {(q - zero).to(given.scalar_type()) * scale};
  return {(q.to(given.scalar_type()) - zero.to(given.scalar_type())) * scale};
}

/// Scale and zero point that cover the input's range and zero, in uint8.
std::vector<at::Tensor> dynamic_quantize_linear(const OpCall& call) {
  const at::Tensor x = call.input(0).to(at::kFloat);
  const at::Tensor zero = at::zeros({}, x.options());
  const at::Tensor low = at::minimum(x.amin(), zero), high = at::maximum(x.amax(), zero);
  at::Tensor scale = (high - low) / 255;
  scale = at::where(scale == 0, at::ones_like(scale), scale);
  const at::Tensor zero_point = at::round(-low / scale).clamp(0, 255);
  const at::Tensor q = (at::round(x / scale) + zero_point).clamp(0, 255);
  return {q.to(at::kByte), scale, zero_point.to(at::kByte)};
}

/// Codes less their zero point as doubles, in which sums of products of integers below 2^53 are exact.
at::Tensor centred(const OpCall& call, const at::Tensor& q, const at::Tensor& zero_point, const Ints& shape) {
  at::Tensor codes = q.to(at::kDouble);
  if (!zero_point.defined()) return codes;
  const at::Tensor zero = zero_point.to(at::kDouble);
  if (zero.numel() == 1) return codes - zero.reshape({});
  Ints target = shape;
  std::int64_t count = 1;
  for (std::size_t i = 0; i < target.size(); ++i) count *= target[i] < 0 ? zero.numel() : 1;
  if (count != zero.numel())
    fail("{}: the zero point {} does not fit {}", describe(call.node), format_shape(shape_of(zero_point)),
         format_shape(shape_of(q)));
  return codes - zero.reshape(target);
}

/// Zero points of matrices: one a row (of A) or a column (of B), or shaped like the matrix stack already.
at::Tensor centred_matrix(const OpCall& call, const at::Tensor& q, const at::Tensor& zero_point, bool rows) {
  if (zero_point.defined() && zero_point.dim() > 1) return q.to(at::kDouble) - zero_point.to(at::kDouble);
  return centred(call, q, zero_point, rows && q.dim() > 1 ? Ints{-1, 1} : Ints{-1});
}

at::Tensor requantize(const OpCall& call, const at::Tensor& real, const at::Tensor& scale,
                      const at::Tensor& zero_point, DType dtype) {
  const Range range = range_of(call, dtype);
  const at::Tensor q = at::round(real.to(at::kFloat) / scale.to(at::kFloat)) + zero_point.to(at::kFloat);
  return q.clamp(range.low, range.high).to(scalar_type_of(dtype));
}

/// Exact integer convolution of codes less zero points, in double.
at::Tensor integer_conv(const OpCall& call, const at::Tensor& x, const at::Tensor& weight,
                        const at::Tensor& x_zero, const at::Tensor& w_zero, const at::Tensor& bias) {
  if (x.dim() < 3 || weight.dim() != x.dim())
    fail("{}: the weight {} does not fit the input {}", describe(call.node), format_shape(shape_of(weight)),
         format_shape(shape_of(x)));
  const Window window = read_window(call, Ints(weight.sizes().begin() + 2, weight.sizes().end()),
                                    Ints(x.sizes().begin() + 2, x.sizes().end()));
  Ints per_channel(static_cast<std::size_t>(weight.dim()), 1);
  per_channel[0] = -1;
  // Padding stands for the real number zero, which is what is left of a code equal to the zero point.
  at::Tensor input = at::constant_pad_nd(centred(call, x, x_zero, Ints{}), torch_pads(window));
  return at::convolution(input, centred(call, weight, w_zero, per_channel),
                         bias.defined() ? bias.to(at::kDouble) : bias, window.strides, Ints(window.rank(), 0),
                         window.dilations, false, Ints(window.rank(), 0),
                         call.node.attr("group", std::int64_t{1}));
}

std::vector<at::Tensor> conv_integer(const OpCall& call) {
  return {
      integer_conv(call, call.input(0), call.input(1), call.optional(2), call.optional(3), {}).to(at::kInt)};
}

std::vector<at::Tensor> qlinear_conv(const OpCall& call) {
  const at::Tensor sums =
      integer_conv(call, call.input(0), call.input(3), call.input(2), call.input(5), call.optional(8));
  at::Tensor scale = call.input(4).to(at::kDouble);
  if (scale.numel() > 1) {
    Ints shape(static_cast<std::size_t>(sums.dim()), 1);
    shape[1] = -1;
    scale = scale.reshape(shape);
  } else {
    scale = scale.reshape({});
  }
  const at::Tensor real = sums * (scale * call.input(1).to(at::kDouble).reshape({}));
  return {requantize(call, real, call.input(6).reshape({}), call.input(7).reshape({}), call.dtype(7))};
}

std::vector<at::Tensor> matmul_integer(const OpCall& call) {
  const at::Tensor a = centred_matrix(call, call.input(0), call.optional(2), true);
  const at::Tensor b = centred_matrix(call, call.input(1), call.optional(3), false);
  return {at::matmul(a, b).to(at::kInt)};
}

std::vector<at::Tensor> qlinear_matmul(const OpCall& call) {
  const at::Tensor a = centred_matrix(call, call.input(0), call.input(2), true);
  const at::Tensor b = centred_matrix(call, call.input(3), call.input(5), false);
  const auto factor = [](const at::Tensor& scale, bool rows) {
    const at::Tensor wide = scale.to(at::kDouble);
    if (wide.numel() == 1) return wide.reshape({});
    return rows && wide.dim() == 1 ? wide.unsqueeze(1) : wide;
  };
  const at::Tensor real = at::matmul(a, b) * factor(call.input(1), true) * factor(call.input(4), false);
  return {requantize(
      call, real, factor(call.input(6), true),
      call.input(7).dim() == 1 && call.input(7).numel() > 1 ? call.input(7).unsqueeze(1) : call.input(7),
      call.dtype(7))};
}

}  // namespace

void register_quantization(OpRegistry& registry) {
  registry.add("QuantizeLinear", quantize_linear, 10, 24);
  registry.add("DequantizeLinear", dequantize_linear, 10, 24);
  registry.add("DynamicQuantizeLinear", dynamic_quantize_linear, 11, 24);
  registry.add("ConvInteger", conv_integer, 10, 24);
  registry.add("QLinearConv", qlinear_conv, 10, 24);
  registry.add("MatMulInteger", matmul_integer, 10, 24);
  registry.add("QLinearMatMul", qlinear_matmul, 10, 24);
}

}  // namespace lithe
