// Which calls of the network make an image.
#pragma once

#include <cstdint>
#include <vector>

namespace lithe {

/// One point of a sampling schedule.
struct PlanStep {
  /// Training index 0..T-1 as the network receives it; an integer for all samplers but DPM-Solver.
  double timestep = 0;
  /// Numbers of the layers (see skippable_layers.h) that are not executed here, ascending.
  std::vector<int> skipped;
  bool operator==(const PlanStep&) const = default;
};

/// The points in ascending order of time; sampling goes through them backwards. DPM-Solver needs one point
/// more than it makes calls: its first one (the smallest time) is where it ends, without a call.
using SamplingPlan = std::vector<PlanStep>;

}  // namespace lithe
