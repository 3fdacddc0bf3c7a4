// What a step of learning holds, and how many samples it may take at once.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lithe/graph/graph.h"
#include "lithe/graph/units.h"

namespace lithe {

/// Bytes that a step through neighbouring units holds: every value that they make, its quantised form and its
/// gradient, for each sample; and the state of their weights (soft weight, base, variable, two moments,
/// gradient), once.
class StepMemory {
 public:
  StepMemory() = default;
  /// `shaped` has shapes for `samples` samples.
  StepMemory(const Graph& shaped, const std::vector<Unit>& units, std::int64_t samples);

  std::int64_t bytes(int first, int last, std::int64_t samples) const;

 private:
  std::vector<std::int64_t> values_, weights_;  // of each unit; values for `samples_`
  std::int64_t samples_ = 1;
};

/// What `memory` leaves for a step; the rest is for cached values.
constexpr std::int64_t step_share(std::int64_t memory) {
  return memory / 2;
}

struct StepBatch {
  std::int64_t samples = 1;  // that run at a time; a step adds the gradients of several runs
  std::int64_t bytes = 0;    // of the largest group
};

/// The most samples, a divisor of `batch` and a multiple of `unit_batch` (what the model takes at the least),
/// with which a step of every group stays within `step_share(memory)`, or within `memory` if none does. 0
/// bytes of memory: all of `batch`. Throws Error(Input) that names the units and what they need if even
/// `unit_batch` samples pass `memory`.
StepBatch choose_step_batch(const StepMemory& step, const std::vector<Unit>& units,
                            const std::vector<std::vector<int>>& groups, std::int64_t batch,
                            std::int64_t unit_batch, std::int64_t memory);

}  // namespace lithe
