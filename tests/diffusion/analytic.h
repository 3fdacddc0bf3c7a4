// A diffusion model that is known exactly: data from a normal distribution with independent channels.
#pragma once

#include <ATen/ATen.h>

#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

#include "lithe/diffusion/denoiser.h"
#include "lithe/diffusion/noise_schedule.h"
#include "lithe/diffusion/plan.h"
#include "lithe/diffusion/sampler.h"

namespace lithe::test {

/// Channel i of the data has mean 0 and standard deviation deviations[i]; the best prediction of the noise is
/// sqrt(1 - a) x / (a s^2 + 1 - a). Whole steps look up alpha_bar, fractions interpolate it.
class AnalyticDenoiser : public Denoiser {
 public:
  explicit AnalyticDenoiser(NoiseSchedule noise, std::vector<double> deviations = {1.5, 0.5, 0.1})
      : noise_(std::move(noise)), deviations_(std::move(deviations)) {}

  at::Tensor predict(const at::Tensor& x, double timestep, const at::Tensor&,
                     const std::vector<int>&) override {
    const double alpha = noise_.alpha_at(noise_.time_of_step(timestep)), a = alpha * alpha;
    std::vector<at::Tensor> channels;
    for (std::size_t i = 0; i < deviations_.size(); ++i)
      channels.push_back(x.narrow(1, static_cast<std::int64_t>(i), 1) *
                         (std::sqrt(1 - a) / (a * deviations_[i] * deviations_[i] + 1 - a)));
    ++calls;
    return at::cat(channels, 1);
  }
  const std::vector<double>& deviations() const { return deviations_; }

  int calls = 0;

 private:
  NoiseSchedule noise_;
  std::vector<double> deviations_;
};

/// What samples of the analytic model have for standard deviations: sampling is linear in x, so that a 1
/// comes out as the factor on noise of variance 1.
inline std::vector<double> generated_deviations(AnalyticDenoiser& model, const NoiseSchedule& noise,
                                                const SamplingPlan& plan, SamplerOptions options = {}) {
  options.clip = false;
  const auto channels = static_cast<std::int64_t>(model.deviations().size());
  const at::Tensor images =
      sample(model, noise, plan, options, {.start = at::ones({1, channels, 1, 1}, at::kDouble)});
  const double* factors = images.data_ptr<double>();
  return {factors, factors + channels};
}

/// Frechet distance of the samples and the data.
inline double analytic_distance(AnalyticDenoiser& model, const NoiseSchedule& noise, const SamplingPlan& plan,
                                const SamplerOptions& options = {}) {
  const std::vector<double> made = generated_deviations(model, noise, plan, options);
  double distance = 0;
  for (std::size_t i = 0; i < made.size(); ++i)
    distance += (made[i] - model.deviations()[i]) * (made[i] - model.deviations()[i]);
  return distance;
}

}  // namespace lithe::test
