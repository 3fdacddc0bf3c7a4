#include "lithe/graph/adopt_constants.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

namespace lithe {

void adopt_constants(Graph& graph) {
  graph.sort();
  std::vector<Node> kept;
  std::set<std::string> outputs;
  for (const ValueInfo& output : graph.outputs) outputs.insert(output.name);
  std::vector<std::pair<std::string, std::string>> renamed;
  for (Node& node : graph.nodes) {
    for (auto& [from, to] : renamed) std::replace(node.inputs.begin(), node.inputs.end(), from, to);
    const TensorData* value = node.is("Constant") ? node.find<TensorData>("value") : nullptr;
    if (value && !outputs.contains(node.output(0))) {
      graph.constants[node.output(0)] = *value;
      graph.values.erase(node.output(0));
    } else if (node.is("Identity") && graph.is_constant(node.input(0)) && !outputs.contains(node.output(0))) {
      renamed.emplace_back(node.output(0), node.input(0));
    } else {
      kept.push_back(std::move(node));
    }
  }
  graph.nodes = std::move(kept);
  for (const auto& [from, to] : renamed) graph.replace_uses(from, to);  // in sub-graphs
  // Older exporters list constants among the inputs, as defaults that nobody overrides.
  std::erase_if(graph.inputs, [&](const ValueInfo& input) { return graph.is_constant(input.name); });
  graph.validate();
}

}  // namespace lithe
