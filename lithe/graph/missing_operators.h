// Which operators of a model somebody does not run.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "lithe/graph/graph.h"

namespace lithe {

/// An operator in the form of one opset, and where the model has it.
struct MissingOperator {
  std::string domain, op_type;
  std::int64_t opset = 0;  // of the operator's domain
  std::int64_t nodes = 0;
  std::string first;  // name of the first of these nodes, or of what it makes
};

/// "GridSample (opset 20), 3 nodes, first 'sampler/0'"
std::string describe(const MissingOperator& missing);

/// Whether a node of that opset runs natively, without its function's body.
using RunsNatively = std::function<bool(const Node& node, std::int64_t opset)>;

/// Operators of the graph, its sub-graphs and the bodies of functions that it calls which do not run and are
/// no functions; by domain, name and opset.
std::vector<MissingOperator> find_missing_operators(const Graph& graph, const RunsNatively& runs);

/// True for operators that run sub-graphs: the engine does them itself, so that no registry holds them.
bool is_control_flow(const Node& node, std::int64_t opset = 22);

}  // namespace lithe
