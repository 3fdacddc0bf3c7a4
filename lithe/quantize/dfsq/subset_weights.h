// Weights as the published code of DFSQ quantises them.
#pragma once

#include <cstdint>
#include <vector>

#include "lithe/graph/graph.h"
#include "lithe/quantize/weights.h"

namespace lithe {

/// Per channel of the first axis, asymmetric, from the smallest to the largest weight (0 need not be
/// between): d = (max - min) / (2^b - 1), z = round(min / d) + 2^(b-1), codes clip(round(w / d) - z), weight
/// (code + z) d (arXiv 2305.05888, official code). A channel of equal weights keeps them exactly (there d
/// would be 0).
Quantizer published_weight_quantizer(const at::Tensor& weight, int bits);

/// Quantises the weights of all layers that have bits in this way.
std::vector<QuantizedWeight> published_weights(const Graph& graph, const std::vector<Layer>& layers);

}  // namespace lithe
