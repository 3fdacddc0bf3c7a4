#include "lithe/quantize/layers.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "lithe/base/error.h"
#include "lithe/base/glob.h"
#include "lithe/graph/border.h"
#include "lithe/graph/weights.h"

namespace lithe {
namespace {

void check_weight(const Graph& graph, const Node& node, const std::string& name) {
  const TensorData& weight = graph.constants.at(name);
  if (weight.dtype() != DType::Float32)
    fail(
        "{}: its weight '{}' is {}; only float32 models can be quantised: convert the model to float32 first",
        describe(node), name, dtype_name(weight.dtype()));
  const auto values = weight.values<float>();
  const auto bad = std::find_if(values.begin(), values.end(), [](float v) { return !std::isfinite(v); });
  if (bad != values.end())
    fail("{}: its weight '{}' holds {} at element {}; train or export the model again", describe(node), name,
         std::isnan(*bad) ? "NaN" : "infinity", bad - values.begin());
}

/// The axis of the weight that counts output channels; -1 if scales cannot follow it.
std::int64_t channel_axis(const Node& node, const TensorData& weight, std::size_t weight_index) {
  if (node.is("Conv")) return 0;
  if (node.is("ConvTranspose")) return node.attr("group", std::int64_t{1}) == 1 ? 1 : -1;
  if (node.is("Gemm")) return node.attr("transB", std::int64_t{0}) != 0 ? 0 : 1;
  if (weight.rank() < 2) return -1;
  return weight_index == 1 ? weight.rank() - 1 : -1;
}

/// Whether the value is a constant with one number an output channel.
bool is_channel_bias(const Graph& graph, const std::string& name, std::int64_t channels) {
  const TensorData* bias = name.empty() ? nullptr : graph.constant(name);
  return bias && bias->dtype() == DType::Float32 && bias->count() == channels && bias->rank() >= 1 &&
         bias->shape().back() == channels;
}

/// Exporters write a linear layer as MatMul and Add: the constant of an Add that alone reads the product.
void find_added_bias(const Graph& graph, const GraphIndex& index, Layer& layer) {
  if (layer.axis < 0 || index.is_output(layer.output) || index.consumers(layer.output).size() != 1) return;
  const auto reader = static_cast<std::size_t>(index.consumers(layer.output)[0]);
  const Node& add = graph.nodes[reader];
  if (!add.is("Add")) return;
  const std::size_t other = add.input(0) == layer.output ? 1 : 0;
  if (!is_channel_bias(graph, add.input(other), layer.channels)) return;
  layer.bias = add.input(other);
  layer.bias_node = reader;
  layer.bias_index = other;
}

/// Tells the layers at the border of the graph from those that have another layer before or behind them.
void mark_borders(const Graph& graph, std::vector<Layer>& layers) {
  std::vector<bool> is_layer(graph.nodes.size(), false);
  for (const Layer& layer : layers) is_layer[layer.node] = true;
  const Border border = find_border(graph, is_layer);
  for (Layer& layer : layers) {
    layer.first = border.first[layer.node];
    layer.last = border.last[layer.node];
  }
}

std::string some_names(const std::vector<Layer>& layers) {
  std::string text;
  for (std::size_t i = 0; i < layers.size() && i < 4; ++i) text += (i ? ", " : "") + layers[i].name;
  return layers.size() > 4 ? text + ", ..." : text;
}

int parse_bits(std::string_view digits, const std::string& rule) {
  int bits = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), bits);
  if (error != std::errc() || end != digits.data() + digits.size() || bits < 2 || bits > kFloatBits)
    fail("--bits-for '{}': '{}' is no number of bits; write PATTERN=4, =w4a8, =a8 or =off", rule, digits);
  return bits;
}

void check_bits(int bits, const std::string& what) {
  if (bits != kFloatBits && (bits < 2 || bits > 8))
    fail("{} cannot have {} bits; give 2 to 8, or 32 to leave them in float", what, bits);
}

}  // namespace

std::string layer_name(const Node& node) {
  return node.name.empty() ? node.output(0) : node.name;
}

std::vector<Layer> find_layers(const Graph& graph, std::vector<std::string>* notes) {
  const auto note = [&](const Node& node, const char* reason) {
    if (notes) notes->push_back(fmt::format("{} stays in float: {}", describe(node), reason));
  };
  std::vector<Layer> layers;
  const GraphIndex index(graph);
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    if (!is_layer_kind(node)) continue;
    Layer layer{.node = i, .name = layer_name(node), .op = node.op_type, .output = node.output(0)};
    if (node.is("MatMul") && graph.is_constant(node.input(0)))
      std::swap(layer.input_index, layer.weight_index);
    layer.input = node.input(layer.input_index);
    layer.weight = node.input(layer.weight_index);
    const TensorData* weight = graph.constant(layer.weight);
    if (!weight) {
      // A product of two activations has no weight; whoever calls knows what to do with it.
      if (!node.is("MatMul")) note(node, "its weight is computed by the model");
      continue;
    }
    if (graph.is_constant(layer.input)) {
      note(node, "both operands are constants");
      continue;
    }
    if (weight->count() == 0) {
      note(node, "its weight is empty");
      continue;
    }
    if (node.is("Gemm") && node.attr("transA", std::int64_t{0}) != 0) {
      note(node, "its input is transposed (transA)");
      continue;
    }
    check_weight(graph, node, layer.weight);
    layer.axis = channel_axis(node, *weight, layer.weight_index);
    if (layer.axis >= weight->rank())
      fail("{}: its weight '{}' has rank {}, which is too low for the operator", describe(node), layer.weight,
           weight->rank());
    if (layer.axis >= 0) layer.channels = weight->shape()[static_cast<std::size_t>(layer.axis)];
    const std::int64_t outputs = node.is("ConvTranspose") && layer.axis < 0
                                     ? weight->shape().at(1) * node.attr("group", std::int64_t{1})
                                     : layer.channels;
    layer.bias_node = i;
    if (node.is("MatMul"))
      find_added_bias(graph, index, layer);
    else if (is_channel_bias(graph, node.input(2), outputs))
      layer.bias = node.input(2);
    layers.push_back(std::move(layer));
  }
  mark_borders(graph, layers);
  return layers;
}

BitsRule parse_bits_rule(const std::string& text) {
  const std::size_t equals = text.rfind('=');
  if (equals == std::string::npos || equals == 0 || equals + 1 == text.size())
    fail("--bits-for '{}': write PATTERN=BITS, for example 'layer1/*=4' or 'head=w8a8'", text);
  BitsRule rule{.pattern = text.substr(0, equals)};
  std::string_view bits = std::string_view(text).substr(equals + 1);
  if (bits == "off" || bits == "float") {
    rule.weight_bits = rule.activation_bits = kFloatBits;
    return rule;
  }
  if (bits.front() != 'w' && bits.front() != 'a') {
    rule.weight_bits = parse_bits(bits, text);
    return rule;
  }
  while (!bits.empty()) {
    const char kind = bits.front();
    if (kind != 'w' && kind != 'a') fail("--bits-for '{}': write BITS as 4, w4a8, a8 or off", text);
    const std::size_t next = bits.find_first_of("wa", 1);
    const std::size_t length = next == std::string_view::npos ? bits.size() : next;
    (kind == 'w' ? rule.weight_bits : rule.activation_bits) = parse_bits(bits.substr(1, length - 1), text);
    bits.remove_prefix(length);
  }
  return rule;
}

void assign_bits(std::vector<Layer>& layers, int weight_bits, int activation_bits, FirstLast first_last,
                 const std::vector<BitsRule>& rules, const std::vector<std::string>& exclude) {
  check_bits(weight_bits, "weights");
  check_bits(activation_bits, "activations");
  for (Layer& layer : layers) {
    layer.weight_bits = weight_bits;
    layer.activation_bits = activation_bits;
    if (first_last == FirstLast::Eight && (layer.first || layer.last)) {
      layer.weight_bits = std::max(weight_bits, 8);
      layer.activation_bits = std::max(activation_bits, 8);
    }
  }
  const auto matching = [&](const std::string& pattern, const char* flag, auto&& change) {
    bool any = false;
    for (Layer& layer : layers)
      if (glob_match(pattern, layer.name)) {
        change(layer);
        any = true;
      }
    if (!any)
      fail("{} '{}' matches no layer that could be quantised; the layers are called {}", flag, pattern,
           some_names(layers));
  };
  for (const BitsRule& rule : rules) {
    if (rule.weight_bits) check_bits(rule.weight_bits, "weights of '" + rule.pattern + "'");
    if (rule.activation_bits) check_bits(rule.activation_bits, "activations of '" + rule.pattern + "'");
    matching(rule.pattern, "--bits-for", [&](Layer& layer) {
      if (rule.weight_bits) layer.weight_bits = rule.weight_bits;
      if (rule.activation_bits) layer.activation_bits = rule.activation_bits;
    });
  }
  for (const std::string& pattern : exclude)
    matching(pattern, "--exclude",
             [](Layer& layer) { layer.weight_bits = layer.activation_bits = kFloatBits; });
}

}  // namespace lithe
