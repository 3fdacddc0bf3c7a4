// `lithe inspect --spatial-sparsity`: where pruning without structure would leave weights.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "lithe/graph/graph.h"
#include "lithe/report/report.h"

namespace lithe::cli {

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
