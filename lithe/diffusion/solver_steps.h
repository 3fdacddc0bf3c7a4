// The formulas of the samplers, one step each. Coefficients are double; tensors keep their type.
#pragma once

#include <ATen/ATen.h>

#include <span>
#include <utility>
#include <vector>

#include "lithe/diffusion/sampler_options.h"

namespace lithe {

/// What the network says of a noisy image x with share `alpha_bar` of signal:
/// x = sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) epsilon.
struct Estimate {
  at::Tensor epsilon, x0;
};
Estimate estimate(const at::Tensor& x, const at::Tensor& output, double alpha_bar, Prediction prediction);
at::Tensor x0_of(const at::Tensor& x, const at::Tensor& epsilon, double alpha_bar);
at::Tensor epsilon_of(const at::Tensor& x, const at::Tensor& x0, double alpha_bar);

/// Song et al., equation 12 and 16, from alpha_bar `now` to `next` (1 at the last step): the standard
/// deviation sigma of the noise that is added, and the factor of epsilon.
struct DdimFactors {
  double sigma = 0, direction = 0;
};
DdimFactors ddim_factors(double now, double next, double eta);
/// sqrt(next) x0 + direction epsilon + sigma noise; `noise` may be undefined where sigma is 0.
at::Tensor ddim_step(const Estimate& estimate, double now, double next, double eta = 0,
                     const at::Tensor& noise = {});

/// Ho et al., equations 6 and 7, on a chain of alpha_bar `now` and `next` (1 at the last step): the mean is
/// clean x0 + noisy x.
struct DdpmPosterior {
  double beta = 0, clean = 0, noisy = 0, variance = 0;
};
DdpmPosterior ddpm_posterior(double now, double next);

/// Nichol and Dhariwal, equation 15: the variance from the network's v in -1..1, which chooses between the
/// logarithms of the posterior's variance and beta. `least` stands for the former where that is 0.
at::Tensor learned_variance(const at::Tensor& v, const DdpmPosterior& posterior, double least);

/// Adams-Bashforth weights for equal steps, newest first, of order 1..4.
std::vector<double> adams_bashforth(std::size_t order);
/// Sum of weights times epsilons, newest first.
at::Tensor weighted_sum(std::span<const double> weights, std::span<const at::Tensor> tensors);

/// A point of DPM-Solver.
struct DpmPoint {
  double alpha = 1, sigma = 0, lambda = 0;
};
/// Lu et al., "DPM-Solver++", algorithm 2, from a point to the next one: of the first order with x0 alone,
/// and of the second with the prediction before, made h_before of lambda earlier.
at::Tensor dpm_first_order(const at::Tensor& x, const at::Tensor& x0, const DpmPoint& from,
                           const DpmPoint& to);
at::Tensor dpm_second_order(const at::Tensor& x, const at::Tensor& x0, const at::Tensor& x0_before,
                            double h_before, const DpmPoint& from, const DpmPoint& to);

}  // namespace lithe
