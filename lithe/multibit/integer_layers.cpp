#include "lithe/multibit/integer_layers.h"

#include <cmath>

#include "lithe/base/error.h"

namespace lithe {
namespace {

constexpr std::int64_t kWeightLevels = 3;

const Node* maker_of(const Graph& graph, const GraphIndex& index, const std::string& value) {
  const int node = index.producer(value);
  return node < 0 ? nullptr : &graph.nodes[static_cast<std::size_t>(node)];
}

bool quantises(const Node* node) {
  return node && node->domain == "lithe" && node->op_type == "BoundQuantize";
}

float number(const Graph& graph, const Node& node, std::size_t input) {
  const TensorData* data = graph.constant(node.input(input));
  if (!data || data->count() != 1) fail("{}: its bounds are no constants", describe(node));
  return data->to_floats()[0];
}

BoundQuantizeSpec spec_of(const Graph& graph, const Node& node) {
  return bound_quantize_spec(number(graph, node, 1), number(graph, node, 2),
                             node.attr("levels", std::int64_t{3}),
                             node.attr("centred", std::int64_t{0}) != 0);
}

/// Scale and shift of the norm with what brings sums of codes to the quantised values' range.
void fold_norm(const Graph& graph, const Node& norm, IntegerLayer& layer) {
  std::vector<std::vector<float>> values;
  for (std::size_t i = 1; i <= 4; ++i) {
    const TensorData* data = graph.constant(norm.input(i));
    if (!data) fail("{}: its parameters are no constants", describe(norm));
    values.push_back(data->to_floats());
  }
  const double epsilon = static_cast<double>(norm.attr("epsilon", 1e-5f));
  const double range = static_cast<double>(kWeightLevels) * static_cast<double>(layer.bounds.levels);
  for (std::size_t c = 0; c < values[0].size(); ++c) {
    const double slope =
        static_cast<double>(values[0][c]) / std::sqrt(static_cast<double>(values[3][c]) + epsilon);
    layer.scale.push_back(static_cast<float>(slope / range));
    layer.shift.push_back(
        static_cast<float>(static_cast<double>(values[1][c]) - static_cast<double>(values[2][c]) * slope));
  }
}

}  // namespace

std::vector<std::uint8_t> weight_codes(const Graph& graph, const IntegerLayer& layer) {
  const std::vector<float> values = graph.constants.at(layer.weight).to_floats();
  std::vector<std::uint8_t> codes(values.size());
  bound_codes(values.data(), codes.data(), static_cast<std::int64_t>(values.size()), layer.weight_bounds);
  return codes;
}

std::vector<IntegerLayer> integer_layers(const Graph& graph) {
  const GraphIndex index(graph);
  std::vector<IntegerLayer> layers;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& conv = graph.nodes[i];
    const Node* activation = conv.is("Conv") ? maker_of(graph, index, conv.input(0)) : nullptr;
    if (!quantises(activation)) {
      if (activation && activation->domain == "lithe")
        fail("{}: models of this method have no integer form; only mbquant has", describe(conv));
      continue;
    }
    const Node* weight = maker_of(graph, index, conv.input(1));
    const Node* part = weight && weight->is("Slice") ? weight : nullptr;
    if (part) weight = maker_of(graph, index, part->input(0));
    if (!quantises(weight) || weight->attr("levels", std::int64_t{0}) != kWeightLevels ||
        !graph.is_constant(weight->input(0)))
      fail("{}: its weights are not of 2 bits; only models of method mbquant have an integer form",
           describe(conv));
    const auto& readers = index.consumers(conv.output(0));
    if (readers.size() != 1 || !graph.nodes[static_cast<std::size_t>(readers[0])].is("BatchNormalization"))
      fail("{}: no batch norm follows it alone", describe(conv));
    IntegerLayer layer{.conv = static_cast<int>(i),
                       .norm = readers[0],
                       .activation = index.producer(conv.input(0)),
                       .input = activation->input(0),
                       .output = graph.nodes[static_cast<std::size_t>(readers[0])].output(0),
                       .bounds = spec_of(graph, *activation),
                       .codes_name = weight->output(0),
                       .weight = weight->input(0),
                       .weight_bounds = spec_of(graph, *weight),
                       .stored = graph.constants.at(weight->input(0)).shape()};
    if (layer.bounds.levels > 255) fail("{}: activations of more than 8 bits", describe(conv));
    layer.used = layer.stored;
    if (part) {
      const TensorData* ends = graph.constant(part->input(2));
      if (!ends || ends->count() != 2) fail("{}: its ends are no two constants", describe(*part));
      const std::vector<std::int64_t> sizes = ends->to_ints();
      layer.used[0] = sizes[0];
      layer.used[1] = sizes[1];
    }
    fold_norm(graph, graph.nodes[static_cast<std::size_t>(layer.norm)], layer);
    if (static_cast<std::int64_t>(layer.scale.size()) != layer.used[0])
      fail("{}: {} channels are normed, {} made", describe(conv), layer.scale.size(), layer.used[0]);
    layers.push_back(std::move(layer));
  }
  if (layers.empty()) fail("the model '{}' has no quantised convolution", graph.name);
  return layers;
}

}  // namespace lithe
