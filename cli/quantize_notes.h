// What a user of `lithe quantize` should know beside the numbers.
#pragma once

#include <string>
#include <vector>

#include "lithe/quantize/quantize.h"

namespace lithe::cli {

/// Notes on where the file runs and on what was measured, one line each.
std::vector<std::string> notes_on_use(Target target, ReduceRange reduce_range,
                                      const std::vector<LayerResult>& layers, const Graph& graph);

/// A warning if every layer stays in float; "" otherwise.
std::string nothing_quantized(const std::vector<LayerResult>& layers);

}  // namespace lithe::cli
