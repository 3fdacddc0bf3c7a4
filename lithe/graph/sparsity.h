// Whether weights follow an N:M pattern.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lithe/graph/graph.h"

namespace lithe {

/// At most `kept` of every `group` consecutive weights along the input channels are not zero.
struct SparsityPattern {
  std::int64_t kept = 2, group = 4;
};

/// "2:4"; throws Error(Input) unless 0 < N <= M <= 1024.
SparsityPattern parse_sparsity(std::string_view text);
/// "2:4" again.
std::string format_sparsity(const SparsityPattern& pattern);

/// Axis of the input channels in the weight of rank `rank` that the node reads at `input`, if it has one.
std::optional<std::size_t> input_channel_axis(const Node& node, std::size_t input, std::size_t rank);

/// One weight held against a pattern.
struct SparsityCheck {
  std::string tensor;  // the constant
  std::string node;    // the layer that uses it
  std::int64_t groups = 0;
  std::int64_t violations = 0;  // groups with too many weights that are not zero
  double zeros = 0;             // share of zero weights
  std::string skipped;          // why it does not count; "" if it does
};

/// Checks the weights of Conv, ConvTranspose, Gemm and MatMul (also behind DequantizeLinear, where zero is
/// the zero point). Groups run along the input channels, separately for every output channel and kernel
/// position, as sparse hardware reads them (Mishra et al., "Accelerating Sparse Deep Neural Networks", 2021).
/// Where the input channels are no multiple of the group, the last group is shorter and may keep as many;
/// such a weight counts if it follows that, and is else skipped with a reason, for it need not have been
/// pruned.
std::vector<SparsityCheck> check_sparsity(const Graph& graph, const SparsityPattern& pattern);

}  // namespace lithe
