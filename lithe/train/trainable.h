// Which constants of a graph learn.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "lithe/graph/graph.h"

namespace lithe {

enum class TrainableKind {
  Weight,     // of a convolution, matrix product or recurrent layer
  Bias,       // of a layer
  NormScale,  // of a norm, of PRelu, or a vector that multiplies a computed value
  NormBias,
  Embedding,  // positional embeddings, class tokens, tables that are looked up
};

std::string_view trainable_kind_name(TrainableKind kind);  // "weight", "bias", ...

struct Trainable {
  std::string name;  // of the constant
  TrainableKind kind = TrainableKind::Weight;
  int node = -1;  // the (first) node that it serves

  /// Weight decay is usual for weights alone.
  bool decays() const { return kind == TrainableKind::Weight; }
};

/// The float32 and float64 constants that training should change, in the order of the nodes that they serve:
/// weights and biases of Conv, ConvTranspose, Gemm, MatMul, Einsum and recurrent layers (found through
/// Transpose, Reshape and the like, and as the first input of nodes of domain "lithe"), scales and biases of
/// norms (decomposed ones included), vectors added to or multiplied with computed values, class tokens,
/// tables of embeddings. Not: running statistics, what shapes are computed from, bounds of Clip, scalars,
/// attention masks, and whatever acts on the input ahead of the first layer with weights (its normalisation).
/// Constants may stand in `graph.constants` or be made by Constant nodes. The nodes must be sorted.
std::vector<Trainable> trainable_constants(const Graph& graph);

/// Running means and variances of batch norms: they follow the data, not a gradient.
std::vector<std::string> running_statistics(const Graph& graph);

}  // namespace lithe
