#include "lithe/quantize/placement.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <unordered_map>
#include <unordered_set>

namespace lithe {
namespace {

bool is_absorbed(const Node& node) {
  return node.is("Relu") || node.is("Clip");
}

bool is_activation(const Node& node) {
  static const std::unordered_set<std::string> names{
      "Relu", "Clip", "LeakyRelu", "PRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Elu", "Mish"};
  return node.domain.empty() && names.contains(node.op_type);
}

/// Operators that only move elements (or pick one of several): codes stay what they are.
bool is_mover(const Graph& graph, const Node& node) {
  static const std::unordered_set<std::string> names{"MaxPool",   "GlobalMaxPool", "Reshape",      "Flatten",
                                                     "Transpose", "Squeeze",       "Slice",        "Split",
                                                     "Unsqueeze", "DepthToSpace",  "SpaceToDepth", "Expand"};
  if (!node.domain.empty()) return false;
  if (node.is("Resize")) return node.attr("mode", "nearest") == "nearest";
  if (node.is("Pad")) {
    // Zeros are representable; another constant might not be in the range.
    if (node.attr("mode", "constant") != "constant" || node.input(2).empty()) return true;
    const TensorData* fill = graph.constant(node.input(2));
    return fill && fill->count() == 1 && fill->to_doubles()[0] == 0;
  }
  return names.contains(node.op_type);
}

bool is_average(const Node& node) {
  return node.is("AveragePool") || node.is("GlobalAveragePool") || node.is("ReduceMean");
}

class Planner {
 public:
  Planner(const Graph& graph, const std::vector<Layer>& layers, Target target, int other_bits,
          int attention_bits)
      : graph_(graph),
        index_(graph),
        layers_(layers),
        target_(target),
        other_bits_(other_bits),
        attention_bits_(attention_bits) {
    for (const Layer& layer : layers_)
      if (layer.activation_bits != kFloatBits) active_.emplace(layer.node, &layer);
  }

  void academic() {
    for (const auto& [node, layer] : active_) mark(layer->input, layer->activation_bits);
    if (attention_bits_ == kFloatBits) return;
    for (const std::string& name : attention_operands(graph_)) mark(name, attention_bits_);
  }

  void deploy() {
    academic();
    if (other_bits_ == kFloatBits) return;
    find_integer_values();
    for (const auto& [i, layer] : active_) mark_layer_output(graph_.nodes[i], *layer);
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) mark_operator(graph_.nodes[i]);
    share_parameters();
  }

  std::vector<ActivationPoint> points() {
    std::vector<ActivationPoint> result;
    std::map<std::string, std::size_t> groups;
    const auto add = [&](const std::string& value) {
      const auto found = bits_.find(value);
      if (found == bits_.end()) return;
      const std::size_t group = groups.emplace(root(value), groups.size()).first->second;
      result.push_back({.value = value, .bits = found->second, .group = group});
    };
    for (const ValueInfo* input : graph_.required_inputs()) add(input->name);
    for (const Node& node : graph_.nodes)
      for (const std::string& value : node.outputs) add(value);
    // A shared quantiser has one number of bits.
    std::map<std::size_t, int> most;
    for (const ActivationPoint& point : result) most[point.group] = std::max(most[point.group], point.bits);
    for (ActivationPoint& point : result) point.bits = most[point.group];
    return result;
  }

 private:
  bool mark(const std::string& value, int bits) {
    if (value.empty() || graph_.is_constant(value)) return false;
    const auto [place, fresh] = bits_.emplace(value, bits);
    place->second = std::max(place->second, bits);
    return fresh;
  }
  bool marked(const std::string& value) const { return bits_.contains(value); }
  bool is_read(const std::string& value) const { return !index_.consumers(value).empty(); }

  std::vector<std::string> data_inputs(const Node& node) const {
    std::vector<std::string> data;
    for (const std::string& name : node.inputs)
      if (!name.empty() && !graph_.is_constant(name)) data.push_back(name);
    return data;
  }

  bool is_join(const Node& node) const {
    if (!node.is("Add") && !node.is("Mul") && !node.is("Sub") && !node.is("Concat") && !node.is("MatMul"))
      return false;
    return data_inputs(node).size() >= 2;
  }

  /// Values that integer kernels can make if their inputs are integers.
  void find_integer_values() {
    for (const ValueInfo* input : graph_.required_inputs())
      if (marked(input->name)) integer_.insert(input->name);
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      const Node& node = graph_.nodes[i];
      bool integer = active_.contains(i);
      if (is_activation(node) || is_mover(graph_, node) || is_average(node))
        integer = integer || integer_.contains(node.input(0));
      if (is_join(node)) {
        const std::vector<std::string> data = data_inputs(node);
        integer =
            std::all_of(data.begin(), data.end(), [&](const auto& name) { return integer_.contains(name); });
      }
      if (!integer) continue;
      for (const std::string& value : node.outputs) integer_.insert(value);
    }
  }

  /// The value behind the Relu or Clip that the quantiser takes in, if the layer feeds nothing else.
  std::string behind_activation(const std::string& value) const {
    if (index_.is_output(value) || index_.consumers(value).size() != 1) return value;
    const Node& reader = graph_.nodes[static_cast<std::size_t>(index_.consumers(value)[0])];
    return is_absorbed(reader) && reader.input(0) == value ? reader.output(0) : value;
  }

  void mark_layer_output(const Node& node, const Layer& layer) {
    if (layer.last || !(node.is("Conv") || node.is("ConvTranspose"))) return;
    if (target_ == Target::TensorRt && feeds_addition(layer.output)) return;
    const std::string value = behind_activation(layer.output);
    if (is_read(value)) mark(value, other_bits_);
  }

  /// Whether the only reader is the Add of a residual connection with which TensorRT fuses this layer.
  bool feeds_addition(const std::string& value) const {
    if (index_.is_output(value) || index_.consumers(value).size() != 1) return false;
    const Node& reader = graph_.nodes[static_cast<std::size_t>(index_.consumers(value)[0])];
    return reader.is("Add") && is_join(reader) && main_operand(reader) == value;
  }

  /// The operand of an Add that a layer makes for it alone; of two, the one with more layers behind it.
  std::string main_operand(const Node& add) const {
    std::string best;
    int most = -1;
    for (const std::string& name : data_inputs(add)) {
      const int producer = index_.producer(name);
      if (producer < 0 || !active_.contains(static_cast<std::size_t>(producer)) || index_.is_output(name) ||
          index_.consumers(name).size() != 1)
        continue;
      if (const int depth = layers_behind(name); depth > most) {
        most = depth;
        best = name;
      }
    }
    return best;
  }

  int layers_behind(const std::string& value) const {
    if (depth_.empty())
      for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
        int depth = 0;
        for (const std::string& name : graph_.nodes[i].inputs)
          if (const auto found = depth_.find(name); found != depth_.end())
            depth = std::max(depth, found->second);
        if (active_.contains(i)) ++depth;
        for (const std::string& name : graph_.nodes[i].outputs) depth_[name] = depth;
      }
    const auto found = depth_.find(value);
    return found == depth_.end() ? 0 : found->second;
  }

  void mark_operator(const Node& node) {
    if (node.outputs.empty() || !integer_.contains(node.output(0))) return;
    if (is_join(node)) {
      const std::string skip =
          target_ == Target::TensorRt && node.is("Add") ? main_operand(node) : std::string();
      const bool own = node.is("MatMul") && attention_bits_ != kFloatBits;  // has bits of its own
      for (const std::string& name : data_inputs(node))
        if (name != skip && !own) mark(name, other_bits_);
      if (node.is("Concat") && is_read(node.output(0))) mark(node.output(0), other_bits_);
    }
    if (node.is("MaxPool") || is_average(node)) {
      mark(node.input(0), other_bits_);
      if (is_read(node.output(0))) mark(node.output(0), other_bits_);
    }
  }

  void share_parameters() {
    // A mover between a quantised and a float value extends the integer region over itself.
    for (bool changed = true; changed;) {
      changed = false;
      for (const Node& node : graph_.nodes) {
        if (node.outputs.empty() || !is_mover(graph_, node) || !integer_.contains(node.input(0))) continue;
        bool any = marked(node.input(0));
        for (const std::string& value : node.outputs) any = any || marked(value);
        if (!any) continue;
        changed = mark(node.input(0), other_bits_) || changed;
        for (const std::string& value : node.outputs)
          if (is_read(value)) changed = mark(value, other_bits_) || changed;
      }
    }
    for (const Node& node : graph_.nodes) {
      if (node.outputs.empty()) continue;
      if (is_mover(graph_, node) && marked(node.input(0)))
        for (const std::string& value : node.outputs)
          if (marked(value)) join(node.input(0), value);
      if (node.is("Concat") && integer_.contains(node.output(0)))
        for (const std::string& name : data_inputs(node)) {
          join(name, data_inputs(node).front());
          if (marked(node.output(0))) join(name, node.output(0));
        }
    }
  }

  std::string root(const std::string& value) const {
    std::string top = value;
    for (auto found = parent_.find(top); found != parent_.end(); found = parent_.find(top))
      top = found->second;
    return top;
  }
  void join(const std::string& a, const std::string& b) {
    const std::string x = root(a), y = root(b);
    if (x != y) parent_[x] = y;
  }

  const Graph& graph_;
  GraphIndex index_;
  const std::vector<Layer>& layers_;
  Target target_;
  int other_bits_, attention_bits_;
  std::map<std::size_t, const Layer*> active_;  // by node
  std::unordered_map<std::string, int> bits_;
  std::unordered_set<std::string> integer_;
  std::unordered_map<std::string, std::string> parent_;
  mutable std::unordered_map<std::string, int> depth_;
};

}  // namespace

std::vector<std::string> attention_operands(const Graph& graph) {
  std::vector<std::string> operands;
  for (const Node& node : graph.nodes) {
    if (!node.is("MatMul") || graph.is_constant(node.input(0)) || graph.is_constant(node.input(1))) continue;
    operands.insert(operands.end(), {node.input(0), node.input(1)});
  }
  return operands;
}

std::vector<ActivationPoint> place_activations(const Graph& graph, const std::vector<Layer>& layers,
                                               PlacementStyle style, Target target, int other_bits,
                                               int attention_bits) {
  Planner planner(graph, layers, target, other_bits, attention_bits);
  if (style == PlacementStyle::Academic)
    planner.academic();
  else
    planner.deploy();
  return planner.points();
}

}  // namespace lithe
