#include "lithe/quantize/equalization.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "lithe/base/error.h"
#include "lithe/quantize/prepare.h"

namespace lithe {
namespace {

struct Pair {
  std::size_t first = 0, second = 0;  // convolutions
  int clip = -1;                      // the Clip node between them
  double cap = 0;                     // its upper bound
  std::vector<double> scale;          // product of all factors so far
};

/// The weight of a convolution seen as [group][out of the group][in of the group][kernel].
struct ConvWeight {
  std::int64_t groups, out, in, kernel;
  std::vector<float> values;

  std::int64_t outputs() const { return groups * out; }
  std::int64_t inputs() const { return groups * in; }
  float& at(std::int64_t output, std::int64_t input, std::int64_t k) {
    return values[static_cast<std::size_t>((output * in + input) * kernel + k)];
  }
  /// Calls f for every weight that makes output channel c.
  template <typename F>
  void each_of_output(std::int64_t c, F&& f) {
    for (std::int64_t i = 0; i < in; ++i)
      for (std::int64_t k = 0; k < kernel; ++k) f(at(c, i, k));
  }
  /// Calls f for every weight that reads input channel c.
  template <typename F>
  void each_of_input(std::int64_t c, F&& f) {
    const std::int64_t group = c / in;
    for (std::int64_t o = 0; o < out; ++o)
      for (std::int64_t k = 0; k < kernel; ++k) f(at(group * out + o, c % in, k));
  }
};

bool is_plain_conv(const Graph& graph, const Node& node) {
  if (!node.is("Conv")) return false;
  const TensorData* weight = graph.constant(node.input(1));
  const TensorData* bias = node.input(2).empty() ? nullptr : graph.constant(node.input(2));
  if (!weight || weight->dtype() != DType::Float32 || weight->rank() < 3 || weight->count() == 0)
    return false;
  const std::int64_t groups = node.attr("group", std::int64_t{1});
  if (groups < 1 || weight->shape()[0] % groups != 0) return false;
  return node.input(2).empty() ||
         (bias && bias->dtype() == DType::Float32 && bias->count() == weight->shape()[0]);
}

ConvWeight load(const Graph& graph, const Node& node) {
  const TensorData& weight = graph.constants.at(node.input(1));
  const std::int64_t groups = node.attr("group", std::int64_t{1});
  const std::int64_t out = weight.shape()[0] / groups, in = weight.shape()[1];
  return {groups, out, in, weight.count() / (weight.shape()[0] * std::max<std::int64_t>(in, 1)),
          weight.to_floats()};
}

std::optional<double> scalar_of(const Graph& graph, const Node& node, std::size_t input,
                                const char* attribute) {
  if (const auto* value = node.find<float>(attribute)) return *value;
  const TensorData* data = node.input(input).empty() ? nullptr : graph.constant(node.input(input));
  if (!data || data->count() != 1) return std::nullopt;
  return data->to_doubles()[0];
}

/// Follows the value from a convolution through a scale-equivariant activation to the next convolution.
std::optional<Pair> pair_from(const Graph& graph, const GraphIndex& index, std::size_t first) {
  if (!is_plain_conv(graph, graph.nodes[first])) return std::nullopt;
  Pair pair{.first = first};
  std::string value = graph.nodes[first].output(0);
  for (int hops = 0; hops < 2; ++hops) {
    if (index.is_output(value) || index.consumers(value).size() != 1) return std::nullopt;
    const int reader = index.consumers(value)[0];
    const Node& node = graph.nodes[static_cast<std::size_t>(reader)];
    if (node.input(0) != value) return std::nullopt;
    if (node.is("Conv")) {
      if (!is_plain_conv(graph, node)) return std::nullopt;
      pair.second = static_cast<std::size_t>(reader);
      const ConvWeight a = load(graph, graph.nodes[first]), b = load(graph, node);
      if (a.outputs() != b.inputs()) return std::nullopt;
      pair.scale.assign(static_cast<std::size_t>(a.outputs()), 1.0);
      return pair;
    }
    if (hops > 0) return std::nullopt;
    if (node.is("Clip")) {
      const auto low = scalar_of(graph, node, 1, "min"), high = scalar_of(graph, node, 2, "max");
      if (!low || *low != 0 || !high || !(*high > 0)) return std::nullopt;
      pair.clip = reader;
      pair.cap = *high;
    } else if (!node.is("Relu") && !node.is("LeakyRelu") && !node.is("PRelu")) {
      return std::nullopt;
    }
    value = node.output(0);
  }
  return std::nullopt;
}

/// Keeps factors from running away where one side of a channel is almost dead.
constexpr double kLargestFactor = 1e4;

/// One pass over a pair; returns the largest change of a factor.
double rescale(Graph& graph, Pair& pair) {
  ConvWeight a = load(graph, graph.nodes[pair.first]), b = load(graph, graph.nodes[pair.second]);
  const std::string& bias_name = graph.nodes[pair.first].input(2);
  std::vector<float> bias;
  if (!bias_name.empty()) bias = graph.constants.at(bias_name).to_floats();
  double change = 0;
  for (std::int64_t c = 0; c < a.outputs(); ++c) {
    double r1 = 0, r2 = 0;
    a.each_of_output(c, [&](float w) { r1 = std::max(r1, std::abs(static_cast<double>(w))); });
    b.each_of_input(c, [&](float w) { r2 = std::max(r2, std::abs(static_cast<double>(w))); });
    if (r1 <= 0 || r2 <= 0) continue;
    double s = std::sqrt(r1 / r2);
    double& total = pair.scale[static_cast<std::size_t>(c)];
    s = std::clamp(total * s, 1 / kLargestFactor, kLargestFactor) / total;
    if (!std::isfinite(s) || s <= 0) continue;
    total *= s;
    change = std::max(change, std::abs(std::log(s)));
    a.each_of_output(c, [&](float& w) { w = static_cast<float>(w / s); });
    b.each_of_input(c, [&](float& w) { w = static_cast<float>(w * s); });
    if (!bias.empty())
      bias[static_cast<std::size_t>(c)] = static_cast<float>(bias[static_cast<std::size_t>(c)] / s);
  }
  const auto store = [&](const std::string& name, std::vector<float> values) {
    graph.constants[name] = TensorData::from(graph.constants.at(name).shape(), std::move(values));
  };
  store(graph.nodes[pair.first].input(1), std::move(a.values));
  store(graph.nodes[pair.second].input(1), std::move(b.values));
  if (!bias.empty()) store(bias_name, std::move(bias));
  return change;
}

}  // namespace

EqualizationReport equalize(Graph& graph, int max_rounds) {
  std::vector<Pair> pairs;
  {
    const GraphIndex index(graph);
    for (std::size_t i = 0; i < graph.nodes.size(); ++i)
      if (auto pair = pair_from(graph, index, i)) pairs.push_back(std::move(*pair));
  }
  // A weight that others read too must not be scaled for them.
  for (const Pair& pair : pairs) {
    own_constant(graph, pair.first, 1);
    own_constant(graph, pair.second, 1);
    if (!graph.nodes[pair.first].input(2).empty()) own_constant(graph, pair.first, 2);
  }
  EqualizationReport report{.pairs = static_cast<int>(pairs.size())};
  for (double change = 1; change > 1e-3 && report.rounds < max_rounds && !pairs.empty(); ++report.rounds) {
    change = 0;
    for (Pair& pair : pairs) change = std::max(change, rescale(graph, pair));
  }
  // Nodes are appended for the clips, so indices stay valid until the sort.
  for (const Pair& pair : pairs) {
    if (pair.clip < 0) continue;
    const auto clip = static_cast<std::size_t>(pair.clip);
    const Node& conv = graph.nodes[pair.first];
    const std::int64_t rank = graph.constants.at(conv.input(1)).rank();
    std::vector<std::int64_t> shape(static_cast<std::size_t>(rank), 1);
    shape[1] = static_cast<std::int64_t>(pair.scale.size());
    std::vector<float> caps;
    for (const double s : pair.scale) caps.push_back(static_cast<float>(pair.cap / s));
    const Node old = graph.nodes[clip];
    const std::string cap =
        graph.add_constant(old.output(0) + ".cap", TensorData::from(shape, std::move(caps)));
    const std::string positive = graph.unique_name(old.output(0) + ".positive");
    graph.nodes[clip] = {
        .name = old.name, .op_type = "Relu", .inputs = {old.input(0)}, .outputs = {positive}, .doc = old.doc};
    graph.nodes.push_back({.name = old.output(0) + "/cap",
                           .op_type = "Min",
                           .inputs = {positive, cap},
                           .outputs = {old.output(0)}});
    ++report.clips_split;
  }
  graph.sort();
  graph.remove_dead();
  graph.validate();
  return report;
}

}  // namespace lithe
