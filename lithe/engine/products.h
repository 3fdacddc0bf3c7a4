// Products of float32 matrices on the CPU without gradients, split over LibTorch's threads: many small
// products run beside one another, which is faster than splitting each one.
#pragma once

#include <ATen/ATen.h>

namespace lithe {

/// float32 on the CPU, at least a matrix.
bool can_multiply(const at::Tensor& tensor);

/// a [..., k] times b [k, n], plus a bias [n] if it is defined.
at::Tensor multiply_rows(const at::Tensor& a, const at::Tensor& b, const at::Tensor& bias);

/// a [..., m, k] times b [..., k, n] with leading axes that broadcast.
at::Tensor multiply_stacks(const at::Tensor& a, const at::Tensor& b);

}  // namespace lithe
