// What a multi-bit model says of its bit-widths, and the parts of it that serve one of them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "lithe/graph/graph.h"
#include "lithe/multibit/branches.h"

namespace lithe {

enum class MultibitMethod {
  MbQuant,       // branches of 2-bit weights: Zhong et al., "MBQuant", Pattern Recognition 2025
  Shared,        // one weight tensor, quantised anew to every bit-width by the same quantiser
  AnyPrecision,  // the same with the quantiser of Zhou et al., "DoReFa-Net", 2016, as in Yu et al.,
                 // "Any-Precision Deep Neural Networks", AAAI 2021
  AdaBits,       // the same with centred weights whose codes at fewer bits are the first bits of those at
                 // more: Jin et al., "AdaBits", CVPR 2020
  Lsq,           // one bit-width alone: Esser et al., "Learned Step Size Quantization", ICLR 2020
};

std::string_view multibit_method_name(MultibitMethod method);  // "mbquant", "shared", ...

struct BitPath {
  int bits = 0;
  std::string output, exit;  // values: the scores, and the mean over the branches
  BranchSelection branches;
};

/// The metadata entry "lithe.multibit" of a model.
struct MultibitInfo {
  std::string method;
  std::vector<int> bits;                // ascending
  std::string entry;                    // value: what the stem makes
  bool slots = false;                   // see BranchOptions
  std::vector<BitPath> paths;           // by bits
  const BitPath& path(int bits) const;  // throws Error(Input) that lists the bit-widths there are
};

/// Reads the entry. Throws Error(Input) if the graph has none, if it is malformed, or if it names values
/// that the graph does not make in this order: entry, exit, output.
MultibitInfo multibit_info(const Graph& graph);

/// Whether the graph has the entry, well-formed or not.
bool has_multibit_info(const Graph& graph);

/// Writes the entry; `bits` is taken from the paths.
void set_multibit_info(Graph& graph, const MultibitInfo& info);

/// What the values of a branch at a bit-width are called in front: "b4.2/".
std::string branch_prefix(int bits, int branch);

/// The part of the graph that gives the scores of one bit-width, with that output alone.
Graph extract_bits(const Graph& graph, int bits);

/// Indices, ascending, of the nodes that `to` needs, without those behind `from` ("": none are left out).
std::vector<int> nodes_behind(const Graph& graph, const std::string& to, const std::string& from = "");

}  // namespace lithe
