// Constants in one place, where rewrites look for them.
#pragma once

#include "lithe/graph/graph.h"

namespace lithe {

/// Turns Constant nodes and identities of constants into members of `graph.constants`, and takes constants
/// off the list of inputs. Sorts and validates.
void adopt_constants(Graph& graph);

}  // namespace lithe
