// Schedules that people made by hand: which training steps to sample at.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lithe/diffusion/noise_schedule.h"
#include "lithe/diffusion/plan.h"
#include "lithe/diffusion/sampler_options.h"

namespace lithe {

/// K of the training steps 0..T-1.
struct Spacing {
  const char* name;
  const char* summary;
  /// Steps in ascending order, before duplicates are mended; throws Error(Input) if there is no such
  /// schedule.
  std::vector<std::int64_t> (*make)(const NoiseSchedule& noise, std::int64_t count);
};

/// K + 1 points of continuous time in [1/T, 1] for DPM-Solver.
struct ContinuousSpacing {
  const char* name;
  const char* summary;
  std::vector<double> (*make)(const NoiseSchedule& noise, std::int64_t count);  // ascending
};

const std::vector<Spacing>& spacings();
const std::vector<ContinuousSpacing>& continuous_spacings();

/// `count` distinct training steps in ascending order by the spacing of that name. Steps that fall together
/// after rounding are moved to the nearest free ones. Throws Error(Input) for unknown names (and lists the
/// known ones), for counts outside 1..T, and where the spacing has no schedule of so many steps.
std::vector<std::int64_t> make_timesteps(std::string_view name, const NoiseSchedule& noise,
                                         std::int64_t count);

/// Ascending points t in [1/T, 1] of `count` DPM-Solver steps, count + 1 of them; errors as above.
std::vector<double> make_times(std::string_view name, const NoiseSchedule& noise, std::int64_t count);

/// A plan of these steps, in which no layer is skipped.
SamplingPlan to_plan(const std::vector<std::int64_t>& timesteps);

/// A plan of `count` steps for a sampler by the name of a spacing. DPM-Solver takes the continuous spacings,
/// and the others too: with step 0 as the point where it ends (where a spacing holds step 0 itself, that of
/// one step more is taken).
SamplingPlan make_plan(std::string_view name, const NoiseSchedule& noise, std::int64_t count,
                       SamplerKind sampler = SamplerKind::Ddim);

/// The nearest ascending distinct steps inside 0..steps-1, for ascending steps, steps of them at most.
std::vector<std::int64_t> separate(std::vector<std::int64_t> timesteps, std::int64_t steps);

}  // namespace lithe
