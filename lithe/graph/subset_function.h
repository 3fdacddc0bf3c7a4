// The operators of domain "lithe" that round to points of a table, as functions of standard operators.
#pragma once

#include <string>

#include "lithe/graph/graph.h"

namespace lithe {

/// `SubsetQuantize(x, points, mean, scale)`: the point nearest to (x - mean) / scale, a multiple of 1/1024;
/// x [n, c, h, w], points int16 [c, k] ascending in units of 1/1024, mean and scale [c, 1, 1].
inline constexpr const char* kSubsetQuantize = "SubsetQuantize";
/// `DynamicSubsetQuantize(x, points, centre)`: for every channel of every sample, mean = centre x the mean
/// over h and w (centre: 0 or 1), scale = max |x - mean| + 1e-8, and the result is the point nearest to (x -
/// mean) / scale, times scale plus mean (DFSQ, arXiv 2305.05888).
inline constexpr const char* kDynamicSubsetQuantize = "DynamicSubsetQuantize";

/// Entries of a table by floor(2048 y) + 2048, for y from -1 to 1.
inline constexpr int kSubsetEntries = 4097;

/// Declares those that the graph uses as model-local functions, in the form of a table that floor(2048 y)
/// indexes: ties go up, what lies beyond -1 or 1 counts as these, and NaN as -1. The table is worked out from
/// the points when a runtime loads the model. The model must be of opset 13 or newer.
void add_subset_functions(Graph& graph);

/// Whether the node rounds to points of a table by the statistics of its whole input.
inline bool is_dynamic_subset(const Node& node) {
  return node.domain == "lithe" && node.op_type == kDynamicSubsetQuantize;
}
inline bool is_static_subset(const Node& node) {
  return node.domain == "lithe" && node.op_type == kSubsetQuantize;
}

}  // namespace lithe
