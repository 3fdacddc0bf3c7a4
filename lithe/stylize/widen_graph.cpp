#include "lithe/stylize/widen_graph.h"

namespace lithe {
namespace {

bool is_narrow(DType dtype) {
  return dtype == DType::Float16 || dtype == DType::BFloat16;
}

bool widen(TensorData& data) {
  if (!is_narrow(data.dtype())) return false;
  data = TensorData::from<float>(data.shape(), data.to_floats());
  return true;
}

bool widen(ValueInfo& value) {
  if (!is_narrow(value.dtype)) return false;
  value.dtype = DType::Float32;
  return true;
}

bool widen(std::vector<Node>& nodes);

bool widen(Graph& graph) {
  bool any = false;
  for (auto& [name, data] : graph.constants) any |= widen(data);
  for (auto* values : {&graph.inputs, &graph.outputs})
    for (ValueInfo& value : *values) any |= widen(value);
  for (auto& [name, value] : graph.values) any |= widen(value);
  return widen(graph.nodes) || any;
}

bool widen(GraphPtr& graph) {
  Graph copy = *graph;
  if (!widen(copy)) return false;
  graph = std::make_shared<const Graph>(std::move(copy));
  return true;
}

bool widen(std::vector<Node>& nodes) {
  bool any = false;
  for (Node& node : nodes)
    for (auto& [name, attribute] : node.attributes) {
      if (auto* data = std::get_if<TensorData>(&attribute)) any |= widen(*data);
      if (auto* graph = std::get_if<GraphPtr>(&attribute)) any |= widen(*graph);
      if (auto* graphs = std::get_if<std::vector<GraphPtr>>(&attribute))
        for (GraphPtr& one : *graphs) any |= widen(one);
      auto* type = name == "to" || name == "dtype" ? std::get_if<std::int64_t>(&attribute) : nullptr;
      if (!type || !node.domain.empty() || !is_narrow(static_cast<DType>(*type))) continue;
      *type = static_cast<std::int64_t>(DType::Float32);
      any = true;
    }
  return any;
}

}  // namespace

bool widen_graph(Graph& graph) {
  bool any = widen(graph);
  for (Function& function : graph.header.functions) any |= widen(function.nodes);
  return any;
}

}  // namespace lithe
