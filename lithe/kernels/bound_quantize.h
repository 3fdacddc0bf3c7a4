// Quantising between two learnt bounds in one pass, with the gradients that training needs.
#pragma once

#include <cstdint>

#include "lithe/graph/bound_function.h"

namespace lithe {

/// A per-tensor quantiser between bounds (Lee et al., "Network Quantization with Element-wise Gradient
/// Scaling", CVPR 2021, without the scaling of gradients): t = clip((x - low) / width, 0, 1), code =
/// round(levels t), half to even. The value is code / levels, in [0, 1], or (2 code - levels) / levels, in
/// [-1, 1], if it is `centred`. It is not brought back to the range of x.
struct BoundQuantizeSpec {
  float low = 0, width = 1;  // width > 0
  float levels = 3;          // steps between the bounds, a whole number below 2^16
  bool centred = false;
};

/// The spec of two bounds: a width below kSmallestWidth, or none, becomes that.
BoundQuantizeSpec bound_quantize_spec(float low, float high, std::int64_t levels, bool centred);

// Outputs may be the inputs themselves, but not overlap them otherwise. The vectorised results are those of
// the references, bit for bit, on every machine; only the sums of gradients depend on the width of its
// vectors, and not on anything else.

/// y = the values. NaN stays NaN.
void bound_quantize(const float* x, float* y, std::int64_t count, const BoundQuantizeSpec& spec);
void bound_quantize_reference(const float* x, float* y, std::int64_t count, const BoundQuantizeSpec& spec);

/// The codes, for levels up to 255; NaN gives 0.
void bound_codes(const float* x, std::uint8_t* codes, std::int64_t count, const BoundQuantizeSpec& spec);
void bound_codes_reference(const float* x, std::uint8_t* codes, std::int64_t count,
                           const BoundQuantizeSpec& spec);

/// Sums of the gradients of the bounds.
struct BoundGradients {
  double low = 0, high = 0;
};

/// The straight-through gradients (rounding has slope 1). Strictly between the bounds grad_x is grad_y times
/// the slope k / width with k = 1, or 2 if centred, and 0 elsewhere; with t as above the bounds get the sums
/// of grad_y k (t - 1) / width (low) and of -grad_y k t / width (high) over the same elements, added in
/// double precision.
BoundGradients bound_quantize_backward(const float* x, const float* grad_y, float* grad_x, std::int64_t count,
                                       const BoundQuantizeSpec& spec);
BoundGradients bound_quantize_backward_reference(const float* x, const float* grad_y, float* grad_x,
                                                 std::int64_t count, const BoundQuantizeSpec& spec);

}  // namespace lithe
