// Batch normalisation with the statistics of the batch, also of one that is spread over processes.
#pragma once

#include <ATen/ATen.h>

#include "lithe/ops/collective.h"

namespace lithe {

struct BatchNormed {
  at::Tensor output;          // like the input
  at::Tensor mean, variance;  // [channels], without gradient; the variance is that of the population
};

/// (x - mean) / sqrt(variance + epsilon) * scale + bias by channel (axis 1) of x [n, channels, ...], with
/// mean and variance over all other axes (Ioffe and Szegedy, ICML 2015), differentiable in x, scale and bias.
/// With a collective they are those of the batches of all processes together, each as large as this one, and
/// so is the gradient with regard to x of the sum of the processes' losses; gradients of scale and bias are
/// this process's share. All of scale, bias: [channels], of the type of x.
BatchNormed normalize_batch(const at::Tensor& x, const at::Tensor& scale, const at::Tensor& bias,
                            double epsilon, Collective* collective = nullptr);

}  // namespace lithe
