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

/// Mean of the kernel over pairs of one sample.
double mean_within(const at::Tensor& x, bool unbiased) {
  const at::Tensor values = kernel(x, x);
  const double n = static_cast<double>(x.size(0));
  if (!unbiased) return values.mean().item<double>();
  return (values.sum() - values.trace()).item<double>() / (n * (n - 1));
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
  return mean_within(a, unbiased) + mean_within(b, unbiased) - 2 * kernel(a, b).mean().item<double>();
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
