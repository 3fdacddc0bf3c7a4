// Bicubic resizing as super-resolution papers do it.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

namespace lithe {

/// Resizes planes [..., h, w] of floats to height x width by Keys' cubic kernel (a = -0.5; Keys, IEEE Trans.
/// ASSP 1981), stretched by the scale where the picture shrinks (antialiasing), with pixel centres at halves
/// and the outermost pixels repeated beyond the border: what MATLAB's imresize does. One axis after the
/// other, the one that shrinks more first, in double precision, without rounding or clipping; returns
/// float64.
at::Tensor resize_bicubic(const at::Tensor& planes, std::int64_t height, std::int64_t width);

/// A picture [3 or 1, h, w] of 0..255 as MATLAB resizes one of 8 bits: clipped and rounded after each axis.
/// Gives the low-resolution pictures of the usual benchmarks bit for bit. Returns float32.
at::Tensor resize_picture(const at::Tensor& picture, std::int64_t height, std::int64_t width);

}  // namespace lithe
