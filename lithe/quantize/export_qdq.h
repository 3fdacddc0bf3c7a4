// Writing quantisation into the graph as QuantizeLinear and DequantizeLinear.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lithe/graph/graph.h"
#include "lithe/quantize/dfsq/subset_quantizer.h"
#include "lithe/quantize/layers.h"
#include "lithe/quantize/quantizer.h"
#include "lithe/quantize/weights.h"

namespace lithe {

struct QuantizedActivation {
  std::string value;
  int bits = 8;
  Quantizer quantizer;               // for the whole tensor
  bool is_signed = false;            // int8 (int4) containers instead of uint8 (uint4)
  std::optional<std::size_t> group;  // activations of one group share scale and zero-point
  /// Rounded to points of a table instead, in simulations only: `export_subsets` writes them.
  std::optional<SubsetQuantizer> subset = {};
};

/// Everything that quantisation decided about a graph.
struct QdqPlan {
  std::vector<Layer> layers;
  std::vector<QuantizedWeight> weights;
  std::vector<QuantizedActivation> activations;
};

struct ExportOptions {
  bool integer_bias =
      false;            // int32 biases of scale s_x * s_w, where weight and input of the layer are quantised
  bool nibbles = true;  // from opset 21 on, 4-bit containers for what has at most 4 bits
};

/// The graph with the plan written into it. Its opset must be 13 or newer.
///
/// Weights are stored as int8 numbers q - z with a zero-point tensor of explicit zeros, which every runtime
/// takes; from opset 21 on, those of at most 4 bits as int4, or as uint4 with zero-points where q - z does
/// not fit. 8 bits that do not fit into int8 are uint8 with zero-points. Activations of 8 bits are uint8 or
/// int8; fewer bits are clipped to the representable range first, because QuantizeLinear saturates at 255; 4
/// bits are uint4 or int4 from opset 21 on, unless a layer multiplies them with weights in 8-bit containers.
/// Values keep their names; readers are led to
/// `<value>_dequantized`. Layers without activation bits, graph outputs and Shape go on reading the original.
/// Throws Error(Input) if the opset is too old or a number does not fit its container.
Graph export_qdq(const Graph& graph, const QdqPlan& plan, const ExportOptions& options = {});

/// Codes of -8..7 or 0..15 in bytes, the first in the low half, an odd last one padded with 0.
std::vector<std::uint8_t> pack_nibbles(std::span<const std::int64_t> codes);

/// Bytes that a weight of so many elements, with its scales and zero-points, takes in the exported file.
std::int64_t stored_bytes(int bits, std::int64_t elements, std::int64_t scales, std::int64_t opset,
                          bool nibbles = true);

}  // namespace lithe
