// Reordering channels so that a pattern keeps more of the weights, without changing what the network
// computes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lithe/sparsify/layers.h"

namespace lithe {

/// What one permutation changed: the channels of values that must stay in the same order.
struct PermutedGroup {
  std::vector<std::string> layers;  // pruned layers that read them
  std::int64_t channels = 0;
  std::int64_t swaps = 0;
  double kept_before = 0, kept_after = 0;  // magnitude that the patterns keep, summed over the layers
};

struct PermuteOptions {
  std::int64_t max_swaps = 1000;  // of one group of channels
};

/// Pool and Yu, "Channel Permutations for N:M Sparsity", NeurIPS 2021: swaps input channels of pruned layers
/// (greedily, the best swap first) together with the output channels of the layers that make them, and with
/// everything by channel in between: biases, batch norms, depthwise convolutions. Values joined by Add share
/// their order. Channels are left alone where something on the way is not understood (Concat, Slice, Pad,
/// Reshape, graph inputs and outputs, grouped convolutions). Results agree up to the order of summation.
std::vector<PermutedGroup> permute_channels(Graph& graph, const std::vector<SparseLayer>& layers,
                                            const PermuteOptions& options = {});

}  // namespace lithe
