// The first and the last layers of a network, which many methods treat with more care.
#pragma once

#include <vector>

#include "lithe/graph/graph.h"

namespace lithe {

struct Border {
  // By node; false for what is no layer.
  std::vector<bool> first;  // a graph input reaches it, and no other layer lies before it
  std::vector<bool> last;   // it reaches a graph output, and no other layer lies behind it
};

/// `layer` says by node which are layers. The nodes must be sorted.
Border find_border(const Graph& graph, const std::vector<bool>& layer);

}  // namespace lithe
