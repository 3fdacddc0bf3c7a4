// A diffusion model whose sampler and distance are known in closed form: data are Gaussian.
#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#include "lithe/diffusion/noise_schedule.h"
#include "lithe/diffusion/search/evaluator.h"

namespace lithe::test {

/// Data N(0, diag(s^2)): the best prediction of the noise is sqrt(1 - a) x / (a s^2 + 1 - a), so that DDIM
/// multiplies each axis by a number, and the Frechet distance is the sum of (sd made - s)^2.
class GaussianFitness : public Fitness {
 public:
  explicit GaussianFitness(const NoiseSchedule& noise, std::vector<double> sd = {1.5, 0.5, 0.1})
      : noise_(noise), sd_(std::move(sd)) {}

  std::vector<double> made(const Candidate& candidate) const {
    std::vector<double> out;
    for (const double s : sd_) {
      double x = 1;
      for (std::size_t i = candidate.size(); i-- > 0;) {
        const double a = noise_.alpha_bar(candidate[i].t);
        const double next = i > 0 ? noise_.alpha_bar(candidate[i - 1].t) : 1;
        const double epsilon = std::sqrt(1 - a) * x / (a * s * s + 1 - a);
        x = std::sqrt(next) * (x - std::sqrt(1 - a) * epsilon) / std::sqrt(a) + std::sqrt(1 - next) * epsilon;
      }
      out.push_back(x);
    }
    return out;
  }

  double operator()(const Candidate& candidate, std::int64_t, std::uint64_t) override {
    const std::vector<double> sd = made(candidate);
    double sum = 0;
    for (std::size_t i = 0; i < sd.size(); ++i) sum += (sd[i] - sd_[i]) * (sd[i] - sd_[i]);
    return sum;
  }

 private:
  NoiseSchedule noise_;
  std::vector<double> sd_;
};

inline EvaluatorOptions gaussian_options(std::int64_t steps = 50, int threads = 1) {
  return {.make_fitness = [steps] { return std::make_unique<GaussianFitness>(NoiseSchedule::cosine(steps)); },
          .threads = threads};
}

}  // namespace lithe::test
