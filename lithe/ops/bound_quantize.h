// Quantising between two learnt bounds as a differentiable function of LibTorch tensors.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

namespace lithe {

/// The values of `bound_quantize` in lithe/kernels/bound_quantize.h, with gradients to x, `low` and `high`
/// (floating-point tensors of one element); not differentiable twice. Where high - low is below the smallest
/// width, `low` moves the whole range: it gets the gradient of both. The result has the strides of x if x is
/// dense in any order. float32 on the CPU takes one pass over memory each way, on LibTorch's threads; results
/// do not depend on their number. Everything else goes through bound_quantize_composed. Throws Error(Input)
/// if a bound has several elements.
at::Tensor bound_quantize(const at::Tensor& x, const at::Tensor& low, const at::Tensor& high,
                          std::int64_t levels, bool centred);

/// The same from plain LibTorch operators, for any floating type and device.
at::Tensor bound_quantize_composed(const at::Tensor& x, const at::Tensor& low, const at::Tensor& high,
                                   std::int64_t levels, bool centred);

}  // namespace lithe
