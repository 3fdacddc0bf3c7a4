#include "lithe/graph/missing_operators.h"

#include <fmt/format.h>

#include <map>
#include <set>
#include <tuple>

namespace lithe {
namespace {

using Opsets = std::map<std::string, std::int64_t, std::less<>>;

class Search {
 public:
  Search(const Graph& model, const RunsNatively& runs) : model_(model), runs_(runs) {}

  template <typename Nodes>
  void visit_all(const Nodes& nodes, const Opsets& opsets) {
    for (const Node& node : nodes) visit(node, opsets);
  }

  std::vector<MissingOperator> found() && {
    std::vector<MissingOperator> all;
    for (auto& [key, missing] : missing_) all.push_back(std::move(missing));
    return all;
  }

 private:
  void visit(const Node& node, const Opsets& opsets) {
    for (const auto& [name, attribute] : node.attributes) {
      if (const auto* graph = std::get_if<GraphPtr>(&attribute)) visit_all((*graph)->nodes, opsets);
      if (const auto* graphs = std::get_if<std::vector<GraphPtr>>(&attribute))
        for (const GraphPtr& graph : *graphs) visit_all(graph->nodes, opsets);
    }
    const auto own = opsets.find(node.domain);
    const std::int64_t opset = own != opsets.end() ? own->second : model_.opset(node.domain);
    if (is_control_flow(node, opset) || runs_(node, opset)) return;
    if (const Function* function = model_.function_of(node)) {
      if (visited_.insert(function).second) visit_all(function->nodes, function->opsets);
      return;
    }
    MissingOperator& missing = missing_[{node.domain, node.op_type, opset}];
    if (missing.nodes++ > 0) return;
    missing.domain = node.domain;
    missing.op_type = node.op_type;
    missing.opset = opset;
    missing.first = node.name.empty() ? node.output(0) : node.name;
  }

  const Graph& model_;
  const RunsNatively& runs_;
  std::map<std::tuple<std::string, std::string, std::int64_t>, MissingOperator> missing_;
  std::set<const Function*> visited_;
};

}  // namespace

std::string describe(const MissingOperator& missing) {
  return fmt::format("{}{} (opset {}), {} node{}, first '{}'",
                     missing.domain.empty() ? "" : missing.domain + ".", missing.op_type, missing.opset,
                     missing.nodes, missing.nodes == 1 ? "" : "s", missing.first);
}

std::vector<MissingOperator> find_missing_operators(const Graph& graph, const RunsNatively& runs) {
  Search search(graph, runs);
  search.visit_all(graph.nodes, graph.header.opsets);
  return std::move(search).found();
}

bool is_control_flow(const Node& node, std::int64_t opset) {
  // Before opset 9 Scan was another operator: batched, with sequence lengths.
  return node.is("If") || node.is("Loop") || (node.is("Scan") && opset >= 9);
}

}  // namespace lithe
