#include "lithe/quantize/dfsq/normalised_graph.h"

#include <algorithm>
#include <set>

#include "lithe/base/error.h"
#include "lithe/graph/subset_function.h"
#include "lithe/ops/registry.h"
#include "lithe/quantize/prepare.h"

namespace lithe {
namespace {

std::size_t node_named(const Graph& graph, const std::string& layer) {
  for (std::size_t i = 0; i < graph.nodes.size(); ++i)
    if (layer_name(graph.nodes[i]) == layer) return i;
  fail("the layer '{}' is gone", layer);
}

/// The input channels of a convolution's weight [o, c / groups, kh, kw], by output.
std::int64_t first_channel(const Node& conv, const TensorData& weight, std::int64_t output) {
  const std::int64_t groups = conv.attr("group", std::int64_t{1});
  return output / (weight.shape()[0] / groups) * weight.shape()[1];
}

/// Each weight times the factor of its input channel.
at::Tensor times_channels(const Node& conv, const TensorData& data, const TensorData& factors) {
  at::Tensor weight = to_tensor(data).clone();
  const at::Tensor all = to_tensor(factors).reshape({-1});
  for (std::int64_t o = 0; o < weight.size(0); ++o)
    weight[o].mul_(all.narrow(0, first_channel(conv, data, o), weight.size(1)).view({-1, 1, 1}));
  return weight;
}

bool is_padded(const Node& conv) {
  const std::string automatic = conv.attr("auto_pad", "NOTSET");
  if (automatic != "NOTSET") return automatic != "VALID";
  const auto pads = conv.attr("pads", std::vector<std::int64_t>{});
  return std::any_of(pads.begin(), pads.end(), [](std::int64_t pad) { return pad != 0; });
}

class Exporter {
 public:
  Exporter(const NormalisedGraph& normalised, const QdqPlan& plan) : normalised_(normalised), plan_(plan) {}

  Graph run() {
    QdqPlan weights{.layers = plan_.layers, .weights = plan_.weights};
    for (Layer& layer : weights.layers) layer.activation_bits = kFloatBits;
    graph_ = export_qdq(normalised_.graph, weights);
    for (const SubsetLayer& layer : normalised_.layers) write(layer);
    graph_.sort();
    graph_.remove_dead();
    add_subset_functions(graph_);
    graph_.validate();
    return std::move(graph_);
  }

 private:
  /// The rounded form of the layer's input; layers that share input and points share it.
  std::string rounded(const SubsetLayer& layer) {
    const SubsetQuantizer& quantizer = layer.quantizer;
    const auto same = std::find_if(made_.begin(), made_.end(), [&](const Made& one) {
      return one.input == layer.input && one.quantizer->dynamic == quantizer.dynamic &&
             one.quantizer->points.bytes().data() == quantizer.points.bytes().data();
    });
    if (same != made_.end()) return same->output;
    const std::string output = graph_.unique_name(layer.input + "/points");
    graph_.nodes.push_back(
        subset_node(graph_, quantizer, layer.layer + "/subset_quantize", layer.input, output, false));
    made_.push_back({layer.input, output, &quantizer});
    return output;
  }

  void write(const SubsetLayer& layer) {
    const std::string source = rounded(layer);
    const std::size_t at = node_named(graph_, layer.layer);
    graph_.nodes[at].inputs[0] = source;
    if (layer.quantizer.dynamic) return;
    const at::Tensor means = to_tensor(layer.quantizer.mean).reshape({-1});
    if (means.eq(0).all().item<bool>()) return;
    const at::Tensor sums = mean_sums(layer, graph_.nodes[at]);
    if (!is_padded(graph_.nodes[at]))
      add_to_bias(at, sums.sum({1, 2, 3}).to(at::kFloat));
    else
      add_border(at, layer, source, sums.to(at::kFloat));
  }

  /// Sums over input channels of weight times mean, [o, 1, kh, kw], in double. Weights are as quantised.
  at::Tensor mean_sums(const SubsetLayer& layer, const Node& conv) const {
    const auto found = std::find_if(plan_.layers.begin(), plan_.layers.end(),
                                    [&](const Layer& one) { return one.name == layer.layer; });
    const TensorData& plain = normalised_.graph.constants.at(found->weight);
    at::Tensor weight = to_tensor(plain);
    for (const QuantizedWeight& one : plan_.weights)
      if (one.constant == found->weight) weight = decode(one.quantizer, one.codes);
    // The weights hold the scales already.
    const at::Tensor ratio =
        (to_tensor(layer.quantizer.mean).to(at::kDouble) / to_tensor(layer.quantizer.scale).to(at::kDouble))
            .reshape({-1});
    at::Tensor wide = weight.to(at::kDouble).clone();
    for (std::int64_t o = 0; o < wide.size(0); ++o)
      wide[o].mul_(ratio.narrow(0, first_channel(conv, plain, o), wide.size(1)).view({-1, 1, 1}));
    return wide.sum(1, true);
  }

  void add_to_bias(std::size_t at, const at::Tensor& sums) {
    ensure_bias(graph_, at, sums.numel());
    const std::string name = own_constant(graph_, at, 2);
    TensorData& bias = graph_.constants.at(name);
    bias = to_tensor_data((to_tensor(bias).reshape({-1}) + sums).contiguous());
  }

  void add_border(std::size_t at, const SubsetLayer& layer, const std::string& source,
                  const at::Tensor& sums) {
    const Node conv = graph_.nodes[at];
    const std::string output = conv.outputs[0], product = graph_.unique_name(output + "/product");
    graph_.nodes[at].outputs[0] = product;
    const std::string ones = plane_of_ones(source);
    const std::string border = graph_.unique_name(output + "/mean");
    Node mean{.name = layer.layer + "/mean", .op_type = "Conv", .attributes = conv.attributes};
    mean.inputs = {ones,
                   graph_.add_constant(layer.layer + "/mean_weight", to_tensor_data(sums.contiguous()))};
    mean.outputs = {border};
    mean.attributes["group"] = std::int64_t{1};
    graph_.nodes.push_back(std::move(mean));
    graph_.nodes.push_back({.name = layer.layer + "/add_mean",
                            .op_type = "Add",
                            .inputs = {product, border},
                            .outputs = {output}});
  }

  /// [n, 1, h, w] of ones, as large as the value is: its first channel, times 0, plus 1.
  std::string plane_of_ones(const std::string& value) {
    if (const auto found = ones_.find(value); found != ones_.end()) return found->second;
    const auto ints = [&](const char* name, std::int64_t number) {
      return graph_.add_constant(value + name, TensorData::from<std::int64_t>({1}, {number}));
    };
    const std::string first = graph_.unique_name(value + "/first"),
                      zeros = graph_.unique_name(value + "/zeros"),
                      ones = graph_.unique_name(value + "/ones");
    const std::string one_name = ints("/one", 1);
    graph_.nodes.push_back({.name = first,
                            .op_type = "Slice",
                            .inputs = {value, ints("/start", 0), one_name, one_name},
                            .outputs = {first}});
    graph_.nodes.push_back(
        {.name = zeros,
         .op_type = "Mul",
         .inputs = {first, graph_.add_constant(value + "/factor", TensorData::scalar(0.0f))},
         .outputs = {zeros}});
    graph_.nodes.push_back(
        {.name = ones,
         .op_type = "Add",
         .inputs = {zeros, graph_.add_constant(value + "/summand", TensorData::scalar(1.0f))},
         .outputs = {ones}});
    return ones_.emplace(value, ones).first->second;
  }

  struct Made {
    std::string input, output;
    const SubsetQuantizer* quantizer;
  };

  const NormalisedGraph& normalised_;
  const QdqPlan& plan_;
  Graph graph_;
  std::vector<Made> made_;
  std::map<std::string, std::string> ones_;
};

}  // namespace

NormalisedGraph normalise_channels(const Graph& graph, std::vector<SubsetLayer> layers) {
  NormalisedGraph result{.graph = graph, .layers = std::move(layers)};
  Graph& out = result.graph;
  for (SubsetLayer& layer : result.layers) {
    const std::size_t at = node_named(out, layer.layer);
    layer.normal = out.unique_name(layer.layer + "/normal");
    Node node{.name = layer.layer + "/normalise", .inputs = {layer.input}, .outputs = {layer.normal}};
    if (layer.quantizer.dynamic) {
      node.op_type = "Identity";
    } else {
      node.op_type = "Div";
      node.inputs.push_back(out.add_constant(layer.layer + "/scales", layer.quantizer.scale));
      const std::string weight = own_constant(out, at, 1);
      out.constants.at(weight) = to_tensor_data(
          times_channels(out.nodes[at], out.constants.at(weight), layer.quantizer.scale).contiguous());
    }
    out.nodes[at].inputs[0] = layer.normal;
    out.nodes.insert(out.nodes.begin() + static_cast<std::ptrdiff_t>(at), std::move(node));
  }
  out.validate();
  return result;
}

SubsetQuantizer quantizer_of_normal(const SubsetLayer& layer) {
  SubsetQuantizer quantizer = layer.quantizer;
  if (quantizer.dynamic) return quantizer;
  const at::Tensor scale = to_tensor(layer.quantizer.scale);
  quantizer.mean = to_tensor_data((to_tensor(layer.quantizer.mean) / scale).contiguous());
  quantizer.scale = to_tensor_data(at::ones_like(scale));
  return quantizer;
}

Graph export_subsets(const NormalisedGraph& normalised, const QdqPlan& weights) {
  return Exporter(normalised, weights).run();
}

}  // namespace lithe
