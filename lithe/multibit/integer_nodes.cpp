#include "lithe/multibit/integer_nodes.h"

#include <algorithm>
#include <set>

#include "lithe/base/error.h"
#include "lithe/multibit/multibit_info.h"

namespace lithe {
namespace {

constexpr std::int64_t kLeastOpset = 13;

}  // namespace

Node& NodeChain::then(const char* type, std::vector<std::string> others, const char* name) {
  Node node{.name = prefix_ + "/" + name, .op_type = type};
  node.inputs = {value_};
  node.inputs.insert(node.inputs.end(), others.begin(), others.end());
  node.outputs = {node.name};
  value_ = node.name;
  nodes_.push_back(std::move(node));
  return nodes_.back();
}

void NodeChain::finish(const std::string& name) {
  nodes_.back().outputs[0] = name;
  value_ = name;
}

std::string add_scalar(Graph& graph, const std::string& name, float value) {
  graph.constants[name] = TensorData::scalar(value);
  return name;
}

std::string add_by_channel(Graph& graph, const std::string& name, const std::vector<float>& values,
                           std::size_t rank) {
  std::vector<std::int64_t> shape(rank, 1);
  shape[1] = static_cast<std::int64_t>(values.size());
  graph.constants[name] = TensorData::from<float>(std::move(shape), values);
  return name;
}

void add_codes(Graph& graph, NodeChain& chain, const std::string& prefix, const BoundQuantizeSpec& spec) {
  const std::string zero = add_scalar(graph, "codes/zero", 0), one = add_scalar(graph, "codes/one", 1);
  chain.then("Sub", {add_scalar(graph, prefix + "/low", spec.low)}, "above");
  chain.then("Div", {add_scalar(graph, prefix + "/width", spec.width)}, "place");
  chain.then("Clip", {zero, one}, "clipped");
  chain.then("Mul", {add_scalar(graph, fmt::format("codes/levels{}", spec.levels), spec.levels)}, "steps");
  chain.then("Round", {}, "rounded");
  chain.then("Cast", {}, "codes").attributes["to"] = static_cast<std::int64_t>(DType::UInt8);
}

void take_geometry(Node& node, const Node& conv) {
  for (const char* name : {"auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"})
    if (const auto found = conv.attributes.find(name); found != conv.attributes.end())
      node.attributes[name] = found->second;
}

Graph graph_to_deploy(const Graph& graph, int bits) {
  if (graph.opset() < kLeastOpset)
    fail("the model '{}' is of opset {}; integer models need {} or later", graph.name, graph.opset(),
         kLeastOpset);
  return extract_bits(graph, bits);
}

std::vector<Node> replace_layers(
    const Graph& source, const std::vector<IntegerLayer>& layers,
    const std::function<void(const IntegerLayer& layer, std::vector<Node>& nodes)>& write) {
  std::set<std::string> replaced;
  for (const IntegerLayer& layer : layers) {
    replaced.insert(source.nodes[static_cast<std::size_t>(layer.conv)].output(0));
    replaced.insert(source.nodes[static_cast<std::size_t>(layer.activation)].output(0));
    replaced.insert(layer.codes_name);
  }
  std::vector<Node> nodes;
  for (std::size_t i = 0; i < source.nodes.size(); ++i) {
    const auto layer = std::find_if(layers.begin(), layers.end(),
                                    [&](const IntegerLayer& one) { return one.norm == static_cast<int>(i); });
    if (layer != layers.end())
      write(*layer, nodes);
    else if (!replaced.contains(source.nodes[i].output(0)))
      nodes.push_back(source.nodes[i]);
  }
  return nodes;
}

void clean_deployed(Graph& graph) {
  std::erase_if(graph.header.functions,
                [](const Function& one) { return one.domain == "lithe" && one.name == "BoundQuantize"; });
  graph.header.opsets.erase("lithe");
  graph.values.clear();
  graph.sort();
  graph.remove_dead();
  graph.validate();
}

}  // namespace lithe
