#include "cli/inspect_operators.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "cli/operator_table.h"
#include "lithe/graph/missing_operators.h"

namespace lithe::cli {
namespace {

/// As the engine decides: other domains have one form each.
bool is_known(const Node& node, std::int64_t opset) {
  return std::any_of(std::begin(kOperatorTable), std::end(kOperatorTable), [&](const KnownOperator& known) {
    return node.op_type == known.op_type && node.domain == known.domain &&
           (!node.domain.empty() || (opset >= known.since && opset <= known.until));
  });
}

}  // namespace

nlohmann::json unsupported_json(const Graph& graph) {
  nlohmann::json list = nlohmann::json::array();
  for (const MissingOperator& one : find_missing_operators(graph, is_known))
    list.push_back({{"op", one.op_type},
                    {"domain", one.domain},
                    {"opset", one.opset},
                    {"count", one.nodes},
                    {"node", one.first}});
  return list;
}

std::vector<std::string> unsupported_lines(const nlohmann::json& unsupported) {
  std::vector<std::string> lines;
  for (const auto& one : unsupported)
    lines.push_back("Lithe does not run " + describe(MissingOperator{.domain = one.at("domain"),
                                                                     .op_type = one.at("op"),
                                                                     .opset = one.at("opset"),
                                                                     .nodes = one.at("count"),
                                                                     .first = one.at("node")}));
  return lines;
}

}  // namespace lithe::cli
