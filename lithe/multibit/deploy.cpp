#include "lithe/multibit/deploy.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <set>

#include "lithe/base/error.h"
#include "lithe/graph/shape_inference.h"
#include "lithe/multibit/branch_graph.h"
#include "lithe/multibit/integer_layers.h"

namespace lithe {
namespace {

constexpr std::int64_t kLeastOpset = 13;
constexpr double kDeviations = 4;  // that 8-bit outputs of the fast form reach
constexpr double kByte = 255;

std::string scalar(Graph& graph, const std::string& name, float value) {
  graph.constants[name] = TensorData::scalar(value);
  return name;
}

/// [1, channels, 1, 1...]
std::string by_channel(Graph& graph, const std::string& name, const std::vector<float>& values,
                       std::size_t rank) {
  std::vector<std::int64_t> shape(rank, 1);
  shape[1] = static_cast<std::int64_t>(values.size());
  graph.constants[name] = TensorData::from<float>(std::move(shape), values);
  return name;
}

/// Appends nodes that carry one value on.
class Chain {
 public:
  Chain(std::vector<Node>& nodes, std::string prefix, std::string value)
      : nodes_(nodes), prefix_(std::move(prefix)), value_(std::move(value)) {}

  Node& then(const char* type, std::vector<std::string> others, const char* name) {
    Node node{.name = prefix_ + "/" + name, .op_type = type};
    node.inputs = {value_};
    node.inputs.insert(node.inputs.end(), others.begin(), others.end());
    node.outputs = {node.name};
    value_ = node.name;
    nodes_.push_back(std::move(node));
    return nodes_.back();
  }
  const std::string& value() const { return value_; }
  void finish(const std::string& name) {
    nodes_.back().outputs[0] = name;
    value_ = name;
  }

 private:
  std::vector<Node>& nodes_;
  std::string prefix_, value_;
};

/// uint8 codes of a value.
void add_codes(Graph& graph, Chain& chain, const std::string& prefix, const BoundQuantizeSpec& spec) {
  const std::string zero = scalar(graph, "codes/zero", 0), one = scalar(graph, "codes/one", 1);
  chain.then("Sub", {scalar(graph, prefix + "/low", spec.low)}, "above");
  chain.then("Div", {scalar(graph, prefix + "/width", spec.width)}, "place");
  chain.then("Clip", {zero, one}, "clipped");
  chain.then("Mul", {scalar(graph, fmt::format("codes/levels{}", spec.levels), spec.levels)}, "steps");
  chain.then("Round", {}, "rounded");
  chain.then("Cast", {}, "codes").attributes["to"] = static_cast<std::int64_t>(DType::UInt8);
}

/// Weights -3, -1, 1 and 3, stored once under the name of what quantises them.
std::string add_weights(Graph& graph, const Graph& source, const IntegerLayer& layer) {
  const std::string name = layer.codes_name + "/int8";
  if (graph.is_constant(name)) return name;
  std::vector<std::int8_t> values;
  for (const std::uint8_t code : weight_codes(source, layer))
    values.push_back(static_cast<std::int8_t>(2 * code - 3));
  graph.constants[name] = TensorData::from<std::int8_t>(layer.stored, std::move(values));
  return name;
}

/// The convolution's own geometry.
void take_geometry(Node& node, const Node& conv) {
  for (const char* name : {"auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"})
    if (const auto found = conv.attributes.find(name); found != conv.attributes.end())
      node.attributes[name] = found->second;
}

/// Rewrites the quantised convolutions of `source`, one bit-width's graph: their nodes by those that `write`
/// appends. Constants go to `graph`.
template <typename Write>
std::vector<Node> rewrite(const Graph& source, const std::vector<IntegerLayer>& layers, const Write& write) {
  std::set<std::string> replaced;
  for (const IntegerLayer& layer : layers) {
    replaced.insert(source.nodes[static_cast<std::size_t>(layer.conv)].output(0));
    replaced.insert(layer.output);
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

void write_exact(Graph& graph, const Graph& source, const IntegerLayer& layer, std::vector<Node>& nodes) {
  const Node& conv = source.nodes[static_cast<std::size_t>(layer.conv)];
  Chain chain(nodes, conv.name, layer.input);
  add_codes(graph, chain, conv.name, layer.bounds);
  std::string weight = add_weights(graph, source, layer);
  if (layer.used != layer.stored) {
    const Node& slice = source.nodes[static_cast<std::size_t>(GraphIndex(source).producer(conv.input(1)))];
    Node part = slice;
    part.name = conv.name + "/part";
    part.inputs[0] = weight;
    for (std::size_t i = 1; i < part.inputs.size(); ++i)
      graph.constants[part.inputs[i]] = source.constants.at(part.inputs[i]);
    weight = part.outputs[0] = part.name;
    nodes.push_back(std::move(part));
  }
  Node& integer = chain.then("ConvInteger", {weight}, "sums");
  take_geometry(integer, conv);
  chain.then("Cast", {}, "float").attributes["to"] = static_cast<std::int64_t>(DType::Float32);
  chain.then("Mul", {by_channel(graph, conv.name + "/scale", layer.scale, layer.stored.size())}, "scaled");
  chain.then("Add", {by_channel(graph, conv.name + "/shift", layer.shift, layer.stored.size())}, "shifted");
  chain.finish(layer.output);
}

void clean(Graph& graph) {
  std::erase_if(graph.header.functions,
                [](const Function& one) { return one.domain == "lithe" && one.name == "BoundQuantize"; });
  graph.header.opsets.erase("lithe");
  graph.values.clear();
  graph.sort();
  graph.remove_dead();
  graph.validate();
}

Graph start(const Graph& graph, int bits) {
  if (graph.opset() < kLeastOpset)
    fail("the model '{}' is of opset {}; integer models need {} or later", graph.name, graph.opset(),
         kLeastOpset);
  return extract_bits(graph, bits);
}

// --- the fast form
// ---------------------------------------------------------------------------------------------

/// How the outputs of a convolution are brought to 8 bits.
struct Landing {
  double scale = 1;
  std::int64_t zero_point = 0, least = 0, most = 255;
  bool codes = false;           // they are the codes of the quantisers that follow
  std::vector<int> quantisers;  // nodes, if so
  int activation = -1;          // Relu between, if there is one
};

Landing landing_of(const Graph& source, const GraphIndex& index, const std::vector<IntegerLayer>& layers,
                   const IntegerLayer& layer) {
  const Node& norm = source.nodes[static_cast<std::size_t>(layer.norm)];
  Landing out;
  std::string value = layer.output;
  const auto& readers = index.consumers(value);
  if (readers.size() == 1 && source.nodes[static_cast<std::size_t>(readers[0])].is("Relu")) {
    out.activation = readers[0];
    value = source.nodes[static_cast<std::size_t>(readers[0])].output(0);
  }
  std::vector<const IntegerLayer*> next;
  for (const int reader : index.consumers(value)) {
    const auto found = std::find_if(layers.begin(), layers.end(),
                                    [&](const IntegerLayer& one) { return one.activation == reader; });
    if (found == layers.end()) {
      next.clear();
      break;
    }
    next.push_back(&*found);
  }
  const bool inner =
      !next.empty() && !index.is_output(value) &&
      std::all_of(next.begin(), next.end(), [&](const IntegerLayer* one) {
        return one->bounds.low == next[0]->bounds.low && one->bounds.width == next[0]->bounds.width;
      });
  if (inner) {
    const BoundQuantizeSpec& to = next[0]->bounds;
    out.codes = true;
    out.scale = static_cast<double>(to.width) / static_cast<double>(to.levels);
    out.zero_point = std::clamp<std::int64_t>(std::llround(-static_cast<double>(to.low) / out.scale), 0, 255);
    out.least = out.activation >= 0
                    ? std::min<std::int64_t>(out.zero_point, static_cast<std::int64_t>(to.levels))
                    : 0;
    out.most = static_cast<std::int64_t>(to.levels);
    for (const IntegerLayer* one : next) out.quantisers.push_back(one->activation);
    return out;
  }
  out.activation = -1;
  const std::vector<float> gamma = source.constants.at(norm.input(1)).to_floats(),
                           beta = source.constants.at(norm.input(2)).to_floats();
  double low = 0, high = 0;
  for (std::size_t c = 0; c < gamma.size(); ++c) {
    const double reach = kDeviations * std::abs(static_cast<double>(gamma[c]));
    low = std::min(low, static_cast<double>(beta[c]) - reach);
    high = std::max(high, static_cast<double>(beta[c]) + reach);
  }
  out.scale = std::max(high - low, 1e-6) / kByte;
  out.zero_point = std::clamp<std::int64_t>(std::llround(-low / out.scale), 0, 255);
  return out;
}

class FastWriter {
 public:
  FastWriter(const Graph& source, const std::vector<IntegerLayer>& layers)
      : source_(source), layers_(layers), index_(source), out_(source) {}

  Graph write() {
    for (const IntegerLayer& layer : layers_) {
      landings_.push_back(landing_of(source_, index_, layers_, layer));
      for (const int quantiser : landings_.back().quantisers)
        codes_[quantiser] = layer.output + "/codes";  // made in front of it
    }
    out_.nodes = rewrite(source_, layers_, [&](const IntegerLayer& layer, std::vector<Node>& nodes) {
      write_layer(layer, landings_[static_cast<std::size_t>(&layer - layers_.data())], nodes);
    });
    clean(out_);
    return std::move(out_);
  }

 private:
  void write_layer(const IntegerLayer& layer, const Landing& landing, std::vector<Node>& nodes) {
    const Node& conv = source_.nodes[static_cast<std::size_t>(layer.conv)];
    const std::string& base = conv.name;
    const auto given = codes_.find(layer.activation);
    Chain chain(nodes, base, given != codes_.end() ? given->second : layer.input);
    if (given == codes_.end()) add_codes(out_, chain, base, layer.bounds);
    const auto byte = [&](const std::string& name, std::int64_t value) {
      out_.constants[name] = TensorData::scalar(static_cast<std::uint8_t>(value));
      return name;
    };
    const std::string weight = add_scaled_weights(layer);
    Node& integer =
        chain.then("QLinearConv",
                   {scalar(out_, "codes/step", 1), byte("codes/zero_point", 0), weight, weight + "/scale",
                    weight + "/zero_point", scalar(out_, base + "/step", static_cast<float>(landing.scale)),
                    byte(base + "/zero_point", landing.zero_point), weight + "/bias"},
                   "bytes");
    take_geometry(integer, conv);
    if (!landing.codes) {
      chain.then("DequantizeLinear", {base + "/step", base + "/zero_point"}, "float");
      chain.finish(layer.output);
      return;
    }
    if (landing.least > 0 || landing.most < 255)
      chain.then("Clip", {byte(base + "/least", landing.least), byte(base + "/most", landing.most)},
                 "bounded");
    chain.finish(layer.output + "/codes");
  }

  /// The part of the weights that runs, with the signs of the norm's scales, which become the weights' own;
  /// and the bias in their units.
  std::string add_scaled_weights(const IntegerLayer& layer) {
    const std::string name = source_.nodes[static_cast<std::size_t>(layer.conv)].name + "/weight";
    const std::vector<std::uint8_t> codes = weight_codes(source_, layer);
    const auto outputs = static_cast<std::size_t>(layer.used[0]),
               inputs = static_cast<std::size_t>(layer.used[1]);
    std::size_t taps = 1;
    for (std::size_t i = 2; i < layer.stored.size(); ++i) taps *= static_cast<std::size_t>(layer.stored[i]);
    const auto stored_inputs = static_cast<std::size_t>(layer.stored[1]);
    constexpr float kSmallest = 1e-9f;
    std::vector<std::int8_t> values, zeros(outputs, 0);
    std::vector<float> scales;
    std::vector<std::int32_t> biases;
    for (std::size_t o = 0; o < outputs; ++o) {
      const bool negative = layer.scale[o] < 0;
      scales.push_back(std::max(std::abs(layer.scale[o]), kSmallest));
      const double bias = static_cast<double>(layer.shift[o]) / static_cast<double>(scales[o]);
      biases.push_back(static_cast<std::int32_t>(std::clamp(std::nearbyint(bias), -1e9, 1e9)));
      for (std::size_t i = 0; i < inputs; ++i)
        for (std::size_t t = 0; t < taps; ++t) {
          const int value = 2 * codes[(o * stored_inputs + i) * taps + t] - 3;
          values.push_back(static_cast<std::int8_t>(negative ? -value : value));
        }
    }
    out_.constants[name] = TensorData::from<std::int8_t>(layer.used, std::move(values));
    const std::vector<std::int64_t> channels{layer.used[0]};
    out_.constants[name + "/scale"] = TensorData::from<float>(channels, std::move(scales));
    out_.constants[name + "/zero_point"] = TensorData::from<std::int8_t>(channels, std::move(zeros));
    out_.constants[name + "/bias"] = TensorData::from<std::int32_t>(channels, std::move(biases));
    return name;
  }

  const Graph& source_;
  const std::vector<IntegerLayer>& layers_;
  GraphIndex index_;
  Graph out_;
  std::vector<Landing> landings_;
  std::map<int, std::string> codes_;  // of quantiser nodes: codes that are there
};

// --- the selectable form
// ---------------------------------------------------------------------------------------

/// What a bit-width that is not there gives: NaN, in the shape of the exit as far as it is known.
GraphPtr nothing(const Graph& graph, const std::string& exit) {
  std::vector<std::int64_t> shape;
  const ValueInfo* info = graph.info(exit);
  if (info && info->shape)
    for (const Dim& dim : *info->shape) shape.push_back(shape.empty() || !dim.known() ? 1 : dim.value);
  std::int64_t count = 1;
  for (const std::int64_t size : shape) count *= size;
  auto body = std::make_shared<Graph>();
  body->name = "not_trained";
  Node constant{.name = "not_trained/exit", .op_type = "Constant", .outputs = {"not_trained/exit"}};
  constant.attributes["value"] = TensorData::from<float>(
      shape, std::vector<float>(static_cast<std::size_t>(count), std::numeric_limits<float>::quiet_NaN()));
  body->nodes.push_back(std::move(constant));
  body->outputs = {{.name = "not_trained/exit", .dtype = DType::Float32}};
  return body;
}

/// The data path's nodes between the entry and the exit of a bit-width, out of an integer graph.
std::vector<Node> body_nodes(const Graph& graph, const std::string& entry, const std::string& exit) {
  const GraphIndex index(graph);
  std::set<int> needed;
  std::vector<std::string> open{exit};
  while (!open.empty()) {
    const std::string value = open.back();
    open.pop_back();
    const int node = index.producer(value);
    if (node < 0 || value == entry || !needed.insert(node).second) continue;
    for (const std::string& read : all_reads(graph.nodes[static_cast<std::size_t>(node)]))
      open.push_back(read);
  }
  std::vector<Node> nodes;
  for (const int node : needed) nodes.push_back(graph.nodes[static_cast<std::size_t>(node)]);
  return nodes;
}

}  // namespace

Graph deploy_static(const Graph& graph, int bits) {
  const Graph source = start(graph, bits);
  const std::vector<IntegerLayer> layers = integer_layers(source);
  Graph out = source;
  out.nodes = rewrite(source, layers, [&](const IntegerLayer& layer, std::vector<Node>& nodes) {
    write_exact(out, source, layer, nodes);
  });
  clean(out);
  return out;
}

Graph deploy_fast(const Graph& graph, int bits) {
  const Graph source = start(graph, bits);
  const std::vector<IntegerLayer> layers = integer_layers(source);
  return FastWriter(source, layers).write();
}

Graph deploy_selectable(const Graph& graph, const std::vector<int>& bits) {
  check_bits(bits);
  const MultibitInfo info = multibit_info(graph);
  Graph out = start(graph, bits.back());
  const std::string score = info.path(bits.back()).output, exit = info.path(bits.back()).exit;
  const std::string name = "exit";
  // Stem and head: the graph of the most bits without its body, whose exit the cascade makes.
  {
    Graph head = out;
    std::erase_if(head.nodes, [&](const Node& node) {
      return std::find(node.outputs.begin(), node.outputs.end(), exit) != node.outputs.end();
    });
    const std::string made = head.unique_name(name);
    head.replace_uses(exit, made);
    head.inputs.push_back({.name = made, .dtype = DType::Float32});
    head.remove_dead();
    std::set<std::string> kept;
    for (const Node& node : head.nodes) kept.insert(node.outputs.begin(), node.outputs.end());
    std::vector<Node> stem = body_nodes(out, "", info.entry);
    out.nodes = std::move(head.nodes);
    for (Node& node : stem)
      if (!kept.contains(node.output(0))) out.nodes.push_back(std::move(node));
    out.inputs.push_back({.name = "bits", .dtype = DType::Int64, .shape = DimVector{}});
    Graph shaped = graph;
    infer_shapes(shaped);
    GraphPtr otherwise = nothing(shaped, exit);
    for (std::size_t i = 0; i < bits.size(); ++i) {
      const MultibitInfo& at = info;
      const BitPath& path = at.path(bits[i]);
      const Graph source = start(graph, bits[i]);
      const std::vector<IntegerLayer> layers = integer_layers(source);
      Graph integer = source;
      integer.nodes = rewrite(source, layers, [&](const IntegerLayer& layer, std::vector<Node>& nodes) {
        write_exact(integer, source, layer, nodes);
      });
      integer.values.clear();
      integer.sort();
      auto then = std::make_shared<Graph>();
      then->name = fmt::format("bits{}", bits[i]);
      then->nodes = body_nodes(integer, info.entry, path.exit);
      then->outputs = {{.name = path.exit, .dtype = DType::Float32}};
      for (const Node& node : then->nodes)
        for (const std::string& read : all_reads(node))
          if (const TensorData* data = integer.constant(read)) out.constants[read] = *data;
      // One more turn of the cascade: is it this bit-width, else what was there before?
      const bool first = i + 1 == bits.size();
      const std::string prefix = fmt::format("choose{}", bits[i]), number = prefix + "/bits";
      out.constants[number] = TensorData::scalar<std::int64_t>(bits[i]);
      Node equal{.name = prefix + "/equal",
                 .op_type = "Equal",
                 .inputs = {"bits", number},
                 .outputs = {prefix + "/equal"}};
      Node choose{.name = prefix,
                  .op_type = "If",
                  .inputs = {prefix + "/equal"},
                  .outputs = {first ? made : prefix + "/exit"}};
      choose.attributes["then_branch"] = GraphPtr(then);
      choose.attributes["else_branch"] = otherwise;
      if (first) {
        out.nodes.push_back(std::move(equal));
        out.nodes.push_back(std::move(choose));
      } else {
        auto step = std::make_shared<Graph>();
        step->name = prefix;
        step->outputs = {{.name = choose.outputs[0], .dtype = DType::Float32}};
        step->nodes = {std::move(equal), std::move(choose)};
        otherwise = step;
      }
    }
  }
  // The scores have no bit-width in their name.
  const std::string plain = score.substr(0, score.rfind('@'));
  for (Node& node : out.nodes)
    for (std::string& output : node.outputs)
      if (output == score) output = plain;
  for (ValueInfo& output : out.outputs)
    if (output.name == score) output.name = plain;
  clean(out);
  return out;
}

}  // namespace lithe
