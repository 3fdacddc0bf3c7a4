#include "lithe/quantize/reconstruct/simulated_graph.h"

#include <algorithm>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "lithe/base/error.h"
#include "lithe/ops/registry.h"

namespace lithe {
namespace {

constexpr const char* kLitheDomain = "lithe";

class Simulator {
 public:
  Simulator(const Graph& graph, const QdqPlan& plan, bool composed) : plan_(plan), composed_(composed) {
    result_.graph = graph;
    for (const Layer& layer : plan.layers) layer_at_.emplace(layer.node, &layer);
    for (std::size_t i = 0; i < plan.activations.size(); ++i)
      activation_at_.emplace(plan.activations[i].value, i);
  }

  SimulatedGraph run() {
    Graph& graph = result_.graph;
    graph.header.opsets.emplace(kLitheDomain, 1);
    std::map<std::size_t, std::size_t> weight_at;
    for (std::size_t i = 0; i < plan_.weights.size(); ++i) {
      const QuantizedWeight& weight = plan_.weights[i];
      result_.weights.push_back(graph.add_constant(
          weight.constant + "/rounded", to_tensor_data(decode(weight.quantizer, weight.codes).contiguous())));
      for (const std::size_t layer : weight.layers) weight_at.emplace(plan_.layers[layer].node, i);
    }
    result_.scales.resize(plan_.activations.size());
    result_.drops.resize(plan_.activations.size());
    result_.quantizers.resize(plan_.activations.size(), -1);
    const std::vector<ValueInfo> inputs = graph.inputs;
    std::vector<Node> nodes = graph.nodes;
    names_.clear();
    for (std::size_t i = 0; i < plan_.activations.size(); ++i)
      names_.push_back(graph.unique_name(plan_.activations[i].value + "/fake_quantized"));
    graph.nodes.clear();
    for (const ValueInfo& input : inputs) quantize(input.name);
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      Node node = std::move(nodes[i]);
      redirect(node, i);
      if (const auto found = weight_at.find(i); found != weight_at.end())
        node.inputs[layer_at_.at(i)->weight_index] = result_.weights[found->second];
      result_.node_of.push_back(static_cast<int>(graph.nodes.size()));
      const std::vector<std::string> outputs = node.outputs;
      graph.nodes.push_back(std::move(node));
      for (const std::string& value : outputs) quantize(value);
    }
    return std::move(result_);
  }

 private:
  void redirect(Node& node, std::size_t index) const {
    if (node.is("Shape") || node.is("Size")) return;
    const auto layer = layer_at_.find(index);
    if (layer != layer_at_.end() && layer->second->activation_bits == kFloatBits) return;
    for (std::string& name : node.inputs)
      if (const auto found = quantized_.find(name); found != quantized_.end()) name = found->second;
  }

  void quantize(const std::string& value) {
    const auto found = activation_at_.find(value);
    if (value.empty() || found == activation_at_.end()) return;
    const std::size_t index = found->second;
    const Quantizer& quantizer = plan_.activations[index].quantizer;
    Graph& graph = result_.graph;
    const std::string& name = names_[index];
    result_.scales[index] = graph.add_constant(value + "/scale", to_tensor_data(quantizer.scale.reshape({})));
    result_.drops[index] = graph.add_constant(
        value + "/drop", TensorData::from<std::int64_t>({2}, std::vector<std::int64_t>{0, 65536}));
    Node node{.name = name, .op_type = "FakeQuantize", .domain = kLitheDomain};
    if (const auto& subset = plan_.activations[index].subset) {
      node = subset_node(graph, *subset, name, value, name, true, result_.drops[index]);
    } else {
      node.inputs = {value, result_.scales[index],
                     graph.add_constant(value + "/zero", to_tensor_data(quantizer.zero_point.reshape({}))),
                     result_.drops[index]};
      node.outputs = {name};
      node.attributes["low"] = quantizer.codes.low;
      node.attributes["high"] = quantizer.codes.high;
      if (composed_) node.attributes["composed"] = std::int64_t{1};
    }
    result_.quantizers[index] = static_cast<int>(graph.nodes.size());
    graph.nodes.push_back(std::move(node));
    quantized_.emplace(value, name);
    result_.float_of.emplace(name, value);
    result_.activation_of.emplace(name, index);
  }

  const QdqPlan& plan_;
  bool composed_;
  SimulatedGraph result_;
  std::unordered_map<std::size_t, const Layer*> layer_at_;
  std::unordered_map<std::string, std::size_t> activation_at_;
  std::unordered_map<std::string, std::string> quantized_;
  std::vector<std::string> names_;  // of the quantised values
};

/// What a set of nodes reads from outside (no constants), and what others read of it.
struct Border {
  std::vector<std::string> inputs, outputs;
};

Border border_of(const Graph& graph, const GraphIndex& index, const std::vector<int>& nodes) {
  const std::unordered_set<int> inside(nodes.begin(), nodes.end());
  std::set<std::string> seen;
  Border border;
  for (const int i : nodes) {
    const Node& node = graph.nodes[static_cast<std::size_t>(i)];
    for (const std::string& name : all_reads(node))
      if (!graph.is_constant(name) && !inside.contains(index.producer(name)) && seen.insert(name).second)
        border.inputs.push_back(name);
    for (const std::string& name : node.outputs) {
      if (name.empty()) continue;
      const auto& readers = index.consumers(name);
      if (index.is_output(name) ||
          std::any_of(readers.begin(), readers.end(), [&](int reader) { return !inside.contains(reader); }))
        border.outputs.push_back(name);
    }
  }
  return border;
}

/// The slice of each node of the float graph.
std::vector<int> assign_slices(const Graph& graph, const GraphIndex& index, const std::vector<Unit>& units,
                               const std::vector<std::vector<int>>& groups) {
  const int last = static_cast<int>(groups.size()) - 1;
  std::vector<int> slice(graph.nodes.size(), -1);
  for (int group = last; group >= 0; --group)
    for (const int unit : groups[static_cast<std::size_t>(group)])
      for (const int node : units[static_cast<std::size_t>(unit)].nodes)
        slice[static_cast<std::size_t>(node)] = group;
  for (std::size_t i = graph.nodes.size(); i-- > 0;) {
    if (slice[i] >= 0) continue;
    slice[i] = last;
    for (const std::string& name : graph.nodes[i].outputs)
      if (!name.empty())
        for (const int reader : index.consumers(name))
          slice[i] = std::min(slice[i], slice[static_cast<std::size_t>(reader)]);
  }
  return slice;
}

}  // namespace

const std::string& SimulatedGraph::original(const std::string& value) const {
  const auto found = float_of.find(value);
  return found == float_of.end() ? value : found->second;
}

SimulatedGraph simulate(const Graph& graph, const QdqPlan& plan, bool composed) {
  return Simulator(graph, plan, composed).run();
}

std::vector<Slice> make_slices(const Graph& graph, const SimulatedGraph& simulated,
                               const std::vector<Unit>& units, const std::vector<std::vector<int>>& groups) {
  const GraphIndex index(graph), simulated_index(simulated.graph);
  const std::vector<int> slice_of = assign_slices(graph, index, units, groups);
  std::vector<std::vector<int>> nodes(groups.size()), simulated_nodes(groups.size());
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const auto slice = static_cast<std::size_t>(slice_of[i]);
    nodes[slice].push_back(static_cast<int>(i));
    simulated_nodes[slice].push_back(simulated.node_of[i]);
  }
  std::vector<Slice> slices(groups.size());
  for (std::size_t a = 0; a < simulated.quantizers.size(); ++a) {
    const int node = simulated.quantizers[a];
    if (node < 0) continue;
    const int maker = index.producer(simulated.graph.nodes[static_cast<std::size_t>(node)].input(0));
    if (maker < 0) continue;  // of a graph input: before all slices
    const auto slice = static_cast<std::size_t>(slice_of[static_cast<std::size_t>(maker)]);
    simulated_nodes[slice].push_back(node);
    slices[slice].activations.push_back(a);
  }
  for (std::size_t s = 0; s < slices.size(); ++s) {
    std::sort(simulated_nodes[s].begin(), simulated_nodes[s].end());
    Slice& slice = slices[s];
    slice.units = groups[s];
    for (const int unit : groups[s]) {
      const Unit& one = units[static_cast<std::size_t>(unit)];
      slice.name += (slice.name.empty() ? "" : " + ") + one.name;
      slice.layers.insert(slice.layers.end(), one.layers.begin(), one.layers.end());
    }
    const Border plain = border_of(graph, index, nodes[s]);
    const Border quantized = border_of(simulated.graph, simulated_index, simulated_nodes[s]);
    slice.float_inputs = plain.inputs;
    slice.float_outputs = plain.outputs;
    slice.inputs = quantized.inputs;
    slice.outputs = quantized.outputs;
  }
  return slices;
}

}  // namespace lithe
