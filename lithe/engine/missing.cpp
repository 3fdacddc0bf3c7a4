#include <map>
#include <set>

#include <fmt/format.h>

#include "lithe/engine/executor.h"
#include "lithe/engine/program.h"

namespace lithe {
namespace {

class Search {
 public:
  explicit Search(const Graph& model) : model_(model) {}

  void visit(const Node& node, const Scope& scope) {
    for (const auto& [name, attribute] : node.attributes) {
      if (const auto* graph = std::get_if<GraphPtr>(&attribute)) visit_all((*graph)->nodes, scope);
      if (const auto* graphs = std::get_if<std::vector<GraphPtr>>(&attribute))
        for (const GraphPtr& graph : *graphs) visit_all(graph->nodes, scope);
    }
    const std::int64_t opset = scope.opset(node.domain);
    const bool old_scan = node.is("Scan") && opset < 9;  // another operator: batched, with sequence lengths
    if ((is_control_flow(node, opset) && !old_scan) || native_entry(node, opset)) return;
    if (const Function* function = model_.function_of(node)) {
      if (!visited_.insert(function).second) return;
      Scope inner = scope;
      inner.opsets = &function->opsets;
      visit_all(function->nodes, inner);
      return;
    }
    Missing& missing = missing_[{node.domain, node.op_type, opset}];
    if (missing.count++ == 0) missing.first = node.name.empty() ? node.output(0) : node.name;
  }

  template <typename Nodes>
  void visit_all(const Nodes& nodes, const Scope& scope) {
    for (const Node& node : nodes) visit(node, scope);
  }

  std::vector<std::string> lines() const {
    std::vector<std::string> lines;
    for (const auto& [key, missing] : missing_) {
      const auto& [domain, type, opset] = key;
      lines.push_back(fmt::format("{}{} (opset {}), {} node{}, first '{}'",
                                  domain.empty() ? "" : domain + ".", type, opset, missing.count,
                                  missing.count == 1 ? "" : "s", missing.first));
    }
    return lines;
  }

 private:
  struct Missing {
    int count = 0;
    std::string first;
  };
  const Graph& model_;
  std::map<std::tuple<std::string, std::string, std::int64_t>, Missing> missing_;
  std::set<const Function*> visited_;
};

}  // namespace

std::vector<std::string> missing_operators(const Graph& graph) {
  Search search(graph);
  search.visit_all(graph.nodes, Scope{&graph, &graph.header.opsets});
  return search.lines();
}

}  // namespace lithe
