// Graphs that take one batch size only, although they do not say so.
#pragma once

#include "lithe/engine/executor.h"

namespace lithe {

/// Throws Error(Input) if the graph runs the first of these samples alone but not all of them together, as
/// where an exporter wrote the size of the batch into a constant. Does nothing if it runs them, or not even
/// one.
void require_free_batch(const Graph& graph, const Feeds& feeds, at::Device device = at::kCPU);

}  // namespace lithe
