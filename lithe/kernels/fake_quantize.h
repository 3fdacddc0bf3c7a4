// Quantising and dequantising activations in one pass, with the gradients that training needs.
#pragma once

#include <cstdint>

#include "lithe/kernels/drop_mask.h"

namespace lithe {

/// A per-tensor quantiser: code(x) = clip(round(x / scale) + zero_point, low, high), rounding half to even,
/// and x^ = (code(x) - zero_point) * scale. scale > 0; the others are whole numbers below 2^24.
struct FakeQuantizeSpec {
  float scale = 1, zero_point = 0, low = 0, high = 255;
};

// In all of these, element i of the arrays has index `offset` + i in the mask, so that parts of a tensor can
// be computed apart with the choices of the whole; outputs may be the inputs themselves, but not overlap them
// otherwise. The vectorised results are those of the references, bit for bit, on every machine; only the sum
// of the scale's gradient depends on the width of its vectors, and not on anything else.

/// y = x^ where kept, else x. NaN stays NaN, infinities are clipped.
void fake_quantize(const float* x, float* y, std::int64_t count, const FakeQuantizeSpec& spec,
                   const DropMask& mask, std::int64_t offset = 0);
void fake_quantize_reference(const float* x, float* y, std::int64_t count, const FakeQuantizeSpec& spec,
                             const DropMask& mask, std::int64_t offset = 0);

/// The straight-through gradients (rounding has slope 1). Where kept: grad_x is grad_y if round(x / scale) +
/// zero_point lies in [low, high], else 0; the slope by the scale is code - zero_point, less x / scale inside
/// (LSQ: Esser et al., ICLR 2020, without its extra factor). Where dropped: grad_x = grad_y and slope 0.
/// Returns the gradient of the scale: the sum of grad_y * slope, added in double precision.
double fake_quantize_backward(const float* x, const float* grad_y, float* grad_x, std::int64_t count,
                              const FakeQuantizeSpec& spec, const DropMask& mask, std::int64_t offset = 0);
double fake_quantize_backward_reference(const float* x, const float* grad_y, float* grad_x,
                                        std::int64_t count, const FakeQuantizeSpec& spec,
                                        const DropMask& mask, std::int64_t offset = 0);

/// y = quantised where kept, else full (QDrop's mixture of a unit's inputs).
void mix(const float* quantised, const float* full, float* y, std::int64_t count, const DropMask& mask,
         std::int64_t offset = 0);
void mix_reference(const float* quantised, const float* full, float* y, std::int64_t count,
                   const DropMask& mask, std::int64_t offset = 0);

}  // namespace lithe
