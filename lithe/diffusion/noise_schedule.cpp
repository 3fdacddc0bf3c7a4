#include "lithe/diffusion/noise_schedule.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "lithe/base/error.h"
#include "lithe/base/hash.h"

namespace lithe {
namespace {

constexpr std::int64_t kMostSteps = 1000000;
constexpr double kHashGrid = 1e8;
constexpr double kPi = 3.14159265358979323846;

void check_count(std::int64_t steps) {
  if (steps < 1 || steps > kMostSteps)
    fail("a noise schedule of {} steps: it needs 1 to {} of them", steps, kMostSteps);
}

/// `steps` points from `first` to `last`.
std::vector<double> evenly_spaced(double first, double last, std::int64_t steps) {
  std::vector<double> points(static_cast<std::size_t>(steps), first);
  for (std::size_t i = 1; i < points.size(); ++i)
    points[i] = first + (last - first) * static_cast<double>(i) / static_cast<double>(steps - 1);
  return points;
}

}  // namespace

double lambda_of_log_alpha(double log_alpha) {
  return log_alpha - 0.5 * std::log(-std::expm1(2 * log_alpha));
}

NoiseSchedule::NoiseSchedule(std::vector<double> alpha_bars, std::string name)
    : name_(std::move(name)), alpha_bars_(std::move(alpha_bars)), log_alphas_(alpha_bars_.size()) {
  std::transform(alpha_bars_.begin(), alpha_bars_.end(), log_alphas_.begin(),
                 [](double alpha_bar) { return 0.5 * std::log(alpha_bar); });
}

NoiseSchedule NoiseSchedule::linear(std::int64_t steps) {
  check_count(steps);
  constexpr double kFirst = 1e-4, kLast = 0.02;
  const double scale = 1000 / static_cast<double>(steps);
  if (kLast * scale >= 1)
    fail("a linear noise schedule of {} steps has betas of 1 and more: give 21 steps or more", steps);
  return from_betas(evenly_spaced(kFirst * scale, kLast * scale, steps), "linear");
}

NoiseSchedule NoiseSchedule::cosine(std::int64_t steps) {
  check_count(steps);
  constexpr double kOffset = 0.008, kMostBeta = 0.999;
  const auto level = [&](std::int64_t i) {
    const double u = static_cast<double>(i) / static_cast<double>(steps);
    const double root = std::cos((u + kOffset) / (1 + kOffset) * kPi / 2);
    return root * root;
  };
  std::vector<double> betas(static_cast<std::size_t>(steps));
  for (std::int64_t i = 0; i < steps; ++i)
    betas[static_cast<std::size_t>(i)] = std::min(1 - level(i + 1) / level(i), kMostBeta);
  return from_betas(std::move(betas), "cosine");
}

NoiseSchedule NoiseSchedule::scaled_linear(std::int64_t steps) {
  check_count(steps);
  std::vector<double> betas = evenly_spaced(std::sqrt(0.00085), std::sqrt(0.012), steps);
  for (double& beta : betas) beta *= beta;
  return from_betas(std::move(betas), "scaled_linear");
}

NoiseSchedule NoiseSchedule::parse(std::string_view name, std::int64_t steps) {
  if (name == "linear") return linear(steps);
  if (name == "cosine") return cosine(steps);
  if (name == "scaled_linear") return scaled_linear(steps);
  fail("no noise schedule is called '{}'; there are linear, cosine and scaled_linear", name);
}

NoiseSchedule NoiseSchedule::from_betas(std::vector<double> betas, std::string name) {
  check_count(static_cast<std::int64_t>(betas.size()));
  double product = 1;
  for (std::size_t i = 0; i < betas.size(); ++i) {
    if (!(betas[i] > 0 && betas[i] < 1))
      fail("the noise schedule '{}' has beta {} at step {}; it must lie between 0 and 1", name, betas[i], i);
    betas[i] = product *= 1 - betas[i];
  }
  return from_alpha_bars(std::move(betas), std::move(name));
}

NoiseSchedule NoiseSchedule::from_alpha_bars(std::vector<double> alpha_bars, std::string name) {
  check_count(static_cast<std::int64_t>(alpha_bars.size()));
  double before = 1;
  for (std::size_t i = 0; i < alpha_bars.size(); ++i) {
    if (!(alpha_bars[i] > 0 && alpha_bars[i] < 1))
      fail("the noise schedule '{}' has alpha_bar {} at step {}; it must lie between 0 and 1", name,
           alpha_bars[i], i);
    if (alpha_bars[i] >= before)
      fail("the noise schedule '{}' has alpha_bar {} at step {} after {}; it must fall at every step", name,
           alpha_bars[i], i, before);
    before = alpha_bars[i];
  }
  return NoiseSchedule(std::move(alpha_bars), std::move(name));
}

void NoiseSchedule::check_step(std::int64_t step) const {
  if (step < 0 || step >= steps())
    fail("the noise schedule '{}' has no step {}; its steps are 0 to {}", name_, step, steps() - 1);
}

double NoiseSchedule::alpha_bar(std::int64_t step) const {
  check_step(step);
  return alpha_bars_[static_cast<std::size_t>(step)];
}

double NoiseSchedule::beta(std::int64_t step) const {
  return 1 - alpha_bar(step) / (step == 0 ? 1 : alpha_bar(step - 1));
}

double NoiseSchedule::lambda(std::int64_t step) const {
  check_step(step);
  return lambda_of_log_alpha(log_alphas_[static_cast<std::size_t>(step)]);
}

std::int64_t NoiseSchedule::closest_step(double lambda) const {
  if (std::isnan(lambda)) fail("no step of the noise schedule '{}' has the log-SNR NaN", name_);
  const auto less_noisy = [&](double log_alpha, double bound) {
    return lambda_of_log_alpha(log_alpha) > bound;
  };
  const auto found = std::lower_bound(log_alphas_.begin(), log_alphas_.end(), lambda, less_noisy);
  const std::int64_t after = found - log_alphas_.begin();
  if (after == 0) return 0;
  if (after == steps()) return steps() - 1;
  return this->lambda(after - 1) - lambda <= lambda - this->lambda(after) ? after - 1 : after;
}

std::vector<double> NoiseSchedule::respaced_betas(std::span<const std::int64_t> kept) const {
  std::vector<double> betas;
  double before = 1;
  for (const std::int64_t step : kept) {
    const double now = alpha_bar(step);
    if (now >= before) fail("the kept step {} does not come after the one before it; sort the steps", step);
    betas.push_back(1 - now / before);
    before = now;
  }
  return betas;
}

double NoiseSchedule::log_alpha_at(double time) const {
  constexpr double kRounding = 1e-9;
  const double step = step_of_time(time), last = static_cast<double>(steps() - 1);
  if (!(step >= -kRounding && step <= last + kRounding))
    fail("the time {} lies outside {} to 1, where the noise schedule '{}' is defined", time, time_of_step(0),
         name_);
  const double inside = std::clamp(step, 0.0, last);
  const auto below = static_cast<std::size_t>(inside);
  if (below + 1 == log_alphas_.size()) return log_alphas_.back();
  return std::lerp(log_alphas_[below], log_alphas_[below + 1], inside - std::floor(inside));
}

double NoiseSchedule::alpha_at(double time) const {
  return std::exp(log_alpha_at(time));
}

double NoiseSchedule::sigma_at(double time) const {
  return std::sqrt(-std::expm1(2 * log_alpha_at(time)));
}

double NoiseSchedule::lambda_at(double time) const {
  return lambda_of_log_alpha(log_alpha_at(time));
}

double NoiseSchedule::time_of_lambda(double lambda) const {
  if (std::isnan(lambda)) fail("no time of the noise schedule '{}' has the log-SNR NaN", name_);
  // alpha^2 = 1 / (1 + exp(-2 lambda)); the larger exponent is taken out so that nothing overflows.
  const double log_alpha = -0.5 * (std::max(0.0, -2 * lambda) + std::log1p(std::exp(-std::abs(2 * lambda))));
  if (log_alpha >= log_alphas_.front()) return time_of_step(0);
  if (log_alpha <= log_alphas_.back()) return 1;
  const auto found = std::lower_bound(log_alphas_.begin(), log_alphas_.end(), log_alpha, std::greater<>());
  const auto above = static_cast<std::size_t>(found - log_alphas_.begin());
  const double share = (log_alphas_[above - 1] - log_alpha) / (log_alphas_[above - 1] - log_alphas_[above]);
  return time_of_step(static_cast<double>(above - 1) + share);
}

std::uint64_t NoiseSchedule::hash() const {
  std::vector<std::int64_t> rounded(alpha_bars_.size());
  std::transform(alpha_bars_.begin(), alpha_bars_.end(), rounded.begin(),
                 [](double alpha_bar) { return std::llround(alpha_bar * kHashGrid); });
  return fnv1a(std::as_bytes(std::span(rounded)));
}

}  // namespace lithe
