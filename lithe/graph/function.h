// Bodies of model-local functions.
#pragma once

#include <vector>

#include "lithe/graph/graph.h"

namespace lithe {

/// The body's nodes as `call` runs them: references to attributes of the function are replaced by what the
/// call gives, else by the function's default, else left out. Value names are those of the body.
std::vector<Node> instantiate(const Function& function, const Node& call);

}  // namespace lithe
