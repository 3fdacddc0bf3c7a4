#include "lithe/quantize/fold_batch_norm.h"

#include <cmath>
#include <optional>

#include "lithe/base/error.h"
#include "lithe/quantize/prepare.h"

namespace lithe {
namespace {

/// y = scale * x + shift in each channel.
struct ChannelMap {
  std::vector<double> scale, shift;
};

/// What a node feeds into, and how its weight is laid out.
struct Target {
  std::size_t node = 0;
  std::int64_t channels = 0;
  std::int64_t axis = 0;    // of the weight
  std::int64_t groups = 1;  // of a ConvTranspose, whose axis counts channels of one group
  bool takes_sums = true;
};

std::optional<Target> target_of(const Graph& graph, std::size_t index) {
  const Node& node = graph.nodes[index];
  const TensorData* weight = graph.constant(node.input(1));
  if (!weight || weight->dtype() != DType::Float32) return std::nullopt;
  const auto dim = [&](std::int64_t axis) { return weight->shape()[static_cast<std::size_t>(axis)]; };
  if (node.is("Conv") && weight->rank() >= 3) return Target{index, dim(0), 0};
  if (node.is("ConvTranspose") && weight->rank() >= 3) {
    const std::int64_t groups = node.attr("group", std::int64_t{1});
    return Target{index, dim(1) * groups, 1, groups};
  }
  if (node.is("Gemm") && weight->rank() == 2) {
    const std::int64_t axis = node.attr("transB", std::int64_t{0}) != 0 ? 0 : 1;
    return Target{index, dim(axis), axis};
  }
  if (node.is("MatMul") && weight->rank() == 2) return Target{index, dim(1), 1, 1, false};
  return std::nullopt;
}

/// The constant's numbers by channel if it broadcasts over everything but the channel axis of the layer's
/// output; `trailing` is the number of axes after the channel axis (convolutions), 0 for matrices.
std::optional<std::vector<double>> per_channel(const TensorData& data, std::int64_t channels,
                                               std::int64_t trailing) {
  if (!is_float(data.dtype())) return std::nullopt;
  const auto& shape = data.shape();
  std::vector<double> values = data.to_doubles();
  if (data.count() == 1 && data.rank() <= trailing + 2)
    return std::vector<double>(static_cast<std::size_t>(channels), values[0]);
  if (data.count() != channels || data.rank() < trailing + 1 || data.rank() > trailing + 2)
    return std::nullopt;
  const std::int64_t axis = data.rank() - 1 - trailing;
  if (shape[static_cast<std::size_t>(axis)] != channels) return std::nullopt;
  return values;
}

std::optional<ChannelMap> batch_norm_map(const Graph& graph, const Node& node, std::int64_t channels) {
  std::vector<std::vector<double>> parts;
  for (std::size_t i = 1; i <= 4; ++i) {
    const TensorData* data = graph.constant(node.input(i));
    if (!data || data->count() != channels) return std::nullopt;
    parts.push_back(data->to_doubles());
  }
  const double epsilon = node.attr("epsilon", 1e-5f);
  ChannelMap map;
  for (std::size_t c = 0; c < static_cast<std::size_t>(channels); ++c) {
    const double scale = parts[0][c] / std::sqrt(parts[3][c] + epsilon);
    map.scale.push_back(scale);
    map.shift.push_back(parts[1][c] - scale * parts[2][c]);
  }
  return map;
}

/// The map that an arithmetic node with a per-channel constant stands for.
std::optional<ChannelMap> arithmetic_map(const Graph& graph, const Node& node, const std::string& x,
                                         const Target& target) {
  const bool sum = node.is("Add") || node.is("Sub"), product = node.is("Mul") || node.is("Div");
  if ((!sum && !product) || (sum && !target.takes_sums)) return std::nullopt;
  const bool second = node.input(1) == x;  // x is the right operand
  const std::string& other = node.input(second ? 0 : 1);
  const TensorData* data = graph.constant(other);
  if (!data || (second && (node.is("Div") || node.input(0) == x))) return std::nullopt;
  const Node& layer = graph.nodes[target.node];
  const bool matrix = layer.is("Gemm") || layer.is("MatMul");
  const std::int64_t trailing = matrix ? 0 : graph.constants.at(layer.input(1)).rank() - 2;
  auto values = per_channel(*data, target.channels, trailing);
  if (!values) return std::nullopt;
  const auto count = static_cast<std::size_t>(target.channels);
  ChannelMap map{std::vector<double>(count, 1.0), std::vector<double>(count, 0.0)};
  for (std::size_t c = 0; c < count; ++c) {
    const double value = (*values)[c];
    if (node.is("Add")) map.shift[c] = value;
    if (node.is("Sub")) {
      map.shift[c] = second ? value : -value;
      map.scale[c] = second ? -1 : 1;
    }
    if (node.is("Mul")) map.scale[c] = value;
    if (node.is("Div")) map.scale[c] = 1 / value;
    if (!std::isfinite(map.scale[c]) || !std::isfinite(map.shift[c])) return std::nullopt;
  }
  return map;
}

void apply(Graph& graph, const Target& target, const ChannelMap& map) {
  const std::string weight_name = own_constant(graph, target.node, 1);
  const TensorData weight = graph.constants.at(weight_name);
  std::vector<float> values = weight.to_floats();
  const auto& shape = weight.shape();
  std::int64_t inner = 1;
  for (std::size_t d = static_cast<std::size_t>(target.axis) + 1; d < shape.size(); ++d) inner *= shape[d];
  const std::int64_t along = shape[static_cast<std::size_t>(target.axis)];
  const std::int64_t outer = along * inner == 0 ? 0 : weight.count() / (along * inner);
  for (std::int64_t o = 0; o < outer; ++o) {
    // Of a grouped ConvTranspose the first axis tells the group.
    const std::int64_t group = target.groups > 1 ? o / (outer / target.groups) : 0;
    for (std::int64_t a = 0; a < along; ++a) {
      const double factor = map.scale[static_cast<std::size_t>(group * along + a)];
      for (std::int64_t k = 0; k < inner; ++k) {
        float& value = values[static_cast<std::size_t>((o * along + a) * inner + k)];
        value = static_cast<float>(value * factor);
      }
    }
  }
  graph.constants[weight_name] = TensorData::from(shape, std::move(values));
  if (!target.takes_sums) return;
  ensure_bias(graph, target.node, target.channels);
  const std::string bias_name = own_constant(graph, target.node, 2);
  const std::vector<float> bias = graph.constants.at(bias_name).to_floats();
  std::vector<float> shifted;
  for (std::size_t c = 0; c < static_cast<std::size_t>(target.channels); ++c) {
    const float before = bias.size() == 1 ? bias[0] : bias[c];
    shifted.push_back(static_cast<float>(before * map.scale[c] + map.shift[c]));
  }
  graph.constants[bias_name] = TensorData::from<float>({target.channels}, std::move(shifted));
}

/// Why this batch norm cannot be folded; "" if it can.
std::string obstacle(const Graph& graph, const GraphIndex& index, const Node& node) {
  if (node.attr("training_mode", std::int64_t{0}) != 0) return "it is in training mode";
  const int producer = index.producer(node.input(0));
  if (producer < 0) return "it follows a graph input";
  const Node& layer = graph.nodes[static_cast<std::size_t>(producer)];
  const auto target = target_of(graph, static_cast<std::size_t>(producer));
  if (!target) return fmt::format("it follows a {} and not a layer with constant weights", layer.op_type);
  if (!target->takes_sums) return "a MatMul has no bias to take its shift";
  if (index.consumers(node.input(0)).size() > 1 || index.is_output(node.input(0)))
    return fmt::format("others read the output of {} too", describe(layer));
  if (!layer.input(2).empty()) {
    const TensorData* bias = graph.constant(layer.input(2));
    if (!bias || (bias->count() != target->channels && bias->count() != 1))
      return fmt::format("the bias of {} is not one number a channel", describe(layer));
  }
  if (!batch_norm_map(graph, node, target->channels))
    return "its parameters are not constants of one number a channel";
  return "";
}

}  // namespace

FoldReport fold_batch_norm(Graph& graph) {
  FoldReport report;
  // Every round folds the nodes directly behind a layer; a chain takes several.
  for (bool changed = true; changed;) {
    changed = false;
    report.left.clear();
    const GraphIndex index(graph);
    for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
      const bool norm = graph.nodes[i].is("BatchNormalization");
      std::optional<Target> target;
      std::optional<ChannelMap> map;
      if (norm) {
        const std::string reason = obstacle(graph, index, graph.nodes[i]);
        if (!reason.empty()) {
          report.left.push_back(fmt::format("{} is not folded: {}", describe(graph.nodes[i]), reason));
          continue;
        }
        target = target_of(graph, static_cast<std::size_t>(index.producer(graph.nodes[i].input(0))));
        map = batch_norm_map(graph, graph.nodes[i], target->channels);
      } else {
        for (const std::string& x : graph.nodes[i].inputs) {
          const int producer = index.producer(x);
          if (map || producer < 0 || index.consumers(x).size() > 1 || index.is_output(x)) continue;
          target = target_of(graph, static_cast<std::size_t>(producer));
          if (!target) continue;
          const Node& layer = graph.nodes[static_cast<std::size_t>(producer)];
          const TensorData* bias = graph.constant(layer.input(2));
          if (!layer.input(2).empty() && (!bias || (bias->count() != target->channels && bias->count() != 1)))
            continue;
          map = arithmetic_map(graph, graph.nodes[i], x, *target);
        }
      }
      if (!map) continue;
      apply(graph, *target, *map);
      // The layer takes over the name of the value that readers know.
      graph.nodes[target->node].outputs[0] = graph.nodes[i].output(0);
      graph.nodes.erase(graph.nodes.begin() + static_cast<std::ptrdiff_t>(i));
      ++report.folded;
      changed = true;
      break;
    }
  }
  graph.remove_dead();
  graph.validate();
  return report;
}

}  // namespace lithe
