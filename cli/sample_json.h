// Sampling plans as JSON and as a line.
#pragma once

#include <string>
#include <vector>

#include "cli/verb.h"
#include "lithe/diffusion/plan.h"
#include "lithe/diffusion/skippable_layers.h"

namespace lithe::cli {

/// {"timesteps": [descending], "skip_layers": [names of each]}
json plan_json(const SamplingPlan& plan, const std::vector<SkippableLayer>& layers);
/// "900 600 (3 layers skipped) 300"
std::string plan_line(const SamplingPlan& plan);

}  // namespace lithe::cli
