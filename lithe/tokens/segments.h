// Which nodes of a transformer work on the tokens behind which block.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "lithe/graph/graph.h"
#include "lithe/tokens/find_attention.h"

namespace lithe {

/// For every node the last block whose reduced tokens it depends on; -1: none. Nodes behind the context of
/// the last block, or the sum there, are of segment blocks.size() - 1 like those behind its tokens if
/// `class_rows`. `reduced` gives the names of the tokens that blocks hand on.
std::vector<int> token_segments(const Graph& graph, const TokenModel& model,
                                const std::vector<std::string>& reduced, bool class_rows = false);

}  // namespace lithe
