#include "lithe/graph/function.h"

#include <unordered_map>

#include "lithe/base/error.h"

namespace lithe {
namespace {

const Attribute* resolve(const Function& function, const Node& call, const std::string& name) {
  if (const auto given = call.attributes.find(name); given != call.attributes.end()) return &given->second;
  const auto fallback = function.default_attributes.find(name);
  return fallback == function.default_attributes.end() ? nullptr : &fallback->second;
}

constexpr int kMaxDepth = 32;
constexpr std::int64_t kMaxNodes = 2'000'000;

/// Counts nodes with calls written out.
class Counter {
 public:
  explicit Counter(const Graph& model) : model_(model) {}

  std::int64_t nodes(const std::vector<Node>& list, int depth) {
    std::int64_t total = 0;
    for (const Node& node : list) {
      total += 1 + subgraphs(node, depth);
      if (const Function* function = model_.function_of(node)) total += body(*function, node, depth + 1);
      if (total > kMaxNodes)
        fail("{}: the functions of the model expand to more than {} nodes", describe(node), kMaxNodes);
    }
    return total;
  }

 private:
  std::int64_t body(const Function& function, const Node& call, int depth) {
    if (const auto found = known_.find(&function); found != known_.end()) return found->second;
    if (depth > kMaxDepth)
      fail("{}: functions call one another more than {} deep", describe(call), kMaxDepth);
    return known_[&function] = nodes(function.nodes, depth);
  }

  std::int64_t subgraphs(const Node& node, int depth) {
    if (depth > 2 * kMaxDepth) fail("{}: sub-graphs are nested too deeply", describe(node));
    std::int64_t total = 0;
    for (const auto& [name, attribute] : node.attributes) {
      if (const auto* one = std::get_if<GraphPtr>(&attribute)) total += nodes((*one)->nodes, depth + 1);
      if (const auto* many = std::get_if<std::vector<GraphPtr>>(&attribute))
        for (const GraphPtr& graph : *many) total += nodes(graph->nodes, depth + 1);
    }
    return total;
  }

  const Graph& model_;
  std::unordered_map<const Function*, std::int64_t> known_;
};

}  // namespace

void check_function_sizes(const Graph& graph) {
  Counter(graph).nodes(graph.nodes, 0);
}

std::vector<Node> instantiate(const Function& function, const Node& call) {
  std::vector<Node> nodes = function.nodes;
  for (Node& node : nodes)
    for (auto attribute = node.attributes.begin(); attribute != node.attributes.end();) {
      const auto* reference = std::get_if<AttributeReference>(&attribute->second);
      if (!reference) {
        ++attribute;
        continue;
      }
      if (const Attribute* value = resolve(function, call, reference->name)) {
        Attribute copy = *value;  // assigning destroys the reference
        attribute->second = std::move(copy);
        ++attribute;
      } else {
        attribute = node.attributes.erase(attribute);
      }
    }
  return nodes;
}

}  // namespace lithe
