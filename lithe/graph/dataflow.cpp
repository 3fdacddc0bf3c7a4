#include "lithe/graph/dataflow.h"

#include <algorithm>
#include <functional>
#include <queue>
#include <unordered_set>

#include "lithe/base/error.h"

namespace lithe {
namespace {

std::string choose_main_input(const Graph& graph) {
  std::string best;
  std::size_t best_rank = 0;
  const auto required = graph.required_inputs();
  for (const ValueInfo* input : required) {
    if (!is_float(input->dtype)) continue;
    const std::size_t rank = input->shape ? input->shape->size() : 1;
    if (best.empty() || rank > best_rank) {
      best = input->name;
      best_rank = rank;
    }
  }
  if (best.empty() && !required.empty()) best = required.front()->name;
  return best;
}

/// Reads only the size of its input.
bool reads_only_sizes(const Node& node) {
  return node.is("Shape") || node.is("Size");
}

}  // namespace

DataFlow::DataFlow(const Graph& graph) : graph(graph), index(graph), main_input(choose_main_input(graph)) {
  const std::size_t count = graph.nodes.size();
  data_.resize(count);
  conditioned_.resize(count);
  inputs_.resize(count);
  weights_.resize(count);
  std::unordered_set<std::string> other_inputs;
  for (const ValueInfo* input : graph.required_inputs())
    if (input->name != main_input) other_inputs.insert(input->name);
  for (std::size_t i = 0; i < count; ++i) {
    const Node& node = graph.nodes[i];
    weights_[i] = find_weight(graph, index, node);
    bool conditioned = false;
    for (const std::string& name : all_reads(node)) {
      const int maker = index.producer(name);
      if (maker >= static_cast<int>(i))
        fail("{} stands before the node that makes '{}'", describe(node), name);
      if (reads_only_sizes(node)) continue;
      const bool from_data = maker >= 0 ? data_[static_cast<std::size_t>(maker)] : name == main_input;
      if (from_data && std::find(inputs_[i].begin(), inputs_[i].end(), name) == inputs_[i].end())
        inputs_[i].push_back(name);
      conditioned = conditioned || (maker >= 0 ? conditioned_[static_cast<std::size_t>(maker)]
                                               : other_inputs.contains(name));
    }
    // In the order in which the node lists them; captured values last.
    std::stable_sort(inputs_[i].begin(), inputs_[i].end(), [&](const std::string& a, const std::string& b) {
      const auto place = [&](const std::string& name) {
        return std::find(node.inputs.begin(), node.inputs.end(), name) - node.inputs.begin();
      };
      return place(a) < place(b);
    });
    data_[i] = !inputs_[i].empty();
    conditioned_[i] = conditioned && !data_[i];
  }
  // What no output needs is not on the path.
  std::vector<bool> needed(count, false);
  for (std::size_t i = count; i-- > 0;) {
    for (const std::string& name : graph.nodes[i].outputs) {
      if (name.empty()) continue;
      needed[i] = needed[i] || index.is_output(name);
      for (const int reader : index.consumers(name))
        needed[i] = needed[i] || (needed[static_cast<std::size_t>(reader)] &&
                                  !reads_only_sizes(graph.nodes[static_cast<std::size_t>(reader)]));
    }
    if (!needed[i]) data_[i] = false;
  }
}

bool DataFlow::is_data_value(const std::string& value) const {
  const int maker = index.producer(value);
  return maker >= 0 ? is_data(maker) : !value.empty() && value == main_input;
}

std::vector<int> DataFlow::data_consumers(const std::string& value) const {
  std::vector<int> readers;
  for (const int node : index.consumers(value))
    if (is_data(node)) readers.push_back(node);
  return readers;
}

std::vector<int> DataFlow::with_helpers(std::vector<int> nodes,
                                        const std::function<bool(int node)>& eligible) const {
  std::unordered_set<int> inside(nodes.begin(), nodes.end());
  std::priority_queue<int> candidates;  // latest first: a helper's readers are decided before it
  std::unordered_set<int> seen;
  const auto look_behind = [&](int node) {
    for (const std::string& name : all_reads(graph.nodes[static_cast<std::size_t>(node)])) {
      const int maker = index.producer(name);
      if (maker >= 0 && !is_data(maker) && (!eligible || eligible(maker)) && seen.insert(maker).second)
        candidates.push(maker);
    }
  };
  for (const int node : nodes) look_behind(node);
  while (!candidates.empty()) {
    const int node = candidates.top();
    candidates.pop();
    if (inside.contains(node)) continue;
    bool serves = true;
    for (const std::string& name : graph.nodes[static_cast<std::size_t>(node)].outputs) {
      if (name.empty()) continue;
      serves = serves && !index.is_output(name);
      for (const int reader : index.consumers(name)) serves = serves && inside.contains(reader);
    }
    if (!serves) continue;
    inside.insert(node);
    nodes.push_back(node);
    look_behind(node);
  }
  std::sort(nodes.begin(), nodes.end());
  return nodes;
}

bool follows_elementwise(const Node& node) {
  static const std::unordered_set<std::string_view> table{
      "Relu", "Clip",     "LeakyRelu", "PRelu", "Sigmoid",        "HardSigmoid",      "HardSwish",
      "Tanh", "Elu",      "Celu",      "Selu",  "QuantizeLinear", "DequantizeLinear", "Identity",
      "Mish", "Softplus", "Gelu",      "Swish", "Dropout"};
  return node.domain.empty() && table.contains(node.op_type);
}

std::string common_name(const Graph& graph, const std::vector<int>& nodes, const std::string& fallback) {
  std::string prefix;
  bool first = true;
  for (const int node : nodes) {
    const std::string& name = graph.nodes[static_cast<std::size_t>(node)].name;
    if (first) {
      prefix = name;
    } else {
      const auto end = std::mismatch(prefix.begin(), prefix.end(), name.begin(), name.end());
      // A prefix that ends where the other name goes on must end at a separator.
      prefix.erase(end.first, prefix.end());
    }
    first = false;
  }
  if (nodes.size() > 1) {
    const std::size_t separator = prefix.find_last_of("./");
    prefix = separator == std::string::npos ? "" : prefix.substr(0, separator);
  }
  return prefix.empty() ? fallback : prefix;
}

}  // namespace lithe
