// The graph that learns every bit-width at once: one stem and one head, and a body in several branches.
//
//   stem -> { body with W_j, b-bit activations, batch norms (b, j) : j in the selection of b } -> mean ->
//   head
//
// for every bit-width b. Weights W_j and the head are shared by name; outputs are called "OUTPUT@b", the one
// of the most bits first. The executor computes what is fetched alone.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lithe/multibit/body.h"
#include "lithe/multibit/branch_quantisers.h"
#include "lithe/multibit/multibit_info.h"
#include "lithe/multibit/partial.h"

namespace lithe {

struct BranchOptions {
  MultibitMethod method = MultibitMethod::MbQuant;
  std::vector<int> bits{2, 4, 6, 8};  // ascending, 2 to 8
  bool amortise = true;
  /// Bounds of weights belong to places in the selection, as in the paper's code, and not to branches: the
  /// codes of a branch then depend on the bit-width.
  bool slots = false;
  NarrowWidths widths;      // of partial branches, all of them; empty: chosen
  double branch_noise = 0;  // of weights that start as copies, as a share of their deviation
  std::uint64_t seed = 0;   // of that
};

struct BranchGraph {
  Graph graph;
  Body body;  // of the graph that it was made of
  std::string entry;
  std::vector<BitPath> paths;  // ascending
  std::vector<LearntBounds> bounds;
  std::vector<LearntScale> scales;
  std::vector<std::string> weights;  // constants, of the branches' quantised convolutions
  NarrowWidths widths;
  double partial_share = 0;  // multiply-accumulates of a partial branch over those of a whole one; 0: none
  BranchOptions options;
};

/// Rewrites a classifier. `graph` must be sorted, with its constants among `graph.constants` and types
/// inferred; a batch norm must follow every convolution of the body alone. A convolution's bias goes into the
/// norm's mean. Throws Error(Input) naming what does not fit: a node, or widths of parts that no convolution
/// has or that serve no odd bit-width.
BranchGraph insert_branches(const Graph& graph, const Body& body, const BranchOptions& options);

}  // namespace lithe
