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
#include "lithe/multibit/branches.h"
#include "lithe/multibit/partial.h"

namespace lithe {

enum class MultibitMethod {
  MbQuant,       // branches of 2-bit weights: Zhong et al., "MBQuant", Pattern Recognition 2025
  Shared,        // one weight tensor, quantised anew to every bit-width by the same quantiser
  AnyPrecision,  // the same with the quantiser of Zhou et al., "DoReFa-Net", 2016, as in Yu et al.,
                 // "Any-Precision Deep Neural Networks", AAAI 2021
  Lsq,           // one bit-width alone: Esser et al., "Learned Step Size Quantization", ICLR 2020
};

std::string_view multibit_method_name(MultibitMethod method);  // "mbquant", "shared", ...

struct BranchOptions {
  MultibitMethod method = MultibitMethod::MbQuant;
  std::vector<int> bits{2, 4, 6, 8};  // ascending, 2 to 8
  bool amortise = true;
  /// Bounds of weights belong to places in the selection, as in the paper's code, and not to branches: the
  /// codes of a branch then depend on the bit-width.
  bool slots = false;
  NarrowWidths widths;      // of partial branches; empty: chosen
  double branch_noise = 0;  // of weights that start as copies, as a share of their deviation
  std::uint64_t seed = 0;   // of that
};

/// Two learnt constants between which a value is quantised.
struct LearntBounds {
  std::string low, high;  // constants
  std::string value;      // what is quantised: a weight, or a value of the graph
  bool weight = false;
  int bits = 0;  // of the model in which it is used; of weights of branches 0
};

/// A scale of the LSQ method.
struct LearntScale {
  std::string scale, value;  // the constant, and what is quantised
  bool weight = false;
  std::int64_t low = 0, high = 0;  // codes
};

struct BitPath {
  int bits = 0;
  std::string output, exit;  // values: the scores, and the mean over the branches
  BranchSelection branches;
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
  BranchOptions options;
};

/// Rewrites a classifier. `graph` must be sorted, with its constants among `graph.constants` and types
/// inferred; a batch norm must follow every convolution of the body. Throws Error(Input) naming what does not
/// fit.
BranchGraph insert_branches(const Graph& graph, const Body& body, const BranchOptions& options);

/// What a file says of its bit-widths, in the metadata entry "lithe.multibit".
struct MultibitInfo {
  std::string method;
  std::vector<int> bits;
  std::string entry;
  std::vector<BitPath> paths;
  const BitPath& path(int bits) const;  // throws Error(Input) that lists the bit-widths there are
};

/// Throws Error(Input) if the graph is no multi-bit model or the entry is malformed.
MultibitInfo multibit_info(const Graph& graph);

/// The part of the graph that gives the scores of one bit-width, with that output alone.
Graph extract_bits(const Graph& graph, int bits);

}  // namespace lithe
