#include "lithe/quantize/reconstruct/reconstruction_loss.h"

#include <algorithm>
#include <vector>

namespace lithe {

double positions(const at::Tensor& output) {
  if (output.dim() < 2) return static_cast<double>(output.numel());
  const std::int64_t channels = output.dim() == 3 ? output.size(2) : output.size(1);
  return static_cast<double>(output.numel()) / static_cast<double>(std::max<std::int64_t>(1, channels));
}

ReconstructionLoss reconstruction_loss(const at::Tensor& output, const at::Tensor& wanted,
                                       const at::Tensor& importance,
                                       const ReconstructionLossOptions& options) {
  const double scale = options.factor, exponent = options.exponent;
  const at::Tensor difference = output - wanted;
  if (options.fisher == Fisher::Full && importance.defined()) {
    const at::Tensor magnitude = difference.abs();
    const at::Tensor product = (magnitude * importance).flatten(1).sum(1);
    std::vector<std::int64_t> shape(static_cast<std::size_t>(output.dim()), 1);
    shape[0] = output.size(0);
    const at::Tensor per_sample = product.view(shape);
    // <|d|, g> |d| g, averaged over elements and divided by 100 as published; its derivative by |d| is
    // 2 <|d|, g> g.
    const double divisor = 100 * static_cast<double>(output.numel()) / (scale * positions(output));
    return {product.square().sum().item<float>() / divisor,
            difference.sign() * per_sample * importance * (2 / divisor)};
  }
  if (exponent == 2) {
    at::Tensor weighted = importance.defined() ? difference * importance.square() : difference;
    const double value = (weighted * difference).sum().item<float>() * scale;
    return {value, weighted.mul(2 * scale)};
  }
  const at::Tensor magnitude = difference.abs();
  const double value = magnitude.pow(exponent).sum().item<float>() * scale;
  return {value, magnitude.pow(exponent - 1).mul_(difference.sign()).mul_(exponent * scale)};
}

}  // namespace lithe
