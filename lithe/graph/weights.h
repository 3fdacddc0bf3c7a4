// Which nodes have weights, and where these come from.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "lithe/graph/graph.h"

namespace lithe {

/// Conv, ConvTranspose, Gemm or MatMul: what methods that change weights call a layer.
inline bool is_layer_kind(const Node& node) {
  return node.is("Conv") || node.is("ConvTranspose") || node.is("Gemm") || node.is("MatMul");
}

/// The weight of a layer: the constant it comes from, however it was stored.
struct Weight {
  std::size_t input = 0;  // of the node
  std::string constant;   // behind DequantizeLinear, Cast, Transpose and the like
  std::int64_t count = 0;
};

/// The weight of a convolution, Gemm, MatMul, Einsum (also their integer forms) or recurrent node, if it is
/// constant.
std::optional<Weight> find_weight(const Graph& graph, const GraphIndex& index, const Node& node);

/// The constant that the value is, or is made of by operators of one data input (DequantizeLinear, Cast,
/// Identity, Transpose, Reshape, Unsqueeze, Squeeze); "" if there is none.
std::string constant_behind(const Graph& graph, const GraphIndex& index, const std::string& value);

}  // namespace lithe
