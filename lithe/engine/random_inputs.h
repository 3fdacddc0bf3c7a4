// Inputs made up from a graph's declared types, for checks and timings.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "lithe/engine/executor.h"

namespace lithe {

/// Shapes by input name, for inputs that do not declare one in numbers.
using ShapeOverrides = std::map<std::string, std::vector<std::int64_t>, std::less<>>;

/// Feeds for all required inputs: floats are standard normal; integers and booleans are 0 or 1, so that they
/// are valid as indices and masks. A first dimension that is free becomes `batch`. Equal seeds give equal
/// feeds. Throws Error(Input) naming the input if another dimension is free and no override gives it.
Feeds random_inputs(const Graph& graph, std::uint64_t seed, const ShapeOverrides& shapes = {},
                    std::int64_t batch = 1);

}  // namespace lithe
