// Raising the operator set that a model is written in.
#pragma once

#include <cstdint>

#include "lithe/graph/graph.h"

namespace lithe {

/// Rewrites the nodes (sub-graphs included) from the model's opset to `target` where an operator changed its
/// form in between: attributes that became inputs, defaults that changed, modes that were renamed. Raises the
/// IR version to what the opset needs. Does nothing if the model is at `target` already. Throws Error(Input)
/// naming the node if an operator changed in a way that is not known here, if the model is newer than
/// `target` (it is never lowered), or if `target` is above 22.
void upgrade_opset(Graph& graph, std::int64_t target);

}  // namespace lithe
