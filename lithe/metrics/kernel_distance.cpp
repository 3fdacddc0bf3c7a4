#include "lithe/metrics/kernel_distance.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "lithe/base/error.h"
#include "lithe/base/random.h"

namespace lithe {
namespace {

at::Tensor kernel(const at::Tensor& x, const at::Tensor& y) {
  return (at::matmul(x, y.t()) / static_cast<double>(x.size(1)) + 1).pow(3);
}

/// Mean of the kernel over all pairs, some rows at a time.
double mean_between(const at::Tensor& x, const at::Tensor& y) {
  constexpr std::int64_t kRows = 512;
  double sum = 0;
  for (std::int64_t row = 0; row < x.size(0); row += kRows)
    sum += kernel(x.narrow(0, row, std::min(kRows, x.size(0) - row)), y).sum().item<double>();
  return sum / static_cast<double>(x.size(0)) / static_cast<double>(y.size(0));
}

/// Mean of the kernel over pairs of one sample.
double mean_within(const at::Tensor& x, bool unbiased) {
  const double all = mean_between(x, x), n = static_cast<double>(x.size(0));
  if (!unbiased) return all;
  const double own = (x.square().sum(1) / static_cast<double>(x.size(1)) + 1).pow(3).sum().item<double>();
  return (all * n * n - own) / (n * (n - 1));
}

at::Tensor draw(const at::Tensor& rows, std::int64_t size, Rng& rng) {
  std::vector<std::int64_t> order = rng.permutation(rows.size(0));
  order.resize(static_cast<std::size_t>(std::min(size, rows.size(0))));
  return rows.index_select(0, at::tensor(order, at::kLong));
}

}  // namespace

double kernel_distance(const at::Tensor& x, const at::Tensor& y, bool unbiased) {
  if (x.dim() != 2 || y.dim() != 2 || x.size(1) != y.size(1))
    fail("features of equal length are needed, [n, d] and [m, d]");
  if (std::min(x.size(0), y.size(0)) < (unbiased ? 2 : 1)) fail("too few samples for a kernel distance");
  const at::NoGradGuard no_grad;
  const at::Tensor a = x.to(at::kCPU, at::kDouble), b = y.to(at::kCPU, at::kDouble);
  return mean_within(a, unbiased) + mean_within(b, unbiased) - 2 * mean_between(a, b);
}

KernelReference::KernelReference(const at::Tensor& features) : features_(features.to(at::kCPU, at::kDouble)) {
  if (features.dim() != 2 || features.size(0) < 2)
    fail("a kernel distance needs features [n, d] of two samples or more");
  within_ = mean_within(features_, true);
}

double KernelReference::distance(const at::Tensor& features) const {
  if (features.dim() != 2 || features.size(1) != features_.size(1) || features.size(0) < 2)
    fail("the reference has {} features, these are {} by {}", features_.size(1), features.size(0),
         features.size(1));
  const at::NoGradGuard no_grad;
  const at::Tensor own = features.to(at::kCPU, at::kDouble);
  return within_ + mean_within(own, true) - 2 * mean_between(own, features_);
}

KernelDistance kernel_distance_over_subsets(const at::Tensor& x, const at::Tensor& y, std::int64_t subsets,
                                            std::int64_t size, std::uint64_t seed) {
  if (subsets < 1 || size < 2) fail("a kernel distance needs a subset of two samples at least");
  std::vector<double> values;
  for (std::int64_t i = 0; i < subsets; ++i) {
    Rng rng(seed, static_cast<std::uint64_t>(i));
    const at::Tensor a = draw(x, size, rng), b = draw(y, size, rng);
    values.push_back(kernel_distance(a, b));
  }
  const at::Tensor all = at::tensor(values, at::kDouble);
  return {all.mean().item<double>(), subsets > 1 ? all.std().item<double>() : 0};
}

}  // namespace lithe
