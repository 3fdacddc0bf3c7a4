// Small things that several operator families need.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "lithe/base/error.h"
#include "lithe/ops/registry.h"

namespace lithe {

inline std::vector<std::int64_t> shape_of(const at::Tensor& tensor) {
  return tensor.sizes().vec();
}

/// The axis counted from 0; throws Error(Input) naming the node if it is not in [-rank, rank - 1].
std::int64_t checked_axis(const OpCall& call, std::int64_t axis, std::int64_t rank);
/// Several axes counted from 0, in the given order; throws likewise, and if one is named twice.
std::vector<std::int64_t> checked_axes(const OpCall& call, std::vector<std::int64_t> axes, std::int64_t rank);

/// Throws Error(Input) if a tensor of this shape has negative dimensions or takes more than 2^32 elements,
/// so that a hostile or mistaken shape is refused before memory is asked for.
void check_output_shape(const OpCall& call, const std::vector<std::int64_t>& shape);

inline bool is_floating(const at::Tensor& tensor) {
  return at::isFloatingType(tensor.scalar_type());
}
/// float16 and bfloat16, for which many CPU kernels of LibTorch are missing.
inline bool is_half(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kHalf || tensor.scalar_type() == at::kBFloat16;
}

/// Computes in float32 where the input is float16 or bfloat16 on the CPU, and converts the result back.
template <typename Function>
at::Tensor in_float(const at::Tensor& x, Function&& function) {
  if (!is_half(x) || !x.device().is_cpu()) return function(x);
  return function(x.to(at::kFloat)).to(x.scalar_type());
}

/// Both operands of a binary operator, made float32 where they are float16 or bfloat16 on the CPU.
template <typename Function>
at::Tensor in_float(const at::Tensor& a, const at::Tensor& b, Function&& function) {
  if (!is_half(a) || !a.device().is_cpu()) return function(a, b);
  return function(a.to(at::kFloat), is_half(b) ? b.to(at::kFloat) : b).to(a.scalar_type());
}

/// Types that LibTorch lacks are held in wider ones (see scalar_type_of). Reduces values to the range of
/// `type` by keeping its low bits, as arithmetic in the type itself would; other types are returned as they
/// are.
at::Tensor keep_low_bits(const at::Tensor& tensor, DType type);

/// Where a random operator draws from: a generator seeded by the attribute `seed` if the node has one (the
/// same numbers in every run), else the call's generator, else LibTorch's default. Always of the CPU, so that
/// a seed gives the same numbers on every device.
at::Generator generator_of(const OpCall& call);

/// The ONNX element type that an attribute such as `to` or `dtype` names.
at::ScalarType scalar_type_attr(const OpCall& call, std::string_view attribute, std::int64_t fallback);

}  // namespace lithe
