// Half-precision networks in float32.
#pragma once

#include "lithe/graph/graph.h"

namespace lithe {

/// Makes float16 and bfloat16 constants, inputs, outputs and casts float32, in sub-graphs and functions too:
/// decoders of half precision give NaN for bright pictures, and solver steps near clean latents need more
/// digits. Returns whether there was any.
bool widen_graph(Graph& graph);

}  // namespace lithe
