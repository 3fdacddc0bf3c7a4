// Where numbers stopped being numbers.
#pragma once

#include <string>
#include <vector>

#include "lithe/engine/executor.h"
#include "lithe/train/optimiser.h"

namespace lithe {

/// Runs the model again on these feeds and says which value is the first that is not finite: "the constant
/// 'w' ...",
/// "'conv1' (Conv node 'conv1') ...". Falls back to the gradients, then to the loss itself.
std::string describe_non_finite(Executor& executor, const Feeds& feeds, const std::vector<std::string>& fetch,
                                const std::vector<Parameter>& parameters);

}  // namespace lithe
