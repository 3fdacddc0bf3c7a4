// At which times latents are denoised, and at which of them frames are smoothed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "lithe/diffusion/noise_schedule.h"
#include "lithe/diffusion/sampler_options.h"

namespace lithe {

/// What a model was trained with, from its scheduler/scheduler_config.json.
struct ModelSchedule {
  NoiseSchedule noise = NoiseSchedule::scaled_linear();
  Prediction prediction = Prediction::Epsilon;
  bool end_clean = false;         // `set_alpha_to_one`, for TimeSpacing::Leading
  std::int64_t steps_offset = 1;  // likewise
};

/// Reads num_train_timesteps, beta_start, beta_end, beta_schedule (linear, scaled_linear, squaredcos_cap_v2),
/// trained_betas, prediction_type (epsilon, v_prediction, sample), set_alpha_to_one and steps_offset; those
/// that are missing are Stable Diffusion 1's. Throws Error(Input) naming the file and the key that is of no
/// use, `rescale_betas_zero_snr` among them.
ModelSchedule read_scheduler_config(const std::filesystem::path& file);

enum class TimeSpacing {
  Paper,    // T-1, T-1-q, ... with q = T / K rounded down (Duan et al., "DiffSynth", ECML PKDD 2024)
  Studio,   // K steps evenly spaced from T-1 to 0, both ends included, as DiffSynth-Studio has them
  Leading,  // q (K-1), ..., q, 0 plus an offset: the default of the diffusers library for these models
};

/// "paper", "studio", "leading"; throws Error(Input) that lists them.
TimeSpacing parse_time_spacing(std::string_view name);
std::string time_spacing_name(TimeSpacing spacing);

struct LatentStep {
  double timestep = 0;                       // as the network gets it
  double alpha_bar = 1, next_alpha_bar = 1;  // share of the signal's variance before and after the step
};

/// Steps of falling time. A `strength` below 1 starts from the input pictures: Paper and Leading then take
/// the last int(strength K) of the K steps, Studio K steps from round(strength T) - 1 down. Throws
/// Error(Input) for K outside 1..T, a strength outside (0, 1], and where both leave no step or steps at the
/// same time.
std::vector<LatentStep> make_latent_steps(const ModelSchedule& model, std::int64_t count, double strength = 1,
                                          TimeSpacing spacing = TimeSpacing::Paper);

/// Every `interval`-th of `count` steps beginning with the first, but none of the last `ignored_last`.
/// Ascending, from 0. Throws Error(Input) for an interval below 1 or a negative number.
std::vector<std::int64_t> regular_smoothing(std::int64_t count, std::int64_t interval,
                                            std::int64_t ignored_last);

}  // namespace lithe
