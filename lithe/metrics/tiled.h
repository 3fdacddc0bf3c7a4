// Large images tile by tile, in bounded memory.
#pragma once

#include "lithe/graph/tiling.h"
#include "lithe/metrics/evaluate.h"

namespace lithe {

/// Runs `run` on tiles of `side` x `side` pixels of the input (less at the right and at the bottom), each
/// with the overlap that `tiling` asks for, and puts one output of `graph` (default: the first) together. The
/// result is that of the whole image: every pixel is computed from the same numbers in the same order, up to
/// the order in which a library adds within a convolution. `side` is rounded up to a multiple of the
/// alignment.
RunBatch tiled(const Graph& graph, RunBatch run, const Tiling& tiling, std::int64_t side,
               const std::string& output = "");

}  // namespace lithe
