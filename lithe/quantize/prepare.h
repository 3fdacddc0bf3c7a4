// Brings a graph into the form that quantisation works on.
#pragma once

#include <string>
#include <vector>

#include "lithe/graph/graph.h"

namespace lithe {

/// Turns Constant nodes into constants, drops Identity and (inference-mode) Dropout, evaluates nodes that
/// read constants only (shape chains of exporters, transposed weights), drops graph inputs that are constants
/// with a default, folds alpha and beta of Gemm into its constants, and removes what nothing reads. Names of
/// the remaining nodes and values stay. Throws Error(Input) if the model is quantised already.
void simplify(Graph& graph);

/// Gives the node's weight or bias constant a copy of its own if others read it too, so that it can be
/// changed. Returns the name of the constant that the node then reads.
std::string own_constant(Graph& graph, std::size_t node, std::size_t input);

/// Adds a bias of zeros to a Conv, ConvTranspose or Gemm without one; returns the constant's name.
std::string ensure_bias(Graph& graph, std::size_t node, std::int64_t channels);

}  // namespace lithe
