#include "lithe/diffusion/solver_steps.h"

#include <algorithm>
#include <cmath>

#include "lithe/base/error.h"

namespace lithe {

at::Tensor x0_of(const at::Tensor& x, const at::Tensor& epsilon, double alpha_bar) {
  return (x - std::sqrt(1 - alpha_bar) * epsilon) / std::sqrt(alpha_bar);
}

at::Tensor epsilon_of(const at::Tensor& x, const at::Tensor& x0, double alpha_bar) {
  return (x - std::sqrt(alpha_bar) * x0) / std::sqrt(1 - alpha_bar);
}

Estimate estimate(const at::Tensor& x, const at::Tensor& output, double alpha_bar, Prediction prediction) {
  const double signal = std::sqrt(alpha_bar), noise = std::sqrt(1 - alpha_bar);
  switch (prediction) {
    case Prediction::V:
      return {signal * output + noise * x, signal * x - noise * output};
    case Prediction::X0:
      return {epsilon_of(x, output, alpha_bar), output};
    case Prediction::Epsilon:
      break;
  }
  return {output, x0_of(x, output, alpha_bar)};
}

DdimFactors ddim_factors(double now, double next, double eta) {
  const double sigma = eta * std::sqrt((1 - next) / (1 - now)) * std::sqrt(1 - now / next);
  return {sigma, std::sqrt(std::max(0.0, 1 - next - sigma * sigma))};
}

at::Tensor ddim_step(const Estimate& estimate, double now, double next, double eta, const at::Tensor& noise) {
  const DdimFactors factors = ddim_factors(now, next, eta);
  const at::Tensor mean = std::sqrt(next) * estimate.x0 + factors.direction * estimate.epsilon;
  return factors.sigma > 0 ? mean + factors.sigma * noise : mean;
}

DdpmPosterior ddpm_posterior(double now, double next) {
  const double beta = 1 - now / next;
  return {.beta = beta,
          .clean = beta * std::sqrt(next) / (1 - now),
          .noisy = (1 - next) * std::sqrt(1 - beta) / (1 - now),
          .variance = beta * (1 - next) / (1 - now)};
}

at::Tensor learned_variance(const at::Tensor& v, const DdpmPosterior& posterior, double least) {
  const double low = std::log(posterior.variance > 0 ? posterior.variance : least);
  const double high = std::log(posterior.beta);
  return at::exp((v + 1) * ((high - low) / 2) + low);
}

std::vector<double> adams_bashforth(std::size_t order) {
  switch (order) {
    case 1:
      return {1};
    case 2:
      return {3.0 / 2, -1.0 / 2};
    case 3:
      return {23.0 / 12, -16.0 / 12, 5.0 / 12};
    case 4:
      return {55.0 / 24, -59.0 / 24, 37.0 / 24, -9.0 / 24};
    default:
      fail("there are no Adams-Bashforth weights of order {}; take 1 to 4", order);
  }
}

at::Tensor weighted_sum(std::span<const double> weights, std::span<const at::Tensor> tensors) {
  at::Tensor sum = weights[0] * tensors[0];
  for (std::size_t i = 1; i < weights.size(); ++i) sum = sum + weights[i] * tensors[i];
  return sum;
}

at::Tensor dpm_first_order(const at::Tensor& x, const at::Tensor& x0, const DpmPoint& from,
                           const DpmPoint& to) {
  return to.sigma / from.sigma * x - to.alpha * std::expm1(from.lambda - to.lambda) * x0;
}

at::Tensor dpm_second_order(const at::Tensor& x, const at::Tensor& x0, const at::Tensor& x0_before,
                            double h_before, const DpmPoint& from, const DpmPoint& to) {
  const double ratio = h_before / (to.lambda - from.lambda);
  return dpm_first_order(x, x0 + (x0 - x0_before) / (2 * ratio), from, to);
}

}  // namespace lithe
