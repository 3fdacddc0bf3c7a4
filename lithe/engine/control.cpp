// If, Loop and Scan, and the bodies of model-local functions.
#include <algorithm>
#include <limits>

#include "lithe/base/error.h"
#include "lithe/engine/program.h"

namespace lithe {
namespace {

bool as_bool(const Node& node, const at::Tensor& condition) {
  if (condition.numel() != 1)
    fail("{}: the condition has {} elements instead of one", describe(node), condition.numel());
  return condition.item().toBool();
}

void resolve(Node& node, const Function& function, const Node& call);

GraphPtr resolved(const GraphPtr& graph, const Function& function, const Node& call) {
  auto copy = std::make_shared<Graph>(*graph);
  for (Node& node : copy->nodes) resolve(node, function, call);
  return copy;
}

void resolve(Node& node, const Function& function, const Node& call) {
  for (auto it = node.attributes.begin(); it != node.attributes.end();) {
    Attribute& attribute = it->second;
    if (auto* graph = std::get_if<GraphPtr>(&attribute)) *graph = resolved(*graph, function, call);
    if (auto* graphs = std::get_if<std::vector<GraphPtr>>(&attribute))
      for (GraphPtr& graph : *graphs) graph = resolved(graph, function, call);
    const auto* reference = std::get_if<AttributeReference>(&attribute);
    if (!reference) {
      ++it;
      continue;
    }
    const std::string name = reference->name;  // a copy: the assignment below destroys the reference
    if (const auto given = call.attributes.find(name); given != call.attributes.end()) {
      attribute = given->second;
      ++it;
    } else if (const auto standard = function.default_attributes.find(name);
               standard != function.default_attributes.end()) {
      attribute = standard->second;
      ++it;
    } else {
      it = node.attributes.erase(it);  // optional and not given: the operator's own default holds
    }
  }
}

std::vector<std::int64_t> list(const Node& node, std::string_view name, std::size_t count) {
  std::vector<std::int64_t> values = node.attr(name, std::vector<std::int64_t>{});
  if (values.empty()) values.assign(count, 0);
  if (values.size() != count)
    fail("{}: '{}' has {} entries instead of {}", describe(node), name, values.size(), count);
  return values;
}

}  // namespace

std::deque<Node> nodes_of_call(const Function& function, const Node& call) {
  std::deque<Node> nodes(function.nodes.begin(), function.nodes.end());
  for (Node& node : nodes) resolve(node, function, call);
  return nodes;
}

std::vector<at::Tensor> run_if(const Node& node, const std::vector<at::Tensor>& inputs,
                               const RunBody& run_body) {
  if (inputs.empty() || !inputs[0].defined()) fail("{}: the condition is missing", describe(node));
  return run_body(as_bool(node, inputs[0]) ? 0 : 1, {});
}

std::vector<at::Tensor> run_loop(const Node& node, const Graph& body, const std::vector<at::Tensor>& inputs,
                                 const RunBody& run_body) {
  const bool counted = !inputs.empty() && inputs[0].defined();
  const bool conditional = inputs.size() > 1 && inputs[1].defined();
  const std::size_t carried = inputs.size() > 2 ? inputs.size() - 2 : 0;
  if (body.inputs.size() != carried + 2 || body.outputs.size() < carried + 1)
    fail("{}: the body takes {} inputs and gives {} outputs, which does not fit {} loop-carried values",
         describe(node), body.inputs.size(), body.outputs.size(), carried);
  const std::size_t scans = body.outputs.size() - 1 - carried;
  const std::int64_t trips = counted ? inputs[0].item().toLong() : std::numeric_limits<std::int64_t>::max();
  at::Tensor condition = conditional ? inputs[1] : at::ones({}, at::kBool);
  std::vector<at::Tensor> state(inputs.size() > 2 ? inputs.begin() + 2 : inputs.end(), inputs.end());
  std::vector<std::vector<at::Tensor>> collected(scans);
  for (std::int64_t trip = 0; trip < trips && as_bool(node, condition); ++trip) {
    std::vector<at::Tensor> arguments{at::scalar_tensor(trip, at::kLong), condition};
    arguments.insert(arguments.end(), state.begin(), state.end());
    std::vector<at::Tensor> results = run_body(0, std::move(arguments));
    condition = results[0];
    for (std::size_t i = 0; i < carried; ++i) state[i] = std::move(results[1 + i]);
    for (std::size_t i = 0; i < scans; ++i) collected[i].push_back(std::move(results[1 + carried + i]));
  }
  for (std::size_t i = 0; i < scans; ++i) {
    if (!collected[i].empty()) {
      state.push_back(at::stack(collected[i]));
      continue;
    }
    const ValueInfo& info = body.outputs[1 + carried + i];
    std::vector<std::int64_t> shape{0};
    if (info.shape)
      for (const Dim& dim : *info.shape) shape.push_back(dim.known() ? dim.value : 0);
    const at::ScalarType type = info.dtype == DType::Undefined ? at::kFloat : scalar_type_of(info.dtype);
    state.push_back(at::empty(shape, type));
  }
  return state;
}

std::vector<at::Tensor> run_scan(const Node& node, const Graph& body, const std::vector<at::Tensor>& inputs,
                                 const RunBody& run_body) {
  const std::int64_t scan_count = node.attr("num_scan_inputs", std::int64_t{0});
  if (scan_count < 1 || static_cast<std::size_t>(scan_count) > inputs.size() ||
      body.inputs.size() != inputs.size())
    fail("{}: num_scan_inputs = {} does not fit {} inputs", describe(node), scan_count, inputs.size());
  const std::size_t scans = static_cast<std::size_t>(scan_count), states = inputs.size() - scans;
  if (body.outputs.size() < states)
    fail("{}: the body gives {} outputs for {} states", describe(node), body.outputs.size(), states);
  const std::size_t outs = body.outputs.size() - states;
  const auto axes = list(node, "scan_input_axes", scans),
             backward = list(node, "scan_input_directions", scans);
  const auto out_axes = list(node, "scan_output_axes", outs),
             out_backward = list(node, "scan_output_directions", outs);
  std::vector<at::Tensor> state(inputs.begin(), inputs.begin() + static_cast<std::ptrdiff_t>(states));
  const std::int64_t length = inputs[states].size(axes[0]);
  for (std::size_t i = 0; i < scans; ++i)
    if (inputs[states + i].size(axes[i]) != length)
      fail("{}: scan inputs have lengths {} and {}", describe(node), length,
           inputs[states + i].size(axes[i]));
  std::vector<std::vector<at::Tensor>> collected(outs);
  for (std::int64_t step = 0; step < length; ++step) {
    std::vector<at::Tensor> arguments = state;
    for (std::size_t i = 0; i < scans; ++i)
      arguments.push_back(inputs[states + i].select(axes[i], backward[i] ? length - 1 - step : step));
    std::vector<at::Tensor> results = run_body(0, std::move(arguments));
    for (std::size_t i = 0; i < states; ++i) state[i] = std::move(results[i]);
    for (std::size_t i = 0; i < outs; ++i) collected[i].push_back(std::move(results[states + i]));
  }
  for (std::size_t i = 0; i < outs; ++i) {
    if (collected[i].empty()) fail("{}: scans over an axis of length 0", describe(node));
    if (out_backward[i]) std::reverse(collected[i].begin(), collected[i].end());
    state.push_back(at::stack(collected[i], out_axes[i]));
  }
  return state;
}

}  // namespace lithe
