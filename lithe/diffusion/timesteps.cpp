#include "lithe/diffusion/timesteps.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "lithe/base/error.h"
#include "lithe/base/math.h"

namespace lithe {
namespace {

using Steps = std::vector<std::int64_t>;

/// step(0), ..., step(count - 1).
Steps each(std::int64_t count, const std::function<std::int64_t(std::int64_t)>& step) {
  Steps steps(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) steps[static_cast<std::size_t>(i)] = step(i);
  return steps;
}

/// i / (count - 1), from 0 to 1; 0 if there is one only.
double share(std::int64_t i, std::int64_t count) {
  return count > 1 ? static_cast<double>(i) / static_cast<double>(count - 1) : 0;
}

/// To the nearest integer, halves to the even one, as Python and NumPy round.
std::int64_t round_to_even(double value) {
  return static_cast<std::int64_t>(std::nearbyint(value));
}

/// Dhariwal and Nichol, code of "ddimK": 0, i, 2 i, ... with the smallest stride i that gives K of them.
Steps leading(const NoiseSchedule& noise, std::int64_t count) {
  const std::int64_t steps = noise.steps();
  for (std::int64_t stride = 1; stride <= steps; ++stride)
    if (ceil_div(steps, stride) == count) return each(count, [&](std::int64_t i) { return i * stride; });
  fail("no stride takes {} of {} steps, as 'leading' needs it; take another number or another schedule",
       count, steps);
}

Steps diffusers_leading(const NoiseSchedule& noise, std::int64_t count) {
  return each(count, [&](std::int64_t i) { return i * (noise.steps() / count); });
}

Steps leading_without_0(const NoiseSchedule& noise, std::int64_t count) {
  return each(count, [&](std::int64_t i) { return (i + 1) * noise.steps() / (count + 1); });
}

Steps trailing(const NoiseSchedule& noise, std::int64_t count) {
  return each(count, [&](std::int64_t i) {
    return round_to_even(static_cast<double>((i + 1) * noise.steps()) / static_cast<double>(count)) - 1;
  });
}

Steps linspace(const NoiseSchedule& noise, std::int64_t count) {
  return each(count, [&](std::int64_t i) {
    return round_to_even(share(i, count) * static_cast<double>(noise.steps() - 1));
  });
}

/// Dhariwal and Nichol, code of one section of K steps: the stride is summed up, then rounded.
Steps section(const NoiseSchedule& noise, std::int64_t count) {
  const double stride =
      count > 1 ? static_cast<double>(noise.steps() - 1) / static_cast<double>(count - 1) : 1;
  double position = -stride;
  return each(count, [&](std::int64_t) { return round_to_even(position += stride); });
}

Steps centred(const NoiseSchedule& noise, std::int64_t count) {
  return each(count, [&](std::int64_t i) { return (2 * i + 1) * noise.steps() / (2 * count); });
}

/// floor(0.8 T (i / (K - 1))^2), in integers.
Steps quadratic(const NoiseSchedule& noise, std::int64_t count) {
  const std::int64_t gaps = std::max<std::int64_t>(1, count - 1);
  return each(count, [&](std::int64_t i) {
    return static_cast<std::int64_t>(static_cast<__int128>(8 * noise.steps()) * i * i / (10 * gaps * gaps));
  });
}

Steps log_snr_from(const NoiseSchedule& noise, std::int64_t count, std::int64_t start) {
  return each(count, [&](std::int64_t i) {
    return noise.closest_step(std::lerp(noise.lambda(0), noise.lambda(start), share(i, count)));
  });
}

Steps log_snr(const NoiseSchedule& noise, std::int64_t count) {
  return log_snr_from(noise, count, noise.steps() - 1);
}

Steps log_snr_980(const NoiseSchedule& noise, std::int64_t count) {
  return log_snr_from(noise, count, std::min(noise.steps() * 98 / 100, noise.steps() - 1));
}

/// Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models", NeurIPS 2022, equation
/// 5, in the noise-to-signal ratio.
Steps edm(const NoiseSchedule& noise, std::int64_t count) {
  constexpr double kRho = 7, kLeast = 0.002, kMost = 80;
  const double least = std::max(kLeast, std::exp(-noise.lambda(0)));
  const double most = std::max(least, std::min(kMost, std::exp(-noise.lambda(noise.steps() - 1))));
  return each(count, [&](std::int64_t i) {
    const double root = std::lerp(std::pow(least, 1 / kRho), std::pow(most, 1 / kRho), share(i, count));
    return noise.closest_step(-kRho * std::log(root));
  });
}

/// Rombach et al., with the stride rounded: 1, c + 1, 2 c + 1, ... with c = T / K; the first K of them.
Steps plms(const NoiseSchedule& noise, std::int64_t count) {
  const std::int64_t stride = round_to_even(static_cast<double>(noise.steps()) / static_cast<double>(count));
  if ((count - 1) * stride >= noise.steps())
    fail("no stride takes {} of {} steps, as 'plms' needs it; take another number or another schedule", count,
         noise.steps());
  return each(count, [&](std::int64_t i) { return i * stride + 1; });
}

/// ends[0] + (ends[1] - ends[0]) i / count for i = 0..count, mapped to times.
std::vector<double> between(double first, double last, std::int64_t count,
                            const std::function<double(double)>& time) {
  std::vector<double> times(static_cast<std::size_t>(count + 1));
  for (std::int64_t i = 0; i <= count; ++i)
    times[static_cast<std::size_t>(i)] = time(std::lerp(first, last, share(i, count + 1)));
  return times;
}

std::vector<double> time_uniform(const NoiseSchedule& noise, std::int64_t count) {
  return between(noise.time_of_step(0), 1, count, [](double time) { return time; });
}

std::vector<double> time_quadratic(const NoiseSchedule& noise, std::int64_t count) {
  return between(std::sqrt(noise.time_of_step(0)), 1, count, [](double root) { return root * root; });
}

std::vector<double> time_log_snr(const NoiseSchedule& noise, std::int64_t count) {
  return between(noise.lambda_at(noise.time_of_step(0)), noise.lambda_at(1), count,
                 [&](double lambda) { return noise.time_of_lambda(lambda); });
}

template <typename Entry>
const Entry* entry_of(const std::vector<Entry>& entries, std::string_view name) {
  const auto found =
      std::find_if(entries.begin(), entries.end(), [&](const Entry& one) { return one.name == name; });
  return found == entries.end() ? nullptr : &*found;
}

template <typename Entry>
std::string names_of(const std::vector<Entry>& entries) {
  std::string names;
  for (const Entry& one : entries) names += (names.empty() ? "" : ", ") + std::string(one.name);
  return names;
}

void check_count(const NoiseSchedule& noise, std::int64_t count) {
  if (count < 1 || count > noise.steps())
    fail("a schedule of {} steps: the noise schedule '{}' has {}; take 1 to {}", count, noise.name(),
         noise.steps(), noise.steps());
}

/// DPM-Solver's points by a spacing of training steps, ascending.
Steps with_end(std::string_view name, const NoiseSchedule& noise, std::int64_t count) {
  Steps steps = make_timesteps(name, noise, count);
  if (steps.front() == 0) return make_timesteps(name, noise, count + 1);
  steps.insert(steps.begin(), 0);
  return steps;
}

}  // namespace

const std::vector<Spacing>& spacings() {
  static const std::vector<Spacing> entries{
      {"leading", "0, i, 2i, ... by the smallest stride i that gives K steps (\"ddimK\")", leading},
      {"diffusers_leading", "0, c, 2c, ... with c = floor(T / K)", diffusers_leading},
      {"leading_without_0", "floor(i T / (K + 1)) for i = 1..K: evenly spaced, without step 0",
       leading_without_0},
      {"trailing", "evenly spaced down from T - 1", trailing},
      {"linspace", "evenly spaced from 0 to T - 1", linspace},
      {"section", "the same, with the stride summed up before rounding", section},
      {"centred", "floor((i + 1/2) T / K): the middles of K equal parts", centred},
      {"quadratic", "squares of evenly spaced numbers, up to 0.8 T", quadratic},
      {"log_snr", "evenly spaced in the logarithm of the signal-to-noise ratio", log_snr},
      {"log_snr_980", "the same, from 0.98 T instead of T - 1", log_snr_980},
      {"edm", "evenly spaced in the seventh root of noise over signal, between 0.002 and 80 at most", edm},
      {"plms", "1, c + 1, 2c + 1, ... with c = T / K rounded", plms}};
  return entries;
}

const std::vector<ContinuousSpacing>& continuous_spacings() {
  static const std::vector<ContinuousSpacing> entries{
      {"time_uniform", "evenly spaced in time from 1/T to 1", time_uniform},
      {"time_quadratic", "squares of evenly spaced numbers", time_quadratic},
      {"log_snr", "evenly spaced in the logarithm of the signal-to-noise ratio", time_log_snr}};
  return entries;
}

Steps separate(Steps timesteps, std::int64_t steps) {
  const auto count = static_cast<std::int64_t>(timesteps.size());
  if (count > steps) fail("{} steps cannot be distinct among {}", count, steps);
  for (std::int64_t i = 0, next = 0; i < count; ++i) {
    std::int64_t& step = timesteps[static_cast<std::size_t>(i)];
    step = std::max(step, next);
    next = step + 1;
  }
  for (std::int64_t i = count - 1, last = steps - 1; i >= 0; --i) {
    std::int64_t& step = timesteps[static_cast<std::size_t>(i)];
    step = std::min(step, last);
    last = step - 1;
  }
  return timesteps;
}

Steps make_timesteps(std::string_view name, const NoiseSchedule& noise, std::int64_t count) {
  const Spacing* spacing = entry_of(spacings(), name);
  if (!spacing) fail("no spacing of steps is called '{}'; there are {}", name, names_of(spacings()));
  check_count(noise, count);
  return separate(spacing->make(noise, count), noise.steps());
}

std::vector<double> make_times(std::string_view name, const NoiseSchedule& noise, std::int64_t count) {
  const ContinuousSpacing* spacing = entry_of(continuous_spacings(), name);
  if (!spacing)
    fail("no spacing of continuous time is called '{}'; there are {}", name, names_of(continuous_spacings()));
  check_count(noise, count);
  if (noise.steps() < 2) fail("DPM-Solver needs a noise schedule of two steps or more; this one has one");
  return spacing->make(noise, count);
}

SamplingPlan to_plan(const Steps& timesteps) {
  SamplingPlan plan(timesteps.size());
  std::transform(timesteps.begin(), timesteps.end(), plan.begin(),
                 [](std::int64_t step) { return PlanStep{.timestep = static_cast<double>(step)}; });
  return plan;
}

SamplingPlan make_plan(std::string_view name, const NoiseSchedule& noise, std::int64_t count,
                       SamplerKind sampler) {
  if (sampler != SamplerKind::DpmSolver) {
    if (entry_of(continuous_spacings(), name) && !entry_of(spacings(), name))
      fail("the spacing '{}' is of continuous time, for dpmpp2m only; for {} there are {}", name,
           sampler_name(sampler), names_of(spacings()));
    return to_plan(make_timesteps(name, noise, count));
  }
  if (!entry_of(continuous_spacings(), name)) {
    if (!entry_of(spacings(), name))
      fail("no spacing is called '{}'; there are {}, {}", name, names_of(continuous_spacings()),
           names_of(spacings()));
    return to_plan(with_end(name, noise, count));
  }
  SamplingPlan plan;
  for (const double time : make_times(name, noise, count)) {
    const double step = noise.step_of_time(time);
    plan.push_back({.timestep = std::clamp(step, 0.0, static_cast<double>(noise.steps() - 1))});
  }
  return plan;
}

}  // namespace lithe
