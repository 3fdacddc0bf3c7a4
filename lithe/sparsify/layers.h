// The layers of a graph whose weights can be pruned, and which of them are.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lithe/graph/adopt_constants.h"
#include "lithe/graph/graph.h"
#include "lithe/graph/sparsity.h"
#include "lithe/kernels/channel_groups.h"

namespace lithe {

/// A Conv, ConvTranspose, Gemm or MatMul whose weight is a float constant.
struct SparseLayer {
  std::string name;  // of the node; of its output if the node has none
  std::string op;
  std::string output;               // value that the node makes: finds the node again after edits
  std::string weight;               // the constant, read directly at input 1
  std::vector<std::int64_t> shape;  // of the weight
  std::size_t axis = 1;             // of its input channels
  ChannelGroups groups;
  std::int64_t macs = 0;  // of one sample; 0 where the sizes of the inputs are not known
  bool first = false;     // no other layer lies between a graph input and this one
  bool last = false;      // no other layer lies between this one and a graph output
  bool shared = false;    // other nodes read the same weight
  bool ruled = false;     // the pattern is one that LayerPolicy::pattern_for names for this layer
  std::optional<SparsityPattern> pattern;  // nothing: it stays dense
  std::string dense_reason;                // why; "" if it is pruned

  /// Sizes of the kernel; empty for matrices.
  std::vector<std::int64_t> kernel() const;
  /// Share of the weights that the pattern keeps; 1 if dense.
  double density() const;
};

/// The pattern of the layers whose name matches.
struct PatternRule {
  std::string names;
  std::optional<SparsityPattern> pattern;  // nothing: dense
};

/// "layer3/*=1:4" or "head=dense". Throws Error(Input).
PatternRule parse_pattern_rule(const std::string& text);

/// What happens to a layer whose input channels are no multiple of M.
enum class Ragged {
  Skip,   // it stays dense
  Pad,    // its last groups of t channels keep min(N, t)
  Error,  // sparsify stops
};

struct LayerPolicy {
  SparsityPattern pattern;
  Ragged ragged = Ragged::Skip;
  /// Dense unless said otherwise: the first and the last layer, and depthwise or grouped convolutions with
  /// fewer than M input channels in a group.
  bool prune_first = false, prune_last = false, prune_depthwise = false;
  std::vector<std::string> include;      // names that are pruned although the lines above say dense
  std::vector<PatternRule> pattern_for;  // over the pattern, and counts as include; later ones win
  std::vector<std::string> exclude;      // names that stay dense
  /// Under a budget: what a layer may get, in place of `pattern`; a layer that some of them divide is not
  /// ragged.
  std::vector<SparsityPattern> candidates;
};

/// The layers in the order of the nodes, which must be sorted. A weight that several nodes read appears once,
/// with the first of them. Throws Error(Input) if a name pattern matches no layer, if a weight holds NaN or
/// infinity, or under Ragged::Error naming the layer.
std::vector<SparseLayer> find_sparse_layers(const Graph& graph, const LayerPolicy& policy);

/// Index of the node that makes the value; throws Error(Input) if there is none.
std::size_t node_of(const Graph& graph, const std::string& value);

}  // namespace lithe
