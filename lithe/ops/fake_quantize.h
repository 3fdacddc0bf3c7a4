// Fake quantisation of activations as a differentiable function of LibTorch tensors.
#pragma once

#include <ATen/ATen.h>

#include "lithe/kernels/drop_mask.h"

namespace lithe {

/// Smallest scale that a quantiser works with.
constexpr double kSmallestScale = 1.1920929e-7;

/// (clip(round(x / s) + zero_point, low, high) - zero_point) * s with s = max(|scale|, kSmallestScale), where
/// the mask keeps; x elsewhere. Straight-through gradients to x and to `scale`, a floating-point tensor of
/// one element; not differentiable twice. An element's index in the mask is its place in memory, or in
/// contiguous order if x is not dense. The result has the strides of x if x is dense in any order
/// (channels-last for example). float32 on the CPU takes one pass over memory each way, on LibTorch's
/// threads; results do not depend on their number. Everything else goes through fake_quantize_composed.
/// Throws Error(Input) for a scale of several elements.
at::Tensor fake_quantize(const at::Tensor& x, const at::Tensor& scale, double zero_point, double low,
                         double high, const DropMask& mask = {});

/// The same from plain LibTorch operators, for any floating type and device, with the same mask; infinite x
/// gives NaN here.
at::Tensor fake_quantize_composed(const at::Tensor& x, const at::Tensor& scale, double zero_point, double low,
                                  double high, const DropMask& mask = {});

/// True where kept: bool, with the shape, device and (if dense) strides of `x`.
at::Tensor drop_mask(const at::Tensor& x, const DropMask& mask);

}  // namespace lithe
