// Weights that take half the room in a file.
#pragma once

#include <cstdint>

#include "lithe/graph/graph.h"

namespace lithe {

/// Turns float32 constants of `least` elements or more into float16 ones (rounded to nearest, what is too
/// large to the largest) behind a Cast node that makes the constant's old name: standard ONNX, half the size.
void halve_weights(Graph& graph, std::int64_t least = 256);

/// Turns float16 constants behind a Cast to float32 into float32 constants.
void widen_weights(Graph& graph);

}  // namespace lithe
