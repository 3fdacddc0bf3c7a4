// What a noise predictor's file says of how it was trained.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "lithe/data/preprocess.h"
#include "lithe/diffusion/noise_schedule.h"
#include "lithe/diffusion/sampler_options.h"
#include "lithe/graph/graph.h"

namespace lithe {

/// Stands in the model's metadata under "lithe.diffusion.noise_schedule", ".steps", ".prediction", ".low" and
/// ".high".
struct DiffusionRecord {
  std::string noise_schedule = "cosine";  // a name that NoiseSchedule::parse knows
  std::int64_t steps = 1000;
  Prediction prediction = Prediction::Epsilon;
  double low = -1, high = 1;  // what black and white pixels are to the network
  bool operator==(const DiffusionRecord&) const = default;

  NoiseSchedule noise() const { return NoiseSchedule::parse(noise_schedule, steps); }
};

/// Nothing where the model says nothing. Throws Error(Input) naming the key if what it says cannot be read.
std::optional<DiffusionRecord> diffusion_record(const Graph& model);
void keep_diffusion_record(Graph& model, const DiffusionRecord& record);

/// What the lowest and highest pixel become. Throws Error(Input) if channels differ in that.
std::pair<double, double> image_range(const Preprocess& preprocess);

}  // namespace lithe
