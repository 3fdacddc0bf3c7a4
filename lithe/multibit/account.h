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

/// Bytes that the weights take when each is stored once.
struct BitStorage {
  std::int64_t weights = 0;   // of quantised convolutions: 2 bits each, or as many as the most bits need
  std::int64_t norms = 0;     // scale and shift of every channel and bit-width, and bounds, float32
  std::int64_t rest = 0;      // stem and head, float32
  std::int64_t as_float = 0;  // of one branch, stem and head in float32: the plain model
  std::int64_t total() const { return weights + norms + rest; }
};

BitStorage bit_storage(const Graph& graph);

}  // namespace lithe
