// What of a quantised network is learnt, and in which slice.
#pragma once

#include <cstddef>
#include <set>
#include <string>
#include <vector>

#include "lithe/graph/graph.h"
#include "lithe/quantize/export_qdq.h"
#include "lithe/quantize/reconstruct/reconstruct.h"
#include "lithe/quantize/reconstruct/simulated_graph.h"

namespace lithe {

/// Hands out weights and activation scales to slices in their order: each is learnt once, where it is first
/// read. Weights of 8 bits stay unless they are asked for. Scales shared with a graph input, whose values are
/// cached before any slice, stay as they are.
class Learnables {
 public:
  Learnables(const Graph& graph, const QdqPlan& plan, const ReconstructOptions& options);

  /// Throws Error(Input) if nothing is left to learn; tells in `notes` if only scales are.
  void require_any(std::vector<std::string>& notes) const;

  /// The weights of the slice, by index in the plan, that no earlier call returned or passed over.
  std::vector<std::size_t> take_weights(const Slice& slice);
  /// Likewise its activations, those that have one scale together.
  std::vector<std::vector<std::size_t>> take_scales(const Slice& slice);

 private:
  bool learns_rounding(const QuantizedWeight& weight) const;

  const QdqPlan& plan_;
  const ReconstructOptions& options_;
  std::set<std::size_t> taken_weights_, taken_scales_;
};

/// Codes and scales of some weights and activations, to go back to.
class PlanSnapshot {
 public:
  PlanSnapshot(const QdqPlan& plan, const std::vector<std::size_t>& weights,
               const std::vector<std::vector<std::size_t>>& scales);
  void restore(QdqPlan& plan) const;

 private:
  std::vector<std::pair<std::size_t, QuantizedWeight>> weights_;
  std::vector<std::pair<std::size_t, at::Tensor>> scales_;
};

}  // namespace lithe
