// The kernel inception distance: unbiased at any number of samples.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

namespace lithe {

/// The squared maximum mean discrepancy of two samples [n, d] and [m, d] under the kernel (x.y / d + 1)^3
/// (Binkowski et al., ICLR 2018). Unbiased: pairs of a sample with itself are left out, so the value may be
/// negative; needs two samples a side. Biased: all pairs, never negative.
double kernel_distance(const at::Tensor& x, const at::Tensor& y, bool unbiased = true);

struct KernelDistance {
  double mean = 0, sd = 0;  // over subsets
};
/// Mean and standard deviation over `subsets` random subsets of `size` samples a side (at most what there
/// is), drawn by the seed: KID as it is reported.
KernelDistance kernel_distance_over_subsets(const at::Tensor& x, const at::Tensor& y,
                                            std::int64_t subsets = 10, std::int64_t size = 1000,
                                            std::uint64_t seed = 0);

}  // namespace lithe
