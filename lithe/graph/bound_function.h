// lithe.BoundQuantize in standard operators.
#pragma once

#include "lithe/graph/graph.h"

namespace lithe {

/// Smallest distance of the bounds that a quantiser works with.
inline constexpr float kSmallestWidth = 1e-5f;

/// Gives the model the function behind nodes "BoundQuantize" (x, low, high; attributes levels, centred) of
/// the domain "lithe", so that stock runtimes run them: float32, from Sub, Div, Clip, Mul and Round, with the
/// results of lithe/kernels/bound_quantize.h bit for bit. Imports the domain. Does nothing if it is there.
void add_bound_function(Graph& graph);

}  // namespace lithe
