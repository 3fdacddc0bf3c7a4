#include "lithe/graph/border.h"

#include <algorithm>
#include <string>
#include <unordered_set>

namespace lithe {
namespace {

using Values = std::unordered_set<std::string>;

bool any_in(const Values& set, const std::vector<std::string>& names) {
  return std::any_of(names.begin(), names.end(), [&](const std::string& name) { return set.contains(name); });
}

/// One direction: `from` are the ends of the graph that are met, `reads` and `writes` what a node has towards
/// them and away from them. Gives the layers with an end but no layer on that side.
template <typename Reads, typename Writes>
std::vector<bool> nearest(const Graph& graph, const std::vector<bool>& layer, Values ends, bool forward,
                          Reads&& reads, Writes&& writes) {
  Values beyond_layer;
  std::vector<bool> found(graph.nodes.size(), false);
  for (std::size_t step = 0; step < graph.nodes.size(); ++step) {
    const std::size_t i = forward ? step : graph.nodes.size() - 1 - step;
    const std::vector<std::string> near = reads(graph.nodes[i]), far = writes(graph.nodes[i]);
    const bool direct = any_in(ends, near), behind = any_in(beyond_layer, near);
    found[i] = layer[i] && direct && !behind;
    if (layer[i] || behind) beyond_layer.insert(far.begin(), far.end());
    if (direct && !layer[i]) ends.insert(far.begin(), far.end());
  }
  return found;
}

}  // namespace

Border find_border(const Graph& graph, const std::vector<bool>& layer) {
  Values inputs, outputs;
  for (const ValueInfo* input : graph.required_inputs()) inputs.insert(input->name);
  for (const ValueInfo& output : graph.outputs) outputs.insert(output.name);
  const auto reads = [](const Node& node) { return all_reads(node); };
  const auto makes = [](const Node& node) { return node.outputs; };
  return {nearest(graph, layer, std::move(inputs), true, reads, makes),
          nearest(graph, layer, std::move(outputs), false, makes, reads)};
}

}  // namespace lithe
