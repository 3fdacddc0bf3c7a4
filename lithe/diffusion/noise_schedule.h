// How much noise each training step of a diffusion model adds.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lithe {

/// Steps t = 0..T-1 of increasing noise, in double precision. alpha_bar(t) is the share of the signal's
/// variance that is left at t: x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) epsilon. lambda(t) is half the
/// logarithm of the signal-to-noise ratio, log(sqrt(alpha_bar) / sqrt(1 - alpha_bar)).
class NoiseSchedule {
 public:
  /// Ho et al., NeurIPS 2020: betas evenly spaced from 1e-4 to 0.02 for 1000 steps, both times 1000 / steps
  /// for other numbers of steps (21 or more).
  static NoiseSchedule linear(std::int64_t steps = 1000);
  /// Nichol and Dhariwal, ICML 2021: alpha_bar follows a squared cosine, with offset 0.008; betas are 0.999
  /// at most.
  static NoiseSchedule cosine(std::int64_t steps = 1000);
  /// Rombach et al., CVPR 2022: square roots of the betas evenly spaced between those of 0.00085 and 0.012,
  /// whatever the number of steps.
  static NoiseSchedule scaled_linear(std::int64_t steps = 1000);
  /// One of the three by its name "linear", "cosine" or "scaled_linear"; throws Error(Input) for other names.
  static NoiseSchedule parse(std::string_view name, std::int64_t steps = 1000);

  /// Throws Error(Input) naming the first step whose beta is not inside (0, 1).
  static NoiseSchedule from_betas(std::vector<double> betas, std::string name = "custom");
  /// Throws Error(Input) naming the first step whose alpha_bar is not inside (0, 1) or does not fall.
  static NoiseSchedule from_alpha_bars(std::vector<double> alpha_bars, std::string name = "custom");

  const std::string& name() const { return name_; }
  std::int64_t steps() const { return static_cast<std::int64_t>(alpha_bars_.size()); }
  const std::vector<double>& alpha_bars() const { return alpha_bars_; }

  // At a training step; throw Error(Input) outside 0..T-1.
  double alpha_bar(std::int64_t step) const;
  double beta(std::int64_t step) const;
  double lambda(std::int64_t step) const;

  /// The step whose lambda is nearest; the earlier one of two that are as near. Carries steps over from
  /// another noise schedule: closest_step(other.lambda(t)).
  std::int64_t closest_step(double lambda) const;

  /// Betas of the chain that keeps these steps only (ascending): 1 - alpha_bar(t_i) / alpha_bar(t_{i-1}),
  /// with alpha_bar 1 before the first (Nichol and Dhariwal, section 4).
  std::vector<double> respaced_betas(std::span<const std::int64_t> kept) const;

  // Continuous time of DPM-Solver (Lu et al., NeurIPS 2022, section 4.1 and appendix D): log alpha is
  // piecewise linear through the points t = (i + 1) / T, where alpha = sqrt(alpha_bar(i)). t lies in [1/T,
  // 1]; throw Error(Input) outside, up to rounding.
  double log_alpha_at(double time) const;
  double alpha_at(double time) const;
  double sigma_at(double time) const;
  double lambda_at(double time) const;
  /// The t of that lambda; the nearer end of [1/T, 1] for a lambda beyond it.
  double time_of_lambda(double lambda) const;

  /// t as the training index that the network gets, t T - 1 in 0..T-1, and back.
  double step_of_time(double time) const { return time * static_cast<double>(steps()) - 1; }
  double time_of_step(double step) const { return (step + 1) / static_cast<double>(steps()); }

  /// Tells noise schedules apart: equal for alpha_bars that agree to about 1e-8, so that it does not depend
  /// on the machine.
  std::uint64_t hash() const;

 private:
  NoiseSchedule(std::vector<double> alpha_bars, std::string name);
  void check_step(std::int64_t step) const;

  std::string name_;
  std::vector<double> alpha_bars_;
  std::vector<double> log_alphas_;  // half the logarithms of alpha_bars_
};

/// log(alpha / sigma) where sigma^2 = 1 - alpha^2, accurately at both ends.
double lambda_of_log_alpha(double log_alpha);

}  // namespace lithe
