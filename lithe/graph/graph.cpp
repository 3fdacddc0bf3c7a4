#include "lithe/graph/graph.h"

#include <algorithm>
#include <functional>
#include <queue>
#include <set>
#include <unordered_set>

#include "lithe/base/error.h"

namespace lithe {
namespace {

const std::string kNone;

template <typename T>
const T* attribute_as(const Node& node, std::string_view name, std::string_view wanted) {
  const auto found = node.attributes.find(name);
  if (found == node.attributes.end()) return nullptr;
  const T* value = std::get_if<T>(&found->second);
  if (!value) fail("{}: attribute '{}' is not {}", describe(node), name, wanted);
  return value;
}

template <typename F>
void for_each_subgraph(const Node& node, F&& visit) {
  for (const auto& [name, attribute] : node.attributes) {
    if (const auto* one = std::get_if<GraphPtr>(&attribute)) visit(**one);
    if (const auto* many = std::get_if<std::vector<GraphPtr>>(&attribute))
      for (const GraphPtr& graph : *many) visit(*graph);
  }
}

void collect_free_names(const Graph& graph, std::set<std::string>& free) {
  std::unordered_set<std::string> bound;
  for (const ValueInfo& input : graph.inputs) bound.insert(input.name);
  for (const auto& [name, value] : graph.constants) bound.insert(name);
  const auto read = [&](const std::string& name) {
    if (!name.empty() && !bound.contains(name)) free.insert(name);
  };
  for (const Node& node : graph.nodes) {
    for (const std::string& name : node.inputs) read(name);
    for (const std::string& name : captured_values(node)) read(name);
    for (const std::string& name : node.outputs) bound.insert(name);
  }
  for (const ValueInfo& output : graph.outputs) read(output.name);
}

void collect_names(const Graph& graph, std::unordered_set<std::string>& names) {
  for (const ValueInfo& value : graph.inputs) names.insert(value.name);
  for (const ValueInfo& value : graph.outputs) names.insert(value.name);
  for (const auto& [name, value] : graph.constants) names.insert(name);
  for (const Node& node : graph.nodes) {
    names.insert(node.outputs.begin(), node.outputs.end());
    for_each_subgraph(node, [&](const Graph& inner) { collect_names(inner, names); });
  }
}

void rename_reads(Node& node, const std::string& from, const std::string& to);

GraphPtr with_renamed_reads(const GraphPtr& graph, const std::string& from, const std::string& to) {
  std::set<std::string> free;
  collect_free_names(*graph, free);
  if (!free.contains(from)) return graph;
  Graph copy = *graph;
  for (Node& node : copy.nodes) rename_reads(node, from, to);
  for (ValueInfo& output : copy.outputs)
    if (output.name == from) output.name = to;
  return std::make_shared<const Graph>(std::move(copy));
}

void rename_reads(Node& node, const std::string& from, const std::string& to) {
  std::replace(node.inputs.begin(), node.inputs.end(), from, to);
  for (auto& [name, attribute] : node.attributes) {
    if (auto* one = std::get_if<GraphPtr>(&attribute)) *one = with_renamed_reads(*one, from, to);
    if (auto* many = std::get_if<std::vector<GraphPtr>>(&attribute))
      for (GraphPtr& graph : *many) graph = with_renamed_reads(graph, from, to);
  }
}

/// A topological order of the nodes that keeps the present order where it is free.
std::vector<int> topological_order(const Graph& graph) {
  const GraphIndex index(graph);
  const int count = static_cast<int>(graph.nodes.size());
  std::vector<int> missing(static_cast<std::size_t>(count), 0);
  std::vector<std::vector<int>> unlocks(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) {
    std::set<int> makers;
    for (const std::string& name : all_reads(graph.nodes[static_cast<std::size_t>(i)]))
      if (const int maker = index.producer(name); maker >= 0) makers.insert(maker);
    missing[static_cast<std::size_t>(i)] = static_cast<int>(makers.size());
    for (const int maker : makers) unlocks[static_cast<std::size_t>(maker)].push_back(i);
  }
  std::priority_queue<int, std::vector<int>, std::greater<>> ready;
  for (int i = 0; i < count; ++i)
    if (missing[static_cast<std::size_t>(i)] == 0) ready.push(i);
  std::vector<int> order;
  while (!ready.empty()) {
    const int next = ready.top();
    ready.pop();
    order.push_back(next);
    for (const int i : unlocks[static_cast<std::size_t>(next)])
      if (--missing[static_cast<std::size_t>(i)] == 0) ready.push(i);
  }
  if (static_cast<int>(order.size()) != count) {
    const auto stuck = std::find_if(missing.begin(), missing.end(), [](int m) { return m > 0; });
    fail("the graph is cyclic: {} depends on its own output",
         describe(graph.nodes[static_cast<std::size_t>(stuck - missing.begin())]));
  }
  return order;
}

/// What `validate` promises, for a graph nested in others that make the values `outer`.
void check(const Graph& graph, const std::unordered_set<std::string>& outer) {
  std::unordered_set<std::string> made = outer;
  std::unordered_set<std::string> own;
  for (const ValueInfo& input : graph.inputs)
    if (!own.insert(input.name).second)
      fail("two inputs of graph '{}' are called '{}'", graph.name, input.name);
  for (const auto& [name, value] : graph.constants) own.insert(name);
  for (const Node& node : graph.nodes)
    for (const std::string& output : node.outputs)
      if (!output.empty() && !own.insert(output).second)
        fail("{}: the value '{}' has a maker already", describe(node), output);
  made.insert(own.begin(), own.end());
  // The names of sparse constants are not interpreted, so reads cannot be checked beside them.
  if (graph.sparse_constants.empty()) {
    for (const Node& node : graph.nodes)
      for (const std::string& name : all_reads(node))
        if (!made.contains(name)) fail("{}: reads '{}', which nothing makes", describe(node), name);
    for (const ValueInfo& output : graph.outputs)
      if (!made.contains(output.name)) fail("the graph output '{}' is made by no node", output.name);
  }
  topological_order(graph);
  for (const Node& node : graph.nodes)
    for_each_subgraph(node, [&](const Graph& inner) { check(inner, made); });
}

}  // namespace

const std::string& Node::input(std::size_t index) const {
  return index < inputs.size() ? inputs[index] : kNone;
}
const std::string& Node::output(std::size_t index) const {
  return index < outputs.size() ? outputs[index] : kNone;
}

std::int64_t Node::attr(std::string_view name, std::int64_t fallback) const {
  const auto* value = attribute_as<std::int64_t>(*this, name, "an integer");
  return value ? *value : fallback;
}

float Node::attr(std::string_view name, float fallback) const {
  const auto* value = attribute_as<float>(*this, name, "a float");
  return value ? *value : fallback;
}

std::string Node::attr(std::string_view name, const char* fallback) const {
  const auto* value = attribute_as<std::string>(*this, name, "a string");
  return value ? *value : fallback;
}

std::vector<std::int64_t> Node::attr(std::string_view name, std::vector<std::int64_t> fallback) const {
  const auto* value = attribute_as<std::vector<std::int64_t>>(*this, name, "a list of integers");
  if (value) return *value;
  return fallback;
}

std::string describe(const Node& node) {
  const std::string type = node.domain.empty() ? node.op_type : node.domain + "." + node.op_type;
  if (!node.name.empty()) return fmt::format("{} node '{}'", type, node.name);
  return fmt::format("{} node that makes '{}'", type, node.output(0));
}

std::string format_type(const ValueInfo& value) {
  if (!value.other_type.empty()) return "not a tensor";
  std::string text{dtype_name(value.dtype)};
  if (!value.shape) return text;
  text += " [";
  for (std::size_t i = 0; i < value.shape->size(); ++i) {
    const Dim& dim = (*value.shape)[i];
    if (i > 0) text += ", ";
    text += dim.known() ? std::to_string(dim.value) : dim.symbol.empty() ? "?" : dim.symbol;
  }
  return text + "]";
}

const TensorData* Graph::constant(std::string_view value) const {
  const auto found = constants.find(value);
  return found == constants.end() ? nullptr : &found->second;
}

const ValueInfo* Graph::info(std::string_view value) const {
  if (const auto found = values.find(value); found != values.end()) return &found->second;
  for (const auto* list : {&inputs, &outputs})
    for (const ValueInfo& one : *list)
      if (one.name == value) return &one;
  return nullptr;
}

std::vector<const ValueInfo*> Graph::required_inputs() const {
  std::vector<const ValueInfo*> required;
  for (const ValueInfo& input : inputs)
    if (!is_constant(input.name)) required.push_back(&input);
  return required;
}

std::int64_t Graph::opset(std::string_view domain) const {
  const auto found = header.opsets.find(domain);
  return found == header.opsets.end() ? 0 : found->second;
}

const Function* Graph::function_of(const Node& node) const {
  for (const Function& function : header.functions)
    if (function.name == node.op_type && function.domain == node.domain && function.overload == node.overload)
      return &function;
  return nullptr;
}

std::string Graph::unique_name(std::string_view base) const {
  std::unordered_set<std::string> taken;
  collect_names(*this, taken);
  std::string candidate{base};
  for (int suffix = 1; taken.contains(candidate); ++suffix) candidate = fmt::format("{}_{}", base, suffix);
  return candidate;
}

std::string Graph::add_constant(std::string_view base, TensorData value) {
  std::string unique = unique_name(base);
  constants.emplace(unique, std::move(value));
  return unique;
}

void Graph::replace_uses(const std::string& from, const std::string& to) {
  for (Node& node : nodes) rename_reads(node, from, to);
}

void Graph::sort() {
  std::vector<Node> sorted;
  sorted.reserve(nodes.size());
  for (const int i : topological_order(*this))
    sorted.push_back(std::move(nodes[static_cast<std::size_t>(i)]));
  nodes = std::move(sorted);
}

void Graph::remove_dead() {
  std::unordered_set<std::string> needed;
  for (const ValueInfo& output : outputs) needed.insert(output.name);
  std::vector<Node> kept;
  for (std::size_t i = nodes.size(); i-- > 0;) {
    Node& node = nodes[i];
    const bool used = std::any_of(node.outputs.begin(), node.outputs.end(),
                                  [&](const std::string& name) { return needed.contains(name); });
    if (!used) continue;
    for (const std::string& name : all_reads(node)) needed.insert(name);
    kept.push_back(std::move(node));
  }
  std::reverse(kept.begin(), kept.end());
  nodes = std::move(kept);
  std::erase_if(constants, [&](const auto& entry) { return !needed.contains(entry.first); });
  std::unordered_set<std::string> made;
  for (const Node& node : nodes) made.insert(node.outputs.begin(), node.outputs.end());
  std::erase_if(values, [&](const auto& entry) {
    return !made.contains(entry.first) && !needed.contains(entry.first);
  });
}

void Graph::validate() const {
  check(*this, {});
}

std::vector<std::string> captured_values(const Node& node) {
  std::set<std::string> free;
  for_each_subgraph(node, [&](const Graph& graph) { collect_free_names(graph, free); });
  return {free.begin(), free.end()};
}

std::vector<std::string> all_reads(const Node& node) {
  std::vector<std::string> reads = captured_values(node);
  for (const std::string& name : node.inputs)
    if (!name.empty()) reads.push_back(name);
  return reads;
}

GraphIndex::GraphIndex(const Graph& graph) {
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const int node = static_cast<int>(i);
    for (const std::string& name : graph.nodes[i].outputs)
      if (!name.empty()) entries_[name].producer = node;
    for (const std::string& name : all_reads(graph.nodes[i])) {
      std::vector<int>& readers = entries_[name].consumers;
      if (readers.empty() || readers.back() != node) readers.push_back(node);
    }
  }
  for (const ValueInfo& output : graph.outputs) entries_[output.name].output = true;
}

const GraphIndex::Entry* GraphIndex::find(std::string_view value) const {
  const auto found = entries_.find(value);
  return found == entries_.end() ? nullptr : &found->second;
}

int GraphIndex::producer(std::string_view value) const {
  const Entry* entry = find(value);
  return entry ? entry->producer : -1;
}

const std::vector<int>& GraphIndex::consumers(std::string_view value) const {
  static const std::vector<int> none;
  const Entry* entry = find(value);
  return entry ? entry->consumers : none;
}

bool GraphIndex::is_output(std::string_view value) const {
  const Entry* entry = find(value);
  return entry && entry->output;
}

}  // namespace lithe
