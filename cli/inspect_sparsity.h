// `lithe inspect --check-sparsity` and `--spatial-sparsity`: whether weights follow a pattern, and where
// pruning without structure would leave them.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "lithe/graph/graph.h"
#include "lithe/graph/sparsity.h"
#include "lithe/report/report.h"

namespace lithe::cli {

/// `pattern violations[] checked skipped[] dense[] recorded[]`; see docs/inspect.md. Where the model says
/// which of its layers were pruned, those alone can violate, the pattern asked for or their own.
nlohmann::json check_sparsity_json(const Graph& graph, const SparsityPattern& pattern);

/// Throws Error(Input) that names the first violating tensor, if there is one.
void require_sparsity(const nlohmann::json& result, const std::string& model);

/// For every convolution with a kernel of several positions and at least four input channels in a group, at
/// 2:4, 1:4 and 1:16: how zeros spread over the kernel under layer-wise and global magnitude pruning and
/// under the N:M mask; see docs/inspect.md.
nlohmann::json spatial_sparsity_json(const Graph& graph);

/// Bits by kernel position, row by row: "010 111 010".
template <typename Bit>
std::string kernel_bits(const std::vector<Bit>& bits, std::int64_t row) {
  std::string text;
  for (std::size_t i = 0; i < bits.size(); ++i) {
    if (i > 0 && static_cast<std::int64_t>(i) % row == 0) text += ' ';
    text += bits[i] != 0 ? '1' : '0';
  }
  return text;
}

std::string spatial_sparsity_table(const nlohmann::json& layers);
void add_spatial_sparsity(Report& report, const nlohmann::json& layers);

}  // namespace lithe::cli
