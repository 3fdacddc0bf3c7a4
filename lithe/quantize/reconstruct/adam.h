// Adam on single tensors, for the few variables that no fused kernel moves.
#pragma once

#include <ATen/ATen.h>

#include <cmath>
#include <cstdint>

namespace lithe {

/// Kingma and Ba, "Adam", ICLR 2015, with the usual constants and the corrections of PyTorch.
class Adam {
 public:
  /// Moves `variable` in place; `step` counts from 1.
  void step(at::Tensor& variable, const at::Tensor& gradient, std::int64_t step, double rate) {
    constexpr double kBeta1 = 0.9, kBeta2 = 0.999, kEpsilon = 1e-8;
    if (!first_.defined()) {
      first_ = at::zeros_like(variable);
      second_ = at::zeros_like(variable);
    }
    first_.mul_(kBeta1).add_(gradient, 1 - kBeta1);
    second_.mul_(kBeta2).addcmul_(gradient, gradient, 1 - kBeta2);
    const double bias1 = 1 - std::pow(kBeta1, static_cast<double>(step));
    const double bias2 = std::sqrt(1 - std::pow(kBeta2, static_cast<double>(step)));
    variable.addcdiv_(first_, second_.sqrt().div_(bias2).add_(kEpsilon), -rate / bias1);
  }

 private:
  at::Tensor first_, second_;
};

}  // namespace lithe
