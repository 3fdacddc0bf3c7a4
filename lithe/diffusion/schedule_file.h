// Sampling schedules as files: what was found, for what, and how.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "lithe/diffusion/noise_schedule.h"
#include "lithe/diffusion/plan.h"
#include "lithe/diffusion/sampler_options.h"
#include "lithe/diffusion/skippable_layers.h"

namespace lithe {

/// A point of a schedule; layers go by name, so that they survive a change of their numbers.
struct SavedStep {
  double timestep = 0;
  std::vector<std::string> skipped;
  bool operator==(const SavedStep&) const = default;
};

/// A schedule belongs to a noise schedule, a sampler and its switches; used with others it is another one.
struct SavedSchedule {
  std::vector<SavedStep> steps;  // ascending; of DPM-Solver the first one is where it ends, without a call
  bool reuse = false;            // skipped layers add what they last gave, in place of nothing
  std::string noise_name = "cosine";
  std::vector<double> alpha_bars;  // of a noise schedule without a name that is known; else empty
  std::int64_t noise_steps = 1000;
  std::string noise_hash;  // of all alpha_bar
  SamplerOptions sampler;  // kind, prediction, eta, clip, rederive, guidance; the rest is not kept
  /// Where it comes from: model, metric, search. Written as it is.
  nlohmann::json provenance = nlohmann::json::object();
};

/// The text of the file; the form is documented in docs/schedule.md. Steps are listed from the noisy end.
std::string schedule_text(const SavedSchedule& schedule);
/// Throws Error(Input) naming `origin` and the member that is missing, out of range or contradicts another.
SavedSchedule schedule_from_text(std::string_view text, const std::string& origin);
SavedSchedule read_sampling_schedule(const std::filesystem::path& path);

/// The noise schedule that it was made for. Throws Error(Input) if its name and its hash do not agree.
NoiseSchedule noise_of(const SavedSchedule& schedule);
void set_noise(SavedSchedule& schedule, const NoiseSchedule& noise);

/// What differs between the use that the schedule was made for and this one; each is one line for the user.
/// The noise schedule is not among it: see `require_same_noise`.
std::vector<std::string> mismatches(const SavedSchedule& schedule, const SamplerOptions& use);
/// Throws Error(Input) that names both if the schedule was made for another noise schedule, and tells how to
/// transfer it.
void require_same_noise(const SavedSchedule& schedule, const NoiseSchedule& noise, const std::string& origin);

/// Layer names as numbers of this network. Throws Error(Input) naming a layer that the network does not have.
SamplingPlan to_plan(const SavedSchedule& schedule, const std::vector<SkippableLayer>& layers);
std::vector<SavedStep> to_saved(const SamplingPlan& plan, const std::vector<SkippableLayer>& layers);

/// The schedule for another noise schedule: each step goes where the signal-to-noise ratio is the same, as
/// nearly as a whole step can; steps that fall together move to the nearest free ones. Layers stay with their
/// step.
SavedSchedule transferred(const SavedSchedule& schedule, const NoiseSchedule& to);

/// The same schedule for the schedulers of Hugging Face's diffusers: "scheduler" is the configuration of
/// DPMSolverMultistepScheduler, "timesteps" what its set_timesteps(timesteps=...) takes, and "notes" what the
/// user must know; "sigmas" instead of the timesteps where the last point cannot be said by them. Throws
/// Error(Input) with the reason where that scheduler would silently do something else: clipped predictions,
/// noise between steps, PLMS, ancestral sampling, fractional steps, skipped layers.
nlohmann::json diffusers_json(const SavedSchedule& schedule);

}  // namespace lithe
