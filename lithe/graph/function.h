// Bodies of model-local functions.
#pragma once

#include <vector>

#include "lithe/graph/graph.h"

namespace lithe {

/// The body's nodes as `call` runs them: references to attributes of the function are replaced by what the
/// call gives, else by the function's default, else left out. Value names are those of the body.
std::vector<Node> instantiate(const Function& function, const Node& call);

/// Throws Error(Input) if the calls of functions, written out, come to more than two million nodes, or if
/// functions call one another in a circle or more than 32 deep. A small file can ask for any number
/// otherwise.
void check_function_sizes(const Graph& graph);

}  // namespace lithe
