// Shape rules of nodes with sub-graphs.
#include "lithe/graph/shape_rules.h"

namespace lithe {
namespace {

using Results = std::vector<std::pair<ValueType, std::optional<KnownTensor>>>;

/// The outputs of one branch; nothing if it contradicts itself: such a branch is one that is never taken.
std::optional<Results> branch(const ShapeCall& call, std::string_view name) {
  const auto* graph = call.node.find<GraphPtr>(name);
  if (!graph) call.contradiction("the sub-graph '{}' is missing", name);
  try {
    return call.scope.run_subgraph(**graph, {});
  } catch (const Error&) {
    return std::nullopt;
  }
}

void if_else(ShapeCall& call) {
  std::optional<Results> taken;
  if (const auto condition = call.ints(0); condition && condition->size() == 1) {
    const auto* graph = call.node.find<GraphPtr>(condition->front() != 0 ? "then_branch" : "else_branch");
    if (!graph) call.contradiction("a branch is missing");
    taken = call.scope.run_subgraph(**graph, {});
  } else {
    auto yes = branch(call, "then_branch"), no = branch(call, "else_branch");
    if (yes && no) {
      for (std::size_t i = 0; i < yes->size() && i < no->size(); ++i)
        call.set(i, merge_alternatives((*yes)[i].first, (*no)[i].first));
      return;
    }
    taken = yes ? std::move(yes) : std::move(no);
  }
  for (std::size_t i = 0; taken && i < taken->size(); ++i) {
    call.set(i, (*taken)[i].first);
    if ((*taken)[i].second) call.set_known(i, std::move(*(*taken)[i].second));
  }
}

void loop(ShapeCall& call) {
  const auto* body = call.node.find<GraphPtr>("body");
  if (!body) call.contradiction("the sub-graph 'body' is missing");
  // The sizes of carried values may change from turn to turn: only their element types are certain.
  std::vector<ValueType> inputs{{DType::Int64, Shape{}}, {DType::Bool, Shape{}}};
  for (std::size_t i = 2; i < call.input_count(); ++i) {
    ValueType type = call.type(i);
    type.shape.reset();
    inputs.push_back(std::move(type));
  }
  const std::size_t carried = call.input_count() < 2 ? 0 : call.input_count() - 2;
  const Results results = call.scope.run_subgraph(**body, inputs);
  for (std::size_t i = 1; i < results.size(); ++i) {
    ValueType type = results[i].first;
    const std::size_t output = i - 1;
    if (output < carried) {
      type.shape.reset();
    } else if (type.shape) {
      type.shape->insert(type.shape->begin(), Quantity());  // one entry a turn
    }
    call.set(output, std::move(type));
  }
}

}  // namespace

void add_control_rules(ShapeRules& rules) {
  rules["If"] = if_else;
  rules["Loop"] = loop;
}

}  // namespace lithe
