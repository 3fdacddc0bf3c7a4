// The kernel inception distance: unbiased at any number of samples.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

namespace lithe {

/// The squared maximum mean discrepancy of two samples [n, d] and [m, d] under the kernel (x.y / d + 1)^3
/// (Binkowski et al., ICLR 2018). Unbiased: pairs of a sample with itself are left out, so the value may be
/// negative; needs two samples a side. Biased: all pairs, never negative.
double kernel_distance(const at::Tensor& x, const at::Tensor& y, bool unbiased = true);

/// One side that many are compared with: its own part is taken once.
class KernelReference {
 public:
  explicit KernelReference(const at::Tensor& features);  // [n, d], two samples at least
  /// Unbiased.
  double distance(const at::Tensor& features) const;

 private:
  at::Tensor features_;
  double within_ = 0;
};

struct KernelDistance {
  double mean = 0, sd = 0;  // over subsets
};
/// Mean and standard deviation over `subsets` random subsets of `size` samples a side (at most what there
/// is), drawn by the seed: KID as it is reported.
KernelDistance kernel_distance_over_subsets(const at::Tensor& x, const at::Tensor& y,
                                            std::int64_t subsets = 10, std::int64_t size = 1000,
                                            std::uint64_t seed = 0);

}  // namespace lithe
