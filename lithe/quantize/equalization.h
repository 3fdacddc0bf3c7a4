// Cross-layer equalisation: the same function with weights that quantise better.
#pragma once

#include <string>
#include <vector>

#include "lithe/graph/graph.h"

namespace lithe {

struct EqualizationReport {
  int pairs = 0;        // of neighbouring convolutions that were rescaled
  int rounds = 0;       // until the factors settled
  int clips_split = 0;  // Clip nodes that became Relu and a per-channel Min
};

/// Rescales each channel between two convolutions (depthwise and grouped ones included) that are joined by
/// nothing, Relu, LeakyRelu, PRelu or Clip(0, c), so that the channel's weight ranges on both sides become
/// equal: s = sqrt(r1 / r2), W1 /= s, b1 /= s, W2 *= s, repeated over all pairs until no factor moves by more
/// than 0.1 % (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV
/// 2019, section 4.1). The paper replaces ReLU6 by ReLU, which changes the function; here Clip(0, c) becomes
/// Relu and Min with the constants c / s, so that the network computes what it did. Batch norms must be
/// folded first.
EqualizationReport equalize(Graph& graph, int max_rounds = 40);

}  // namespace lithe
