#include "lithe/quantize/dfsq/normalised_graph.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "lithe/base/error.h"
#include "lithe/graph/subset_function.h"
#include "lithe/ops/registry.h"
#include "lithe/quantize/prepare.h"

namespace lithe {
namespace {

constexpr int kLowestShift = -8;

std::size_t node_named(const Graph& graph, const std::string& layer) {
  for (std::size_t i = 0; i < graph.nodes.size(); ++i)
    if (layer_name(graph.nodes[i]) == layer) return i;
  fail("the layer '{}' is gone", layer);
}

/// The first input channel of a convolution's output.
std::int64_t first_channel(const at::Tensor& weight, std::int64_t groups, std::int64_t output) {
  return output / (weight.size(0) / groups) * weight.size(1);
}

/// Each weight [o, c / groups, kh, kw] times the factor of its input channel, in double.
at::Tensor times_channels(const at::Tensor& weight, std::int64_t groups, const at::Tensor& factors) {
  at::Tensor wide = weight.to(at::kDouble).clone();
  const at::Tensor all = factors.to(at::kDouble).reshape({-1});
  for (std::int64_t o = 0; o < wide.size(0); ++o)
    wide[o].mul_(all.narrow(0, first_channel(weight, groups, o), wide.size(1)).view({-1, 1, 1}));
  return wide;
}

bool is_padded(const Node& conv) {
  const std::string automatic = conv.attr("auto_pad", "NOTSET");
  if (automatic != "NOTSET") return automatic != "VALID";
  const auto pads = conv.attr("pads", std::vector<std::int64_t>{});
  return std::any_of(pads.begin(), pads.end(), [](std::int64_t pad) { return pad != 0; });
}

/// Rewrites one layer after the other.
class Normaliser {
 public:
  explicit Normaliser(Graph& graph) : graph_(graph) {}

  void rewrite(SubsetLayer& layer) {
    at_ = node_named(graph_, layer.layer);
    layer.normal = graph_.unique_name(layer.layer + "/normal");
    if (layer.quantizer.dynamic) {
      insert({.name = layer.layer + "/normalise",
              .op_type = "Identity",
              .inputs = {layer.input},
              .outputs = {layer.normal}});
      graph_.nodes[at_].inputs[0] = layer.normal;
      return;
    }
    const std::int64_t groups = graph_.nodes[at_].attr("group", std::int64_t{1});
    const std::string weight_name = own_constant(graph_, at_, 1);
    const at::Tensor weight = to_tensor(graph_.constants.at(weight_name));
    const at::Tensor means = to_tensor(layer.quantizer.mean), scales = to_tensor(layer.quantizer.scale);
    const bool centred = !means.eq(0).all().item<bool>();

    std::string value = layer.input;
    if (centred) value = add(layer.layer + "/centred", "Sub", value, layer.quantizer.mean);
    insert({.name = layer.layer + "/normalise",
            .op_type = "Div",
            .inputs = {value, graph_.add_constant(layer.layer + "/scales", layer.quantizer.scale)},
            .outputs = {layer.normal}});
    value = layer.normal;
    const std::vector<int> exponents =
        choose_shifts(weight, groups, layer.quantizer.scale.to_floats(), layer.energy, layer.weight_bits);
    at::Tensor shifts = at::ones_like(scales);
    for (std::size_t c = 0; c < exponents.size(); ++c)
      shifts[static_cast<std::int64_t>(c)].fill_(std::ldexp(1.0, exponents[c]));
    if (!shifts.eq(1).all().item<bool>())
      value = add(layer.layer + "/shifted", "Mul", value, to_tensor_data(shifts));
    graph_.nodes[at_].inputs[0] = value;
    graph_.constants.at(weight_name) =
        to_tensor_data(times_channels(weight, groups, scales / shifts).to(at::kFloat).contiguous());
    if (!centred) return;
    const at::Tensor sums = times_channels(weight, groups, means).sum(1, true);
    if (is_padded(graph_.nodes[at_]))
      add_border(layer, sums.to(at::kFloat).contiguous());
    else
      add_to_bias(sums.sum({1, 2, 3}).to(at::kFloat));
  }

 private:
  void insert(Node node) {
    graph_.nodes.insert(graph_.nodes.begin() + static_cast<std::ptrdiff_t>(at_), std::move(node));
    ++at_;
  }
  std::string add(const std::string& base, const char* type, const std::string& value,
                  const TensorData& constant) {
    std::string output = graph_.unique_name(base);
    insert({.name = base,
            .op_type = type,
            .inputs = {value, graph_.add_constant(base + "/by", constant)},
            .outputs = {output}});
    return output;
  }

  void add_to_bias(const at::Tensor& sums) {
    ensure_bias(graph_, at_, sums.numel());
    TensorData& bias = graph_.constants.at(own_constant(graph_, at_, 2));
    bias = to_tensor_data((to_tensor(bias).reshape({-1}) + sums).contiguous());
  }

  void add_border(const SubsetLayer& layer, const at::Tensor& sums) {
    const Node conv = graph_.nodes[at_];
    const std::string output = conv.outputs[0], product = graph_.unique_name(output + "/product"),
                      mean = graph_.unique_name(output + "/mean");
    graph_.nodes[at_].outputs[0] = product;
    const std::string ones = plane_of_ones(layer);
    Node border{.name = layer.layer + "/mean", .op_type = "Conv", .attributes = conv.attributes};
    border.inputs = {ones, graph_.add_constant(layer.layer + "/mean_weight", to_tensor_data(sums))};
    border.outputs = {mean};
    border.attributes["group"] = std::int64_t{1};
    const auto behind = graph_.nodes.begin() + static_cast<std::ptrdiff_t>(at_) + 1;
    graph_.nodes.insert(behind, {std::move(border),
                                 {.name = layer.layer + "/add_mean",
                                  .op_type = "Add",
                                  .inputs = {product, mean},
                                  .outputs = {output}}});
  }

  /// [n, 1, h, w] of ones, as large as the normalised value is: its first channel, times 0, plus 1.
  std::string plane_of_ones(const SubsetLayer& layer) {
    const auto ints = [&](const char* name, std::int64_t number) {
      return graph_.add_constant(layer.layer + name, TensorData::from<std::int64_t>({1}, {number}));
    };
    const std::string first = graph_.unique_name(layer.layer + "/first"), one = ints("/one", 1);
    insert({.name = first,
            .op_type = "Slice",
            .inputs = {layer.normal, ints("/start", 0), one, one},
            .outputs = {first}});
    return add(layer.layer + "/ones", "Add",
               add(layer.layer + "/zeros", "Mul", first, TensorData::scalar(0.0f)), TensorData::scalar(1.0f));
  }

  Graph& graph_;
  std::size_t at_ = 0;  // of the layer
};

bool same_numbers(const TensorData& a, const TensorData& b) {
  return std::equal(a.bytes().begin(), a.bytes().end(), b.bytes().begin(), b.bytes().end());
}

bool same_rounding(const SubsetLayer& a, const SubsetLayer& b) {
  return a.input == b.input && a.quantizer.dynamic == b.quantizer.dynamic &&
         same_numbers(a.quantizer.points, b.quantizer.points) &&
         same_numbers(a.quantizer.mean, b.quantizer.mean) &&
         same_numbers(a.quantizer.scale, b.quantizer.scale);
}

/// Steps of the weights of each output times the energy of their inputs, both after shifting.
double rounding_noise(const at::Tensor& weight, std::int64_t groups, const std::vector<int>& exponents,
                      const std::vector<double>& energy, int bits) {
  at::Tensor factors = at::empty({static_cast<std::int64_t>(exponents.size())}, at::kDouble);
  for (std::size_t c = 0; c < exponents.size(); ++c)
    factors.data_ptr<double>()[c] = std::ldexp(1.0, -exponents[c]);
  const at::Tensor rows = times_channels(weight, groups, factors).reshape({weight.size(0), -1});
  const at::Tensor ranges = rows.amax(1).clamp_min(0) - rows.amin(1).clamp_max(0);
  double noise = 0;
  for (std::int64_t o = 0; o < weight.size(0); ++o) {
    const double step = ranges[o].item<double>() / static_cast<double>((std::int64_t{1} << bits) - 1);
    const auto first = static_cast<std::size_t>(first_channel(weight, groups, o));
    double inputs = 0;
    for (std::size_t c = first; c < first + static_cast<std::size_t>(weight.size(1)); ++c)
      inputs += std::ldexp(energy[c], 2 * exponents[c]);
    noise += step * step * inputs;
  }
  return noise;
}

/// The nearest powers of two, the largest of them 2^0.
std::vector<int> exponents_of(const std::vector<double>& sizes) {
  const double most = *std::max_element(sizes.begin(), sizes.end());
  std::vector<int> exponents;
  for (const double size : sizes) {
    const bool tiny = !(size > most * std::ldexp(1.0, kLowestShift));
    exponents.push_back(tiny ? kLowestShift : static_cast<int>(std::lround(std::log2(size / most))));
  }
  return exponents;
}

}  // namespace

std::vector<int> choose_shifts(const at::Tensor& weight, std::int64_t groups,
                               const std::vector<float>& scales, const std::vector<double>& energy,
                               int bits) {
  std::vector<int> best(scales.size(), 0);
  if (bits >= 8 || energy.size() != scales.size()) return best;
  const at::Tensor scaled =
      times_channels(weight, groups, at::tensor(std::vector<float>(scales.begin(), scales.end())));
  std::vector<double> sizes(scales.size(), 0.0);
  const at::Tensor largest = scaled.abs().amax({2, 3}).contiguous();  // [o, c / groups]
  for (std::int64_t o = 0; o < weight.size(0); ++o)
    for (std::int64_t j = 0; j < weight.size(1); ++j) {
      double& size = sizes[static_cast<std::size_t>(first_channel(weight, groups, o) + j)];
      size = std::max(size, largest[o][j].item<double>());
    }
  double least = rounding_noise(scaled, groups, best, energy, bits);
  for (const std::vector<double>& by : {std::vector<double>(scales.begin(), scales.end()), sizes}) {
    std::vector<int> exponents = exponents_of(by);
    const double noise = rounding_noise(scaled, groups, exponents, energy, bits);
    if (noise < least) {
      least = noise;
      best = std::move(exponents);
    }
  }
  return best;
}

NormalisedGraph normalise_channels(const Graph& graph, std::vector<SubsetLayer> layers) {
  NormalisedGraph result{.graph = graph, .layers = std::move(layers)};
  Normaliser normaliser(result.graph);
  for (SubsetLayer& layer : result.layers) normaliser.rewrite(layer);
  result.graph.validate();
  return result;
}

SubsetQuantizer quantizer_of_normal(const SubsetLayer& layer) {
  SubsetQuantizer quantizer = layer.quantizer;
  if (quantizer.dynamic) return quantizer;
  const at::Tensor scale = to_tensor(layer.quantizer.scale);
  quantizer.mean = to_tensor_data(at::zeros_like(scale));
  quantizer.scale = to_tensor_data(at::ones_like(scale));
  return quantizer;
}

Graph export_subsets(const NormalisedGraph& normalised, const QdqPlan& plan) {
  QdqPlan weights{.layers = plan.layers, .weights = plan.weights};
  for (Layer& layer : weights.layers) layer.activation_bits = kFloatBits;
  Graph graph = export_qdq(normalised.graph, weights);
  std::vector<const SubsetLayer*> made;
  for (const SubsetLayer& layer : normalised.layers) {
    const auto same = std::find_if(made.begin(), made.end(),
                                   [&](const SubsetLayer* one) { return same_rounding(*one, layer); });
    std::erase_if(graph.nodes, [&](const Node& node) { return node.output(0) == layer.normal; });
    if (same != made.end()) {
      graph.replace_uses(layer.normal, (*same)->normal);
      continue;
    }
    graph.nodes.push_back(subset_node(graph, layer.quantizer, layer.layer + "/subset_quantize", layer.input,
                                      layer.normal, false));
    made.push_back(&layer);
  }
  graph.sort();
  graph.remove_dead();
  add_subset_functions(graph);
  graph.validate();
  return graph;
}

}  // namespace lithe
