#include "lithe/tokens/segments.h"

#include <algorithm>
#include <unordered_map>

namespace lithe {

std::vector<int> token_segments(const Graph& graph, const TokenModel& model,
                                const std::vector<std::string>& reduced, bool class_rows) {
  std::unordered_map<std::string, int> of_reader;  // what reading a value makes of a node
  for (std::size_t l = 0; l < reduced.size(); ++l) of_reader[reduced[l]] = static_cast<int>(l);
  if (class_rows) of_reader[model.blocks.back().context] = static_cast<int>(model.blocks.size()) - 1;
  std::unordered_map<std::string, int> of_value;
  std::vector<int> segments;
  for (const Node& node : graph.nodes) {
    int segment = -1;
    for (const std::string& input : all_reads(node)) {
      if (const auto found = of_value.find(input); found != of_value.end())
        segment = std::max(segment, found->second);
      if (const auto found = of_reader.find(input); found != of_reader.end())
        segment = std::max(segment, found->second);
    }
    for (const std::string& output : node.outputs) of_value[output] = segment;
    segments.push_back(segment);
  }
  return segments;
}

}  // namespace lithe
