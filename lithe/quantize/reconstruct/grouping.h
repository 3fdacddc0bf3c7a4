// Which neighbouring units are reconstructed together.
//
// Ma et al., "Solving Oscillation Problem in Post-Training Quantization Through a Theoretical Perspective",
// CVPR 2023 (MRECG): where a unit of small capacity stands in front of a larger one, the loss of the first
// peaks and that of the second drops; learnt as one, the second makes good what the first cannot.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lithe/graph/units.h"

namespace lithe {

/// How the edges (i, i + 1) to merge are chosen from the capacities c_i of the units.
enum class Grouping {
  None,
  TopK,    // the largest (c_i - c_{i+1})^2: the formula of the paper
  Drop,    // those with c_{i+1} < c_i, the largest squares first: what the published groupings do
  Stage,   // in front of every unit that changes the resolution or the number of channels
  Preset,  // as listed
};

/// How much lower a measured loss must be than the one before it to count as a fall, as a share of that:
/// losses of few steps wobble.
inline constexpr double kLeastFall = 0.05;

struct GroupingOptions {
  Grouping selector = Grouping::Drop;
  int merges = -1;  // k, edges to merge; -1: all that the selector finds (TopK: as many as Drop would find)
  /// Lambda of TopK: the number n of edges costs lambda (n - k)^2; infinite: exactly k.
  double penalty = std::numeric_limits<double>::infinity();
  double margin = kLeastFall;  // Drop: how much lower c_{i+1} must be, as a share of c_i
  int max_group = 3;           // units in a group; Preset may exceed it
  /// Bytes that the reconstruction of units first..last as one needs, and the most that there may be.
  std::function<std::int64_t(int first, int last)> bytes;
  std::int64_t max_bytes = 0;            // 0: any
  bool extend_backwards = false;         // Drop: then also take in the unit in front of each group
  bool merge_last = false;               // TopK, Drop: the last unit, the classifier's head, may join a group
  std::vector<std::vector<int>> preset;  // units that are merged; others stay alone
};

/// Consecutive indices of units; every unit is in exactly one group, in order. `capacity` holds one finite
/// number a unit (Stage with all edges, Preset and None do without: empty). Edges that would make a group too
/// large or too costly are left out, the least important first, with a note each.
/// Throws Error(Input) if capacities are missing, NaN or infinite, or if the preset does not fit.
std::vector<std::vector<int>> choose_groups(const std::vector<Unit>& units, std::span<const double> capacity,
                                            const GroupingOptions& options,
                                            std::vector<std::string>* notes = nullptr);

/// The edges i that maximise sum (c_i - c_{i+1})^2 - penalty (n - k)^2 over their number n (formula 4 of the
/// paper, solved exactly: the n largest, ties to the lower index, the least n among equals), best first.
std::vector<int> top_k_edges(std::span<const double> capacity, int k,
                             double penalty = std::numeric_limits<double>::infinity());
/// The edges with c_{i+1} < (1 - margin) c_i, best first; at most k (-1: all).
std::vector<int> drop_edges(std::span<const double> capacity, int k = -1, double margin = 0);
/// The edges in front of units that start a stage, ascending; not the one behind the first unit, nor the one
/// in front of the last.
std::vector<int> stage_edges(const std::vector<Unit>& units);
/// Merged edges chain: {1, 2} of 5 units gives {0} {1 2 3} {4}.
std::vector<std::vector<int>> groups_from_edges(int units, std::span<const int> edges);

/// A list of groups "2-3,7-8-9" (indices of units from 0; "7-9" stands for 7-8-9), or the name of a published
/// grouping, which must fit the number of units: resnet18, resnet50, mobilenet_v2, regnetx_600m.
/// Throws Error(Input) if it is malformed, or if groups overlap or leave the units.
std::vector<std::vector<int>> parse_groups(std::string_view text, int units);

/// "0 | 1 | 2-3 | 4"
std::string format_groups(const std::vector<std::vector<int>>& groups);

/// "none", "topk", "drop", "stage", "preset".
std::string_view grouping_name(Grouping grouping);
/// The reverse; throws Error(Input) that lists the names.
Grouping parse_grouping(std::string_view name);

}  // namespace lithe
