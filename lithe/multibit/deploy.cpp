#include "lithe/multibit/deploy.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <set>

#include "lithe/base/error.h"
#include "lithe/graph/shape_inference.h"
#include "lithe/multibit/integer_nodes.h"
#include "lithe/multibit/multibit_info.h"

namespace lithe {
namespace {

/// Weights -3, -1, 1 and 3, stored once under the name of what quantises them.
std::string add_weights(Graph& graph, const Graph& source, const IntegerLayer& layer) {
  std::string name = layer.codes_name + "/int8";
  if (graph.is_constant(name)) return name;
  std::vector<std::int8_t> values;
  for (const std::uint8_t code : weight_codes(source, layer))
    values.push_back(static_cast<std::int8_t>(2 * code - 3));
  graph.constants[name] = TensorData::from<std::int8_t>(layer.stored, std::move(values));
  return name;
}

void write_affine(Graph& graph, NodeChain& chain, const std::string& base, const ChannelAffine& affine,
                  std::size_t rank) {
  chain.then("Mul", {add_by_channel(graph, base + "/scale", affine.scale, rank)}, "scaled");
  chain.then("Add", {add_by_channel(graph, base + "/shift", affine.shift, rank)}, "shifted");
}

void write_layer(Graph& graph, const Graph& source, const IntegerLayer& layer, std::vector<Node>& nodes) {
  const Node& conv = source.nodes[static_cast<std::size_t>(layer.conv)];
  const std::string& base = conv.output(0);
  std::string weight = add_weights(graph, source, layer);
  if (layer.used != layer.stored) {
    Node part = source.nodes[static_cast<std::size_t>(GraphIndex(source).producer(conv.input(1)))];
    part.name = base + "/part";
    part.inputs[0] = weight;
    weight = part.outputs[0] = part.name;
    nodes.push_back(std::move(part));
  }
  NodeChain chain(nodes, base, layer.input);
  add_codes(graph, chain, base, layer.bounds);
  take_geometry(chain.then("ConvInteger", {weight}, "sums"), conv);
  chain.then("Cast", {}, "float").attributes["to"] = static_cast<std::int64_t>(DType::Float32);
  write_affine(graph, chain, base, layer.affine, layer.stored.size());
  chain.finish(layer.output);
}

/// Norms of the body that follow no quantised convolution: runtimes agree on a product and a sum, and not on
/// how a norm is computed.
void spell_norms_out(Graph& graph, const std::string& entry, const std::string& exit, std::size_t rank) {
  const std::vector<int> body = nodes_behind(graph, exit, entry);
  std::vector<Node> nodes;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    if (!node.is("BatchNormalization") ||
        !std::binary_search(body.begin(), body.end(), static_cast<int>(i))) {
      nodes.push_back(node);
      continue;
    }
    NodeChain chain(nodes, node.output(0), node.input(0));
    write_affine(graph, chain, node.output(0), fold_norm(graph, node), rank);
    chain.finish(node.output(0));
  }
  graph.nodes = std::move(nodes);
}

/// The graph of one bit-width with its body in whole numbers; what is no longer used is still there.
Graph in_whole_numbers(const Graph& graph, const std::string& entry, const BitPath& path) {
  const Graph source = graph_to_deploy(graph, path.bits);
  const std::vector<IntegerLayer> layers = integer_layers(source);
  Graph out = source;
  out.nodes = replace_layers(source, layers, [&](const IntegerLayer& layer, std::vector<Node>& nodes) {
    write_layer(out, source, layer, nodes);
  });
  spell_norms_out(out, entry, path.exit, layers.front().stored.size());
  out.values.clear();
  out.sort();
  return out;
}

GraphPtr sub_graph(std::string name, std::vector<Node> nodes, const std::string& output) {
  auto graph = std::make_shared<Graph>();
  graph->name = std::move(name);
  graph->nodes = std::move(nodes);
  graph->outputs = {{.name = output, .dtype = DType::Float32}};
  return graph;
}

/// What a bit-width that is not there gives: NaN, in the shape of the exit as far as it is known.
GraphPtr nothing(const Graph& graph, const std::string& exit) {
  Graph shaped = graph;
  infer_shapes(shaped);
  std::vector<std::int64_t> shape;
  if (const ValueInfo* info = shaped.info(exit); info && info->shape)
    for (const Dim& dim : *info->shape) shape.push_back(shape.empty() || !dim.known() ? 1 : dim.value);
  std::int64_t count = 1;
  for (const std::int64_t size : shape) count *= size;
  const std::string name = "not_trained/exit";
  Node constant{.name = name, .op_type = "Constant", .outputs = {name}};
  constant.attributes["value"] = TensorData::from<float>(
      shape, std::vector<float>(static_cast<std::size_t>(count), std::numeric_limits<float>::quiet_NaN()));
  return sub_graph("not_trained", {std::move(constant)}, name);
}

/// The cascade of If that makes one exit of those of all bit-widths.
class Selection {
 public:
  Selection(const Graph& graph, const std::vector<int>& bits)
      : graph_(graph), bits_(bits), info_(multibit_info(graph)), most_(info_.path(bits.back())) {}

  Graph write() {
    // Stem and head are those of the most bits.
    out_ = graph_to_deploy(graph_, most_.bits);
    keep_outside();
    const std::string exit = out_.unique_name("exit");
    out_.replace_uses(most_.exit, exit);
    out_.inputs.push_back({.name = "bits", .dtype = DType::Int64, .shape = DimVector{}});
    GraphPtr otherwise = nothing(graph_, most_.exit);
    for (const int bits : bits_) {
      const std::string name = fmt::format("choose{}", bits);
      const bool last = bits == most_.bits;
      std::vector<Node> nodes = choose(name, bits, otherwise, last ? exit : name + "/exit");
      if (last)
        for (Node& node : nodes) out_.nodes.push_back(std::move(node));
      else
        otherwise = sub_graph(name, std::move(nodes), name + "/exit");
    }
    name_scores();
    clean_deployed(out_);
    return std::move(out_);
  }

 private:
  /// Keeps the nodes that stem and head need.
  void keep_outside() {
    std::set<int> kept;
    for (const auto& part : {nodes_behind(out_, info_.entry), nodes_behind(out_, most_.output, most_.exit)})
      kept.insert(part.begin(), part.end());
    std::vector<Node> nodes;
    for (const int node : kept) {
      nodes.push_back(out_.nodes[static_cast<std::size_t>(node)]);
      outside_.insert(nodes.back().outputs.begin(), nodes.back().outputs.end());
    }
    out_.nodes = std::move(nodes);
  }

  /// Is it this bit-width, else what was there before?
  std::vector<Node> choose(const std::string& name, int bits, const GraphPtr& otherwise,
                           const std::string& exit) {
    const std::string number = name + "/bits";
    out_.constants[number] = TensorData::scalar<std::int64_t>(bits);
    Node equal{.name = name + "/equal",
               .op_type = "Equal",
               .inputs = {"bits", number},
               .outputs = {name + "/equal"}};
    Node choice{.name = name, .op_type = "If", .inputs = {name + "/equal"}, .outputs = {exit}};
    choice.attributes["then_branch"] = body(bits);
    choice.attributes["else_branch"] = otherwise;
    return {std::move(equal), std::move(choice)};
  }

  /// From the entry to the exit; constants go to the outer graph, where all bit-widths find them.
  GraphPtr body(int bits) {
    const BitPath& path = info_.path(bits);
    const Graph integer = in_whole_numbers(graph_, info_.entry, path);
    std::vector<Node> nodes;
    for (const int i : nodes_behind(integer, path.exit, info_.entry)) {
      const Node& node = integer.nodes[static_cast<std::size_t>(i)];
      if (outside_.contains(node.output(0))) continue;
      for (const std::string& read : all_reads(node))
        if (const TensorData* data = integer.constant(read)) out_.constants[read] = *data;
      nodes.push_back(node);
    }
    return sub_graph(fmt::format("bits{}", bits), std::move(nodes), path.exit);
  }

  /// The scores have no bit-width in their name.
  void name_scores() {
    const std::string plain = most_.output.substr(0, most_.output.rfind('@'));
    for (Node& node : out_.nodes)
      for (std::string& output : node.outputs)
        if (output == most_.output) output = plain;
    for (ValueInfo& output : out_.outputs)
      if (output.name == most_.output) output.name = plain;
  }

  const Graph& graph_;
  const std::vector<int>& bits_;
  const MultibitInfo info_;
  const BitPath& most_;
  Graph out_;
  std::set<std::string> outside_;  // values that stem and head make
};

}  // namespace

Graph deploy_static(const Graph& graph, int bits) {
  const MultibitInfo info = multibit_info(graph);
  Graph out = in_whole_numbers(graph, info.entry, info.path(bits));
  clean_deployed(out);
  return out;
}

Graph deploy_selectable(const Graph& graph, const std::vector<int>& bits) {
  check_bits(bits);
  return Selection(graph, bits).write();
}

}  // namespace lithe
