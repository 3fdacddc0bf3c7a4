// Constants that hold what no trained model holds.
#pragma once

#include <string>
#include <vector>

#include "lithe/graph/graph.h"

namespace lithe {

/// One line for each constant of floats, Constant nodes and sub-graphs included, that holds NaN ("the
/// constant 'w' holds NaN at element 3"), and for each weight of a layer that holds infinity ("Conv node
/// 'c': its weight 'w' holds infinity at element 0"). Infinity elsewhere may be meant (attention masks), NaN
/// never is.
std::vector<std::string> unusable_constants(const Graph& graph);

/// Throws Error(Input) with the first of them and what to do.
void require_usable_constants(const Graph& graph);

}  // namespace lithe
