#include "cli/sample_json.h"

#include <cmath>

namespace lithe::cli {

json plan_json(const SamplingPlan& plan, const std::vector<SkippableLayer>& layers) {
  json timesteps = json::array(), skipped = json::array();
  for (auto step = plan.rbegin(); step != plan.rend(); ++step) {
    if (step->timestep == std::floor(step->timestep))
      timesteps.push_back(static_cast<std::int64_t>(step->timestep));
    else
      timesteps.push_back(step->timestep);
    json names = json::array();
    for (const int layer : step->skipped) names.push_back(layers.at(static_cast<std::size_t>(layer)).name);
    skipped.push_back(names);
  }
  return {{"timesteps", timesteps}, {"skip_layers", skipped}};
}

std::string plan_line(const SamplingPlan& plan) {
  std::string out;
  for (auto step = plan.rbegin(); step != plan.rend(); ++step) {
    out += fmt::format("{}{:.6g}", out.empty() ? "steps " : ", ", step->timestep);
    if (!step->skipped.empty()) out += fmt::format(" (without {} layers)", step->skipped.size());
  }
  return out;
}

}  // namespace lithe::cli
