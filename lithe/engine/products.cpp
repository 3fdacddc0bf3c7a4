#include "lithe/engine/products.h"

#include <ATen/ExpandUtils.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

#include "lithe/engine/threads.h"

namespace lithe {
namespace {

// at::parallel_for runs on several threads only where its caller is compiled with OpenMP; without, BLAS
// splits.
#ifdef _OPENMP
constexpr bool kCanSplit = true;
#else
constexpr bool kCanSplit = false;
#endif
constexpr std::int64_t kWorthSplitting = 1 << 20;  // multiply-adds, about 20 microseconds

/// Runs work(begin, end) over parts of 0..count, on several threads if `cost` (in multiply-adds) is worth it.
template <typename Work>
void split(std::int64_t count, std::int64_t cost, Work&& work) {
  const std::int64_t threads = at::get_num_threads();
  if (!kCanSplit || threads <= 1 || count <= 1 || cost < kWorthSplitting || at::in_parallel_region()) {
    work(0, count);
    return;
  }
  const SerialBlas serial;
  at::parallel_for(0, count, (count + threads - 1) / threads, [&](std::int64_t begin, std::int64_t end) {
    const at::NoGradGuard no_grad;  // a setting of each thread
    work(begin, end);
  });
}

/// BLAS takes matrices with one axis dense.
bool blas_layout(const at::Tensor& matrix) {
  const std::int64_t rows = matrix.size(-2), columns = matrix.size(-1);
  return (matrix.stride(-1) == 1 && matrix.stride(-2) >= std::max<std::int64_t>(1, columns)) ||
         (matrix.stride(-2) == 1 && matrix.stride(-1) >= std::max<std::int64_t>(1, rows));
}

}  // namespace

bool can_multiply(const at::Tensor& tensor) {
  return tensor.defined() && tensor.dim() >= 2 && tensor.scalar_type() == at::kFloat &&
         tensor.device().is_cpu() && tensor.layout() == at::kStrided && tensor.numel() > 0;
}

at::Tensor multiply_rows(const at::Tensor& a, const at::Tensor& b, const at::Tensor& bias) {
  std::vector<std::int64_t> shape = a.sizes().vec();
  const std::int64_t inner = shape.back();
  shape.back() = b.size(1);
  const at::Tensor rows = a.reshape({-1, inner});
  at::Tensor result = at::empty({rows.size(0), b.size(1)}, a.options());
  split(rows.size(0), rows.size(0) * inner * b.size(1), [&](std::int64_t begin, std::int64_t end) {
    at::Tensor out = result.narrow(0, begin, end - begin);
    const at::Tensor part = rows.narrow(0, begin, end - begin);
    if (bias.defined())
      at::addmm_out(out, bias, part, b);
    else
      at::mm_out(out, part, b);
  });
  return result.view(shape);
}

at::Tensor multiply_stacks(const at::Tensor& a, const at::Tensor& b) {
  const std::int64_t m = a.size(-2), k = a.size(-1), n = b.size(-1);
  const at::IntArrayRef lead_a = a.sizes().slice(0, static_cast<std::size_t>(a.dim()) - 2),
                        lead_b = b.sizes().slice(0, static_cast<std::size_t>(b.dim()) - 2);
  const std::vector<std::int64_t> lead = at::infer_size(lead_a, lead_b);
  const auto spread = [&](const at::Tensor& x) {
    std::vector<std::int64_t> shape = lead;
    shape.push_back(x.size(-2));
    shape.push_back(x.size(-1));
    return blas_layout(x) ? x.expand(shape) : x.contiguous().expand(shape);
  };
  const at::Tensor left = spread(a), right = spread(b);
  std::int64_t count = 1;
  for (const std::int64_t dim : lead) count *= dim;
  std::vector<std::int64_t> shape = lead;
  shape.push_back(m);
  shape.push_back(n);
  at::Tensor result = at::empty({count, m, n}, a.options());
  // Matrix `i` of a stack, found by its strides: a stack of heads is rarely one block of memory.
  const auto matrix = [&](const at::Tensor& stack, std::int64_t i) {
    std::int64_t offset = stack.storage_offset();
    for (std::size_t axis = lead.size(); axis-- > 0;) {
      offset += i % lead[axis] * stack.stride(static_cast<std::int64_t>(axis));
      i /= lead[axis];
    }
    return stack.as_strided({stack.size(-2), stack.size(-1)}, {stack.stride(-2), stack.stride(-1)}, offset);
  };
  split(count, count * m * n * k, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      at::Tensor out = result.select(0, i);
      at::mm_out(out, matrix(left, i), matrix(right, i));
    }
  });
  return result.view(shape);
}

}  // namespace lithe
