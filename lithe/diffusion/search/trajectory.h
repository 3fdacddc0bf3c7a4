// A schedule from the path of a sampler of many steps, by dynamic programming.
#pragma once

#include <cstdint>
#include <vector>

#include "lithe/diffusion/search/image_fitness.h"

namespace lithe {

struct TrajectoryOptions {
  std::int64_t nodes = 60;    // steps of the teacher, evenly spaced down from the last training step
  std::int64_t samples = 64;  // images whose paths are averaged
  double gamma = 1.15;        // above 1: late errors count more
  std::uint64_t stream = 0;
};

/// GITS (Chen et al., ICML 2024): the error of jumping by one Euler step from each point of the teacher's
/// path to each later one is a cost, and the schedule is the cheapest way in `count` jumps. Costs nodes x
/// samples calls of the network, once for all counts.
class Trajectory {
 public:
  explicit Trajectory(const ImageTask& task, const TrajectoryOptions& options = {});
  /// Ascending training steps, `count` of them.
  std::vector<std::int64_t> steps(std::size_t count) const;
  /// cost[i][j]: mean distance between the jump from node i and node j; the last node is the clean image.
  const std::vector<std::vector<double>>& cost() const { return cost_; }
  double calls() const { return calls_; }

 private:
  TrajectoryOptions options_;
  std::vector<std::int64_t> timesteps_;  // of the nodes, descending
  std::vector<std::vector<double>> cost_;
  double calls_ = 0;
};

}  // namespace lithe
