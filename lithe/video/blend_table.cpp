#include "lithe/video/blend_table.h"

#include <algorithm>
#include <bit>

namespace lithe {

int highest_level(std::int64_t window) {
  return std::bit_width(static_cast<std::uint64_t>(window + 1)) - 1;
}

int levels_at(std::int64_t frame, int highest) {
  return std::min(std::countr_one(static_cast<std::uint64_t>(frame)), highest);
}

LevelSources level_sources(const TableNode& node) {
  const std::int64_t size = std::int64_t{1} << node.level;
  return {node.frame - size + 1, size / 2};
}

std::vector<TableNode> query_nodes(std::int64_t first, std::int64_t last, int highest) {
  std::vector<TableNode> nodes;
  for (std::int64_t frame = last; frame >= first;) {
    int level = levels_at(frame, highest);
    while (frame - (std::int64_t{1} << level) + 1 < first) --level;
    nodes.push_back({frame, level});
    frame -= std::int64_t{1} << level;
  }
  return nodes;
}

}  // namespace lithe
