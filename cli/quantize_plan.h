// `lithe quantize --dry-run`: what would be quantised and learnt together, before any work.
#pragma once

#include <string>
#include <vector>

#include "cli/verb.h"
#include "lithe/graph/graph.h"
#include "lithe/quantize/quantize.h"

namespace lithe::cli {

/// Prints units, groups, layers and bits. `shapes` are those of --shape.
void show_quantization_plan(Invocation& call, const Graph& model, const QuantizeOptions& options,
                            const std::vector<std::string>& shapes);

/// Throws Error(Input) if groups that were listed, or named, are not groups of the model's units.
void check_listed_groups(const Graph& model, const QuantizeOptions& options);

}  // namespace lithe::cli
