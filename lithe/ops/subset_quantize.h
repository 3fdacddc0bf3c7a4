// Rounding to points of a table as a differentiable function of LibTorch tensors.
#pragma once

#include <ATen/ATen.h>

namespace lithe {

/// How the channels of x [n, c, h, w] are normalised before they are rounded to points.
struct SubsetNormalisation {
  bool dynamic = false;    // by the mean and the largest deviation of each channel of each sample
  bool centre = false;     // of dynamic: subtract the mean
  at::Tensor mean, scale;  // else by these [c], float32
  bool restore = true;     // undo it afterwards
};

/// The nearest of `points` [c, k] (int16, ascending, units of 1/1024) to the normalised x; see
/// kernels/subset_lookup.h for what is exact. Any float type and device go through float32 on the CPU. The
/// gradient passes as if nothing had been rounded. Contiguous. Throws Error(Input) naming `what` if shapes do
/// not fit.
at::Tensor subset_quantize(const at::Tensor& x, const at::Tensor& points,
                           const SubsetNormalisation& normalisation, const std::string& what);

}  // namespace lithe
