// The equation of an Einsum node.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "lithe/graph/graph.h"

namespace lithe {

/// Indices are numbered from 0; an ellipsis stands for as many as the inputs have there, aligned at the
/// right.
struct EinsumPlan {
  std::vector<std::vector<std::size_t>> inputs;  // the label of each axis
  std::vector<std::size_t> output;
  std::size_t labels = 0;
};

/// Throws Error(Input) naming the node if the equation is malformed or does not fit the inputs' ranks.
EinsumPlan parse_einsum(const Node& node, std::span<const std::size_t> ranks);

}  // namespace lithe
