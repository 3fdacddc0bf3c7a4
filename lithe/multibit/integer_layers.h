// The quantised convolutions of one bit-width in whole numbers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lithe/graph/graph.h"
#include "lithe/kernels/bound_quantize.h"

namespace lithe {

/// y = scale x + shift, by channel.
struct ChannelAffine {
  std::vector<float> scale, shift;
};

/// What a batch norm does to an input in units of 1 / `divisor`. Throws Error(Input) naming the node if its
/// parameters are no constants of one length, or give no finite numbers.
ChannelAffine fold_norm(const Graph& graph, const Node& norm, double divisor = 1);

/// A convolution with 2-bit weights, its input quantiser and its batch norm as
///   y = shift + scale * sum (2 k - 3) q
/// with k the codes of the weights and q those of the activations; padding stands for q = 0.
struct IntegerLayer {
  int conv = -1, norm = -1, activation = -1;  // nodes of the graph
  std::string input;                          // what is quantised
  std::string output;                         // of the batch norm
  BoundQuantizeSpec bounds;                   // of the activations
  std::string codes_name;  // of the weight that is stored: the value that its quantiser makes
  std::string weight;      // constant
  BoundQuantizeSpec weight_bounds;
  std::vector<std::int64_t> stored, used;  // shapes of the weight: whole, and of the part that runs
  ChannelAffine affine;                    // by output channel
};

/// The codes, 0 to 3, of the stored weight.
std::vector<std::uint8_t> weight_codes(const Graph& graph, const IntegerLayer& layer);

/// All quantised convolutions of the graph of one bit-width (`extract_bits`). Throws Error(Input) naming the
/// node if one is not quantised by 2-bit weights between bounds with a batch norm behind it, or if its parts
/// are not the first rows and columns.
std::vector<IntegerLayer> integer_layers(const Graph& graph);

}  // namespace lithe
