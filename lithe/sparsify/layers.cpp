#include "lithe/sparsify/layers.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "lithe/base/error.h"
#include "lithe/base/glob.h"
#include "lithe/graph/border.h"
#include "lithe/graph/cost.h"
#include "lithe/graph/shape_inference.h"
#include "lithe/graph/weights.h"

namespace lithe {
namespace {

std::string name_of(const Node& node) {
  return node.name.empty() ? node.output(0) : node.name;
}

/// Multiply-accumulates by node, for one sample; empty where sizes are not known.
std::vector<std::int64_t> macs_of(const Graph& graph) {
  Graph copy = graph;
  try {
    infer_shapes(copy, concrete_input_shapes(copy));
    return measure_cost(copy).node_macs;
  } catch (const Error&) {  // a dimension that only the data know: sizes are a courtesy here
    return {};
  }
}

/// The weight as groups along the input channels; of a grouped ConvTranspose each group for itself.
ChannelGroups groups_of(const Node& node, const std::vector<std::int64_t>& shape, std::size_t axis) {
  ChannelGroups groups{1, shape[axis], 1};
  for (std::size_t d = 0; d < axis; ++d) groups.outer *= shape[d];
  for (std::size_t d = axis + 1; d < shape.size(); ++d) groups.inner *= shape[d];
  if (node.is("ConvTranspose")) {
    groups.outer = std::max<std::int64_t>(1, node.attr("group", std::int64_t{1}));
    groups.channels /= groups.outer;
  }
  return groups;
}

void check_finite(const Node& node, const std::string& name, const TensorData& weight) {
  const std::vector<double> values = weight.to_doubles();
  const auto bad = std::find_if(values.begin(), values.end(), [](double v) { return !std::isfinite(v); });
  if (bad != values.end())
    fail("{}: its weight '{}' holds {} at element {}; train or export the model again", describe(node), name,
         std::isnan(*bad) ? "NaN" : "infinity", bad - values.begin());
}

std::string some_names(const std::vector<SparseLayer>& layers) {
  std::string text;
  for (std::size_t i = 0; i < layers.size() && i < 8; ++i)
    text += (i == 0 ? "'" : ", '") + layers[i].name + "'";
  return layers.size() > 8 ? text + ", ..." : text;
}

/// Why none of the patterns suits the layer; "" if one does.
std::string misfit(const SparseLayer& layer, const std::vector<SparsityPattern>& patterns, Ragged ragged) {
  const std::int64_t channels = layer.groups.channels;
  const auto all = [&](auto&& holds) { return std::all_of(patterns.begin(), patterns.end(), holds); };
  const std::string names = patterns.size() == 1 ? format_sparsity(patterns[0]) : "every candidate";
  if (all([](const SparsityPattern& one) { return one.kept == one.group; }))
    return fmt::format("{} keeps everything", names);
  if (all([&](const SparsityPattern& one) { return channels <= one.kept; }))
    return fmt::format("{} input channels, which {} keeps", channels, names);
  if (ragged == Ragged::Pad || !all([&](const SparsityPattern& one) { return channels % one.group != 0; }))
    return {};
  const std::string groups =
      patterns.size() == 1 ? fmt::format("{}", patterns[0].group) : "the groups of any candidate";
  if (ragged == Ragged::Error)
    fail(
        "layer '{}' has {} input channels, no multiple of {}; choose another pattern, --ragged skip or pad, "
        "or exclude it",
        layer.name, channels, groups);
  return fmt::format("{} input channels are no multiple of {}", channels, groups);
}

}  // namespace

std::vector<std::int64_t> SparseLayer::kernel() const {
  if (op != "Conv" && op != "ConvTranspose") return {};
  return {shape.begin() + 2, shape.end()};
}

double SparseLayer::density() const {
  return pattern ? static_cast<double>(pattern->kept) / static_cast<double>(pattern->group) : 1.0;
}

PatternRule parse_pattern_rule(const std::string& text) {
  const std::size_t equals = text.rfind('=');
  if (equals == std::string::npos || equals == 0)
    fail("'{}' is no rule for layers; write NAMES=N:M or NAMES=dense, for example 'layer3/*=1:4'", text);
  PatternRule rule{.names = text.substr(0, equals)};
  const std::string pattern = text.substr(equals + 1);
  if (pattern != "dense") rule.pattern = parse_sparsity(pattern);
  return rule;
}

std::size_t node_of(const Graph& graph, const std::string& value) {
  for (std::size_t i = 0; i < graph.nodes.size(); ++i)
    for (const std::string& output : graph.nodes[i].outputs)
      if (output == value) return i;
  fail("the model '{}' has no node that makes '{}'", graph.name, value);
}

std::vector<SparseLayer> find_sparse_layers(const Graph& graph, const LayerPolicy& policy) {
  const GraphIndex index(graph);
  const std::vector<std::int64_t> macs = macs_of(graph);
  std::vector<bool> layer(graph.nodes.size(), false);
  for (std::size_t i = 0; i < graph.nodes.size(); ++i)
    layer[i] = is_layer_kind(graph.nodes[i]) && find_weight(graph, index, graph.nodes[i]).has_value();
  const Border border = find_border(graph, layer);

  std::vector<SparseLayer> found;
  std::vector<bool> depthwise;
  std::set<std::string> seen;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    if (!layer[i]) continue;
    const Node& node = graph.nodes[i];
    const auto weight = find_weight(graph, index, node);
    if (!seen.insert(weight->constant).second) continue;
    SparseLayer one{
        .name = name_of(node), .op = node.op_type, .output = node.output(0), .weight = weight->constant};
    const TensorData& data = graph.constants.at(one.weight);
    one.shape = data.shape();
    one.macs = i < macs.size() ? macs[i] : 0;
    one.first = border.first[i];
    one.last = border.last[i];
    one.shared = index.consumers(one.weight).size() > 1;
    const auto axis = input_channel_axis(node, weight->input, one.shape.size());
    if (weight->input != 1 || node.input(1) != one.weight)
      one.dense_reason = "its weight is not a plain constant at the second input";
    else if (data.dtype() != DType::Float32 && data.dtype() != DType::Float64)
      one.dense_reason = fmt::format("its weight is {}", dtype_name(data.dtype()));
    else if (!axis || *axis >= one.shape.size() || data.count() == 0)
      one.dense_reason = "the axis of its input channels is not defined";
    for (const int other : index.consumers(one.weight)) {
      const Node& reader = graph.nodes[static_cast<std::size_t>(other)];
      if (one.dense_reason.empty() &&
          (!is_layer_kind(reader) || reader.input(1) != one.weight || reader.op_type != node.op_type ||
           input_channel_axis(reader, 1, one.shape.size()) != axis))
        one.dense_reason = fmt::format("{} reads its weight in another way", describe(reader));
    }
    const std::int64_t convolution_groups =
        node.is("Conv") || node.is("ConvTranspose") ? node.attr("group", std::int64_t{1}) : 1;
    depthwise.push_back(convolution_groups > 1);
    if (one.dense_reason.empty()) {
      check_finite(node, one.weight, data);
      one.axis = *axis;
      one.groups = groups_of(node, one.shape, one.axis);
    }
    found.push_back(std::move(one));
  }
  if (found.empty()) fail("the model '{}' has no layer with constant weights to prune", graph.name);

  // What the user says, by layer.
  std::vector<std::optional<SparsityPattern>> wanted(found.size(), policy.pattern);
  std::vector<bool> asked(found.size(), false), excluded(found.size(), false);
  const auto matching = [&](const std::string& names, const char* flag, auto&& change) {
    bool any = false;
    for (std::size_t i = 0; i < found.size(); ++i)
      if (glob_match(names, found[i].name)) {
        change(i);
        any = true;
      }
    if (!any) fail("{} '{}' matches no layer; the layers are called {}", flag, names, some_names(found));
  };
  for (const std::string& names : policy.include)
    matching(names, "--include", [&](std::size_t i) { asked[i] = true; });
  for (const PatternRule& rule : policy.pattern_for)
    matching(rule.names, "--pattern-for", [&](std::size_t i) {
      wanted[i] = rule.pattern;
      asked[i] = found[i].ruled = true;
    });
  for (const std::string& names : policy.exclude)
    matching(names, "--exclude", [&](std::size_t i) { excluded[i] = true; });

  for (std::size_t i = 0; i < found.size(); ++i) {
    SparseLayer& one = found[i];
    if (!one.dense_reason.empty()) continue;
    if (excluded[i])
      one.dense_reason = "excluded";
    else if (!wanted[i])
      one.dense_reason = "asked for";
    else if (!asked[i] && one.first && !policy.prune_first)
      one.dense_reason = "first layer";
    else if (!asked[i] && one.last && !policy.prune_last)
      one.dense_reason = "last layer";
    else if (!asked[i] && depthwise[i] && one.groups.channels < wanted[i]->group && !policy.prune_depthwise)
      one.dense_reason = fmt::format("{} input channels in a group of the convolution", one.groups.channels);
    else if (policy.candidates.empty() || one.ruled)
      one.dense_reason = misfit(one, {*wanted[i]}, policy.ragged);
    else
      one.dense_reason = misfit(one, policy.candidates, policy.ragged);
    if (one.dense_reason.empty()) one.pattern = wanted[i];
  }
  return found;
}

}  // namespace lithe
