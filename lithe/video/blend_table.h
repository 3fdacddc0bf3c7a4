// Which frames a window average is put together from.
//
// Duan et al., "FastBlend: a Powerful Model-Free Toolkit Making Video Stylization Easier", 2023: a table of
// partial averages like a Fenwick tree. Node (j, L) is the average of the 2^L frames that end at frame j,
// each brought to j's geometry; it exists where the L lowest bits of j are ones. An average over any window
// that ends at j is put together from O(log window) nodes.
#pragma once

#include <cstdint>
#include <vector>

namespace lithe {

struct TableNode {
  std::int64_t frame = 0;
  int level = 0;
  friend auto operator<=>(const TableNode&, const TableNode&) = default;
};

/// The highest level that a query of windows of `window` frames before the last one can use.
int highest_level(std::int64_t window);

/// Levels of the table at `frame`: the number of ones that end its binary form, `highest` at most.
int levels_at(std::int64_t frame, int highest);

/// The frames that level L (from 1) of a node adds to level L - 1: 2^(L-1) from `first`.
struct LevelSources {
  std::int64_t first = 0, count = 0;
};
LevelSources level_sources(const TableNode& node);

/// Nodes that together hold the frames first..last once; the first of them is at `last` itself. No level is
/// above `highest`.
std::vector<TableNode> query_nodes(std::int64_t first, std::int64_t last, int highest);

}  // namespace lithe
