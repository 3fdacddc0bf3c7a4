// The flags of `lithe train` for noise predictors of diffusion models.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "lithe/diffusion/model_record.h"
#include "lithe/graph/graph.h"

namespace lithe::cli {

struct NoisePredictorFlags {
  std::string noise_schedule = "cosine", prediction = "epsilon";
  std::int64_t steps = 1000;
  bool class_conditional = false;
};

void add_noise_predictor_flags(CLI::App& verb, NoisePredictorFlags& flags);

/// What `--noise-schedule` and its like say. Throws Error(Input) if they do not fit together.
DiffusionRecord diffusion_of(const NoisePredictorFlags& flags);

/// Throws Error(Input) if flags were given that do nothing for the network: those of noise predictors for
/// another one, those of other losses for a noise predictor, and what a trained one (`record` in its file)
/// already says.
void refuse_idle_denoiser_flags(const CLI::App& verb, bool denoises, bool recorded);

}  // namespace lithe::cli
