// The layers of a graph that have weights to quantise.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lithe/graph/graph.h"

namespace lithe {

/// Bits that mean "leave it in float".
inline constexpr int kFloatBits = 32;

/// A Conv, ConvTranspose, Gemm or MatMul whose weight is a constant.
struct Layer {
  std::size_t node = 0;  // index in Graph::nodes
  std::string name;      // of the node; of its output if the node has none
  std::string op;
  std::string input, output;  // activations
  std::string weight, bias;   // constants; bias is "" if there is none, or if it is not one number a channel
  std::size_t input_index = 0, weight_index = 1;
  // The input that the bias is: of the layer itself, or of the Add that alone reads a MatMul.
  std::size_t bias_node = 0, bias_index = 2;
  std::int64_t axis = -1;  // of the weight, that counts output channels; -1: they have no axis of their own
  std::int64_t channels = 0;  // length of that axis; 0 without
  bool first = false;         // no other layer lies between a graph input and this one
  bool last = false;          // no other layer lies between this one and a graph output
  int weight_bits = kFloatBits, activation_bits = kFloatBits;
};

/// How many scales the layer's weight has: one a channel where channels have an axis of their own.
inline std::int64_t scales_of(const Layer& layer) {
  return layer.axis >= 0 ? layer.channels : 1;
}

/// What a layer is called: as its node, or as its output if the node has no name.
std::string layer_name(const Node& node);

/// The layers in the order of the nodes, all at kFloatBits. `notes` receives one line for every node of these
/// kinds that cannot be quantised, and why.
/// Throws Error(Input) naming the constant if a weight is not float32, or holds NaN or infinity.
std::vector<Layer> find_layers(const Graph& graph, std::vector<std::string>* notes = nullptr);

/// Bits for the layers whose name matches a pattern.
struct BitsRule {
  std::string pattern;
  int weight_bits = 0;      // 0: as it was
  int activation_bits = 0;  // of the layer's input; 0: as it was
};

/// "layer1/*=4" (weights), "=w4a8", "=a8", "=off" (float). Throws Error(Input).
BitsRule parse_bits_rule(const std::string& text);

enum class FirstLast {
  Eight,  // 8 bits for weight and input of the first and last layers, if they would have fewer
  Same,   // as all others
};

/// Sets the bits of all layers: the general ones, then the first and last, then the rules in order, then
/// the excluded, which stay float. Throws Error(Input) if bits are not 2..8 or float, or if a pattern matches
/// no layer.
void assign_bits(std::vector<Layer>& layers, int weight_bits, int activation_bits, FirstLast first_last,
                 const std::vector<BitsRule>& rules, const std::vector<std::string>& exclude);

}  // namespace lithe
