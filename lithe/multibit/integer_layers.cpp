#include "lithe/multibit/integer_layers.h"

#include <algorithm>
#include <cmath>

#include "lithe/base/error.h"

namespace lithe {
namespace {

constexpr std::int64_t kWeightLevels = 3, kMostLevels = 255;

const Node* maker_of(const Graph& graph, const GraphIndex& index, const std::string& value) {
  const int node = index.producer(value);
  return node < 0 ? nullptr : &graph.nodes[static_cast<std::size_t>(node)];
}

bool quantises(const Node* node) {
  return node && node->domain == "lithe" && node->op_type == "BoundQuantize";
}

float number(const Graph& graph, const Node& node, std::size_t input) {
  const TensorData* data = graph.constant(node.input(input));
  if (!data || data->count() != 1 || !is_float(data->dtype()))
    fail("{}: its bounds are no constants", describe(node));
  const float value = data->to_floats()[0];
  if (!std::isfinite(value)) fail("{}: its bounds are not finite", describe(node));
  return value;
}

BoundQuantizeSpec spec_of(const Graph& graph, const Node& node, bool centred) {
  const std::int64_t levels = node.attr("levels", std::int64_t{3});
  if (levels < 1 || levels > kMostLevels)
    fail("{}: {} levels; integer forms have 1 to {}", describe(node), levels, kMostLevels);
  if ((node.attr("centred", std::int64_t{0}) != 0) != centred)
    fail("{}: {} are {} here", describe(node), centred ? "weights" : "activations",
         centred ? "centred" : "not centred");
  return bound_quantize_spec(number(graph, node, 1), number(graph, node, 2), levels, centred);
}

/// The shape that a Slice leaves of the stored weight: its first rows and columns.
std::vector<std::int64_t> used_shape(const Graph& graph, const Node& part, std::vector<std::int64_t> shape) {
  const auto pair = [&](std::size_t input) {
    const TensorData* data = graph.constant(part.input(input));
    if (!data || data->count() != 2 || is_float(data->dtype()))
      fail("{}: its starts, ends and axes are no two constants each", describe(part));
    return data->to_ints();
  };
  const std::vector<std::int64_t> ends = pair(2);
  if (pair(1) != std::vector<std::int64_t>{0, 0} || pair(3) != std::vector<std::int64_t>{0, 1} ||
      !part.input(4).empty())
    fail("{}: a part of a branch must be the first rows and columns of its weights", describe(part));
  for (std::size_t i = 0; i < 2; ++i) {
    if (ends[i] < 1 || ends[i] > shape[i])
      fail("{}: it ends at {} of {} along axis {}", describe(part), ends[i], shape[i], i);
    shape[i] = ends[i];
  }
  return shape;
}

}  // namespace

ChannelAffine fold_norm(const Graph& graph, const Node& norm, double divisor) {
  std::vector<std::vector<float>> values;
  for (std::size_t i = 1; i <= 4; ++i) {
    const TensorData* data = graph.constant(norm.input(i));
    if (!data || !is_float(data->dtype())) fail("{}: its parameters are no constants", describe(norm));
    values.push_back(data->to_floats());
    if (values.back().size() != values[0].size())
      fail("{}: its parameters are of {} and {} channels", describe(norm), values[0].size(),
           values.back().size());
  }
  const double epsilon = static_cast<double>(norm.attr("epsilon", 1e-5f));
  ChannelAffine affine;
  for (std::size_t c = 0; c < values[0].size(); ++c) {
    const double slope =
        static_cast<double>(values[0][c]) / std::sqrt(static_cast<double>(values[3][c]) + epsilon);
    affine.scale.push_back(static_cast<float>(slope / divisor));
    affine.shift.push_back(
        static_cast<float>(static_cast<double>(values[1][c]) - static_cast<double>(values[2][c]) * slope));
    if (!std::isfinite(affine.scale.back()) || !std::isfinite(affine.shift.back()))
      fail("{}: channel {} has no finite scale and shift", describe(norm), c);
  }
  return affine;
}

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
    const TensorData* floats = quantises(weight) ? graph.constant(weight->input(0)) : nullptr;
    if (!floats || weight->attr("levels", std::int64_t{0}) != kWeightLevels)
      fail("{}: its weights are not of 2 bits; only models of method mbquant have an integer form",
           describe(conv));
    if (floats->rank() < 3 || !is_float(floats->dtype()))
      fail("{}: its weight is no float constant [outputs, inputs, ...]", describe(conv));
    if (!conv.input(2).empty()) fail("{}: its bias belongs into the norm behind it", describe(conv));
    const auto& readers = index.consumers(conv.output(0));
    const Node* norm = readers.size() == 1 ? &graph.nodes[static_cast<std::size_t>(readers[0])] : nullptr;
    if (!norm || !norm->is("BatchNormalization") || norm->input(0) != conv.output(0))
      fail("{}: no batch norm follows it alone", describe(conv));
    IntegerLayer layer{.conv = static_cast<int>(i),
                       .norm = readers[0],
                       .activation = index.producer(conv.input(0)),
                       .input = activation->input(0),
                       .output = norm->output(0),
                       .bounds = spec_of(graph, *activation, false),
                       .codes_name = weight->output(0),
                       .weight = weight->input(0),
                       .weight_bounds = spec_of(graph, *weight, true),
                       .stored = floats->shape(),
                       .used = part ? used_shape(graph, *part, floats->shape()) : floats->shape()};
    layer.affine = fold_norm(graph, *norm,
                             static_cast<double>(kWeightLevels) * static_cast<double>(layer.bounds.levels));
    if (static_cast<std::int64_t>(layer.affine.scale.size()) != layer.used[0])
      fail("{}: {} channels are normed, {} made", describe(conv), layer.affine.scale.size(), layer.used[0]);
    layers.push_back(std::move(layer));
  }
  if (layers.empty()) fail("the model '{}' has no quantised convolution", graph.name);
  return layers;
}

}  // namespace lithe
