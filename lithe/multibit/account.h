// What every bit-width costs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lithe/graph/graph.h"

namespace lithe {

struct BitLayer {
  std::string name;  // of the convolution
  std::int64_t macs = 0, weights = 0;
  int weight_bits = 0, activation_bits = 0;
};

/// Of one sample.
struct BitCost {
  int bits = 0;
  std::vector<BitLayer> layers;       // quantised convolutions, of all branches that run
  std::int64_t macs = 0;              // of these
  std::int64_t float_macs = 0;        // of everything else: stem and head
  double bit_operations = 0;          // multiply-accumulates times the bits of weights and of activations
  double uniform_bit_operations = 0;  // of one branch with weights and activations of `bits` bits
  double ratio() const { return uniform_bit_operations > 0 ? bit_operations / uniform_bit_operations : 0; }
};

/// The cost at a bit-width of a multi-bit model, whose image sizes must be known. Stem and head do not count
/// as bit operations, as in the paper.
BitCost bit_cost(const Graph& graph, int bits);

/// Bytes of what a run time keeps, each constant once. A batch norm is a scale and a shift for each channel.
struct BitStorage {
  /// Of quantised convolutions: 2 bits each, one set of codes for each place of a branch with slots; of the
  /// baselines as many bits as the most bits need.
  std::int64_t weights = 0;
  std::int64_t norms = 0;     // of every bit-width, and bounds, float32
  std::int64_t rest = 0;      // stem, head and what else stays in float, float32
  std::int64_t as_float = 0;  // the plain model: one branch, stem and head, all in float32
  std::int64_t total() const { return weights + norms + rest; }
};

BitStorage bit_storage(const Graph& graph);

}  // namespace lithe
