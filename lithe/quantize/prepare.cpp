#include "lithe/quantize/prepare.h"

#include <algorithm>
#include <unordered_map>

#include "lithe/base/error.h"
#include "lithe/ops/registry.h"

namespace lithe {
namespace {

bool is_quantization_node(const Node& node) {
  return node.op_type == "QuantizeLinear" || node.op_type == "DequantizeLinear" ||
         node.op_type.starts_with("QLinear") || node.op_type == "ConvInteger" ||
         node.op_type == "MatMulInteger";
}

bool is_random(const Node& node) {
  return node.op_type.starts_with("Random") || node.is("Bernoulli") || node.is("Multinomial") ||
         node.is("Dropout");
}

bool has_subgraph(const Node& node) {
  return std::any_of(node.attributes.begin(), node.attributes.end(), [](const auto& entry) {
    return std::holds_alternative<GraphPtr>(entry.second) ||
           std::holds_alternative<std::vector<GraphPtr>>(entry.second);
  });
}

bool is_graph_output(const Graph& graph, const std::string& value) {
  return std::any_of(graph.outputs.begin(), graph.outputs.end(),
                     [&](const ValueInfo& output) { return output.name == value; });
}

/// Elements of its inputs bound what a folded node may make, so that folding never inflates the file
/// (ConstantOfShape or Expand with a large shape).
constexpr std::int64_t kFreeElements = 4096;

/// The node's outputs if it reads constants only and is worth folding; empty otherwise.
std::vector<at::Tensor> evaluate_constant(const Graph& graph, const Node& node) {
  if (is_random(node) || has_subgraph(node) || node.outputs.empty()) return {};
  const OpEntry* op = op_registry().find(node.domain, node.op_type);
  if (!op || graph.function_of(node)) return {};
  std::int64_t elements = 0;
  for (const std::string& name : node.inputs) {
    if (name.empty()) continue;
    const TensorData* data = graph.constant(name);
    if (!data || data->dtype() == DType::String) return {};
    elements += data->count();
  }
  if (node.inputs.empty()) return {};
  if ((node.is("ConstantOfShape") || node.is("Expand") || node.is("Tile") || node.is("Range")) &&
      elements > kFreeElements)
    return {};
  std::vector<at::Tensor> inputs;
  for (const std::string& name : node.inputs)
    inputs.push_back(name.empty() ? at::Tensor() : to_tensor(*graph.constant(name)));
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> outputs =
      op->run({.node = node, .opset = graph.opset(node.domain), .inputs = inputs});
  for (std::size_t i = 0; i < node.outputs.size(); ++i) {
    if (node.outputs[i].empty()) continue;
    if (i >= outputs.size() || !outputs[i].defined()) return {};
    if (outputs[i].numel() > std::max(kFreeElements, 2 * elements)) return {};
  }
  return outputs;
}

/// The tensor of a Constant node, or nothing for strings and sparse forms.
std::optional<TensorData> constant_value(const Node& node) {
  if (const auto* value = node.find<TensorData>("value")) return *value;
  if (const auto* value = node.find<float>("value_float")) return TensorData::scalar(*value);
  if (const auto* value = node.find<std::int64_t>("value_int")) return TensorData::scalar(*value);
  if (const auto* values = node.find<std::vector<float>>("value_floats"))
    return TensorData::from<float>({static_cast<std::int64_t>(values->size())}, *values);
  if (const auto* values = node.find<std::vector<std::int64_t>>("value_ints"))
    return TensorData::from<std::int64_t>({static_cast<std::int64_t>(values->size())}, *values);
  return std::nullopt;
}

/// Whether the node hands its input on unchanged.
bool is_pass_through(const Node& node) {
  if (node.is("Identity")) return node.inputs.size() == 1 && node.outputs.size() == 1;
  return node.is("Dropout") && (node.outputs.size() < 2 || node.outputs[1].empty());
}

/// An inference-mode Dropout whose third input is absent or a constant false.
bool is_idle(const Graph& graph, const Node& node) {
  if (!is_pass_through(node)) return false;
  if (node.is("Identity") || node.input(2).empty()) return true;
  const TensorData* training = graph.constant(node.input(2));
  return training && training->count() == 1 && training->bytes()[0] == std::byte{0};
}

void fold_gemm_factors(Graph& graph) {
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    if (!graph.nodes[i].is("Gemm")) continue;
    for (const auto& [attribute, index] : {std::pair{"alpha", std::size_t{1}}, {"beta", std::size_t{2}}}) {
      const float factor = graph.nodes[i].attr(attribute, 1.0f);
      const TensorData* data = graph.constant(graph.nodes[i].input(index));
      if (factor == 1.0f || !data || data->dtype() != DType::Float32) continue;
      const std::string own = own_constant(graph, i, index);
      std::vector<float> values = graph.constants.at(own).to_floats();
      for (float& value : values) value *= factor;
      graph.constants[own] = TensorData::from(graph.constants.at(own).shape(), std::move(values));
      graph.nodes[i].attributes[attribute] = 1.0f;
    }
  }
}

}  // namespace

void simplify(Graph& graph) {
  for (const Node& node : graph.nodes)
    if (is_quantization_node(node))
      fail("the model is quantised already ({}); give the float model", describe(node));
  std::erase_if(graph.inputs, [&](const ValueInfo& input) { return graph.is_constant(input.name); });
  std::vector<bool> drop(graph.nodes.size(), false);
  std::unordered_map<std::string, std::string> same_as;
  const auto resolve = [&](std::string& name) {
    for (auto found = same_as.find(name); found != same_as.end(); found = same_as.find(name))
      name = found->second;
  };
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    Node& node = graph.nodes[i];
    for (std::string& name : node.inputs) resolve(name);
    if (node.is("Constant") && node.outputs.size() == 1) {
      if (auto value = constant_value(node)) {
        graph.constants.insert_or_assign(node.outputs[0], std::move(*value));
        drop[i] = true;
      }
      continue;
    }
    if (is_idle(graph, node) && !is_graph_output(graph, node.output(0))) {
      same_as.emplace(node.output(0), node.input(0));
      drop[i] = true;
      continue;
    }
    const std::vector<at::Tensor> values = evaluate_constant(graph, node);
    if (values.empty() || std::any_of(node.outputs.begin(), node.outputs.end(),
                                      [&](const std::string& name) { return is_graph_output(graph, name); }))
      continue;
    for (std::size_t k = 0; k < node.outputs.size(); ++k)
      if (!node.outputs[k].empty())
        graph.constants.insert_or_assign(node.outputs[k], to_tensor_data(values[k]));
    drop[i] = true;
  }
  std::vector<Node> kept;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i)
    if (!drop[i]) kept.push_back(std::move(graph.nodes[i]));
  graph.nodes = std::move(kept);
  // Sub-graphs read the dropped values by name too.
  for (auto& [from, to] : same_as) {
    std::string target = to;
    resolve(target);
    graph.replace_uses(from, target);
  }
  fold_gemm_factors(graph);
  graph.remove_dead();
  graph.validate();
}

std::string own_constant(Graph& graph, std::size_t node, std::size_t input) {
  std::string name = graph.nodes[node].inputs.at(input);
  std::int64_t uses = 0;
  for (const Node& reader : graph.nodes) {
    uses += std::count(reader.inputs.begin(), reader.inputs.end(), name);
    const std::vector<std::string> captured = captured_values(reader);
    uses += std::count(captured.begin(), captured.end(), name);
  }
  if (uses <= 1 && !is_graph_output(graph, name)) return name;
  std::string own = graph.add_constant(name + "_own", graph.constants.at(name));
  graph.nodes[node].inputs[input] = own;
  return own;
}

std::string ensure_bias(Graph& graph, std::size_t node, std::int64_t channels) {
  Node& target = graph.nodes[node];
  if (!target.input(2).empty()) return target.input(2);
  const std::string base = (target.name.empty() ? target.output(0) : target.name) + ".bias";
  std::vector<float> zeros(static_cast<std::size_t>(channels), 0.0f);
  std::string name = graph.add_constant(base, TensorData::from<float>({channels}, std::move(zeros)));
  target.inputs.resize(3);
  target.inputs[2] = name;
  return name;
}

}  // namespace lithe
