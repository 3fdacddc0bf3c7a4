#include "lithe/sparsify/masked_graph.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "lithe/base/error.h"
#include "lithe/base/random.h"
#include "lithe/kernels/magnitude_mask.h"
#include "lithe/kernels/nm_mask.h"
#include "lithe/train/insert_norms.h"

namespace lithe {
namespace {

/// Numbers as a constant of the given float type.
TensorData as_type(DType dtype, std::vector<std::int64_t> shape, const std::vector<double>& values) {
  if (dtype == DType::Float64) return TensorData::from(std::move(shape), values);
  return TensorData::from(std::move(shape), std::vector<float>(values.begin(), values.end()));
}

/// The batch norm that alone reads the value, if its parameters are constants; -1 if there is none.
int norm_behind(const Graph& graph, const GraphIndex& index, const std::string& value) {
  const auto& readers = index.consumers(value);
  if (readers.size() != 1 || index.is_output(value)) return -1;
  const Node& norm = graph.nodes[static_cast<std::size_t>(readers[0])];
  if (!norm.is("BatchNormalization") || norm.input(0) != value) return -1;
  for (std::size_t i = 1; i <= 4; ++i)
    if (!graph.is_constant(norm.input(i))) return -1;
  return readers[0];
}

/// Adds V, S and the second convolution with its norm beside the first one.
void add_branch(Graph& graph, MaskedLayer& masked, const MaskOptions& options, Rng& rng) {
  const std::size_t conv_index = node_of(graph, masked.layer.output);
  const Node conv = graph.nodes[conv_index];
  const std::size_t norm_index = node_of(graph, masked.norm);
  const Node norm = graph.nodes[norm_index];
  const TensorData weight = graph.constants.at(masked.layer.weight);
  const std::string base = masked.layer.name + "/spatial";
  const std::int64_t outputs = weight.shape()[0],
                     fan_in = masked.layer.groups.channels * masked.layer.groups.inner;

  // He et al., ICCV 2015, normal, as the paper's code has it.
  std::vector<double> v(static_cast<std::size_t>(weight.count()));
  for (double& value : v) value = rng.normal() * std::sqrt(2.0 / static_cast<double>(fan_in));
  masked.branch_weight = graph.add_constant(base + "/weight", as_type(weight.dtype(), weight.shape(), v));
  const auto spatial = spatial_mask_of(weight, masked.layer, options.spatial);
  std::vector<std::int64_t> spatial_shape = weight.shape();
  spatial_shape[0] = spatial_shape[1] = 1;
  masked.spatial_mask = graph.add_constant(
      base + "/mask", as_type(weight.dtype(), spatial_shape, {spatial.begin(), spatial.end()}));

  const auto constant = [&](const char* name, double value) {
    return graph.add_constant(base + "/norm/" + name,
                              as_type(graph.constants.at(norm.input(1)).dtype(), {outputs},
                                      std::vector<double>(static_cast<std::size_t>(outputs), value)));
  };
  Node second_norm = norm;
  second_norm.name = base + "/norm";
  second_norm.inputs = {"", constant("scale", options.branch_gamma), constant("bias", 0), constant("mean", 0),
                        constant("var", 1)};

  Node prune{.name = base + "/prune",
             .op_type = "SpatialBranch",
             .domain = "lithe",
             .inputs = {masked.branch_weight, masked.mask, masked.spatial_mask},
             .outputs = {graph.unique_name(base + "/weight/pruned")}};
  Node second = conv;
  second.name = base + "/conv";
  second.inputs = {conv.input(0), prune.outputs[0]};
  second.outputs = {masked.branch_output = graph.unique_name(base + "/conv/out")};
  second_norm.inputs[0] = masked.branch_output;
  second_norm.outputs = {masked.branch_norm = graph.unique_name(base + "/norm/out")};
  // The sum takes the name that readers know.
  const std::string result = norm.output(0), main = graph.unique_name(base + "/main");
  graph.nodes[norm_index].outputs[0] = main;
  masked.norm = main;
  Node add{
      .name = base + "/add", .op_type = "Add", .inputs = {main, masked.branch_norm}, .outputs = {result}};
  for (Node* node : {&prune, &second, &second_norm, &add}) graph.nodes.push_back(std::move(*node));
}

}  // namespace

std::vector<std::uint8_t> mask_of(const TensorData& weight, const SparseLayer& layer) {
  std::vector<std::uint8_t> mask(static_cast<std::size_t>(weight.count()), 1);
  if (!layer.pattern) return mask;
  const auto [n, m] = *layer.pattern;
  if (weight.dtype() == DType::Float64)
    nm_mask(weight.values<double>().data(), layer.groups, n, m, mask.data());
  else
    nm_mask(weight.values<float>().data(), layer.groups, n, m, mask.data());
  return mask;
}

std::vector<std::uint8_t> spatial_mask_of(const TensorData& weight, const SparseLayer& layer,
                                          SpatialChoice choice, double margin,
                                          std::vector<std::uint8_t> previous) {
  std::vector<std::int64_t> kept(static_cast<std::size_t>(layer.groups.inner));
  std::vector<std::uint8_t> mask = std::move(previous);
  if (mask.size() != kept.size()) {
    mask.assign(kept.size(), 0);
    margin = 0;
  }
  if (choice == SpatialChoice::Everywhere) {
    std::fill(mask.begin(), mask.end(), std::uint8_t{1});
    return mask;
  }
  const auto flip = [&] {
    if (choice == SpatialChoice::Inverted)
      for (std::uint8_t& bit : mask) bit = bit == 0 ? 1 : 0;
  };
  flip();  // the previous mask, back to what was measured
  const auto [n, m] = *layer.pattern;
  if (weight.dtype() == DType::Float64)
    spatial_counts(weight.values<double>().data(), layer.groups, n, m, kept.data());
  else
    spatial_counts(weight.values<float>().data(), layer.groups, n, m, kept.data());
  spatial_mask(kept.data(), layer.groups, n, m, margin, mask.data());
  flip();
  return mask;
}

std::vector<std::string> insert_batch_norms(Graph& graph, std::vector<SparseLayer>& layers,
                                            const DatasetPtr& data, std::int64_t samples,
                                            std::int64_t batch) {
  std::vector<std::string> wanted;
  {
    const GraphIndex index(graph);
    for (const SparseLayer& layer : layers) {
      if (!layer.pattern || layer.op != "Conv" || layer.shared || index.is_output(layer.output)) continue;
      const Node& conv = graph.nodes[static_cast<std::size_t>(index.producer(layer.output))];
      const bool own_bias = conv.input(2).empty() || graph.is_constant(conv.input(2));
      if (own_bias && norm_behind(graph, index, layer.output) < 0) wanted.push_back(layer.output);
    }
  }
  if (wanted.empty()) return {};
  std::vector<std::string> outputs = insert_norms(graph, wanted, data, samples, batch);
  for (SparseLayer& layer : layers)
    if (const auto found = std::find(wanted.begin(), wanted.end(), layer.output); found != wanted.end())
      layer.output = outputs[static_cast<std::size_t>(found - wanted.begin())];
  return outputs;
}

MaskedGraph insert_masks(const Graph& graph, const std::vector<SparseLayer>& layers,
                         const MaskOptions& options, const std::vector<std::string>& inserted) {
  MaskedGraph masked{.graph = graph, .options = options};
  Graph& g = masked.graph;
  g.header.opsets["lithe"] = 1;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const SparseLayer& layer = layers[i];
    if (!layer.pattern) continue;
    MaskedLayer one{.layer = layer};
    const TensorData weight = g.constants.at(layer.weight);
    int norm = -1;
    {
      const GraphIndex index(g);
      if (layer.op == "Conv" && !layer.shared) norm = norm_behind(g, index, layer.output);
    }
    const bool fresh = std::find(inserted.begin(), inserted.end(), layer.output) != inserted.end();
    const bool branch = options.branches && norm >= 0 && layer.groups.inner > 1;
    if (branch || fresh) one.norm = g.nodes[static_cast<std::size_t>(norm)].output(0);

    Node prune{
        .name = layer.name + "/prune", .op_type = "NmPrune", .domain = "lithe", .inputs = {layer.weight}};
    one.pruned = g.unique_name(layer.weight + "/pruned");
    one.mask = g.unique_name(layer.weight + "/mask");
    prune.outputs = {one.pruned, one.mask};
    prune.attributes["n"] = layer.pattern->kept;
    prune.attributes["m"] = layer.pattern->group;
    prune.attributes["axis"] = static_cast<std::int64_t>(layer.axis);
    prune.attributes["mode"] = std::string(options.mode == MaskMode::Fixed             ? "fixed"
                                           : options.mode == MaskMode::StraightThrough ? "ste"
                                                                                       : "sr-ste");
    prune.attributes["decay"] = static_cast<float>(options.decay);
    for (Node& node : g.nodes) std::replace(node.inputs.begin(), node.inputs.end(), layer.weight, one.pruned);
    const bool split = layer.op == "ConvTranspose" && layer.groups.outer > 1;
    if (split && layer.groups.channels % layer.pattern->group != 0)
      fail(
          "layer '{}': groups of {} input channels cannot be pruned {}:{} in a grouped transposed "
          "convolution; exclude it",
          layer.name, layer.groups.channels, layer.pattern->kept, layer.pattern->group);
    if (options.mode == MaskMode::Fixed) {
      auto bits = std::make_shared<std::vector<std::uint8_t>>(mask_of(weight, layer));
      one.fixed_mask =
          g.add_constant(layer.weight + "/fixed_mask",
                         TensorData(DType::Bool, weight.shape(), std::as_bytes(std::span(*bits)), bits));
      prune.inputs.push_back(one.fixed_mask);
    } else if (options.tightens) {
      one.kept =
          g.add_constant(layer.weight + "/kept", TensorData::from<std::int64_t>({1}, {layer.pattern->kept}));
      prune.inputs.push_back(one.kept);
    }
    g.nodes.push_back(std::move(prune));
    if (branch) {
      Rng rng(options.seed, i);
      add_branch(g, one, options, rng);
    }
    masked.layers.push_back(std::move(one));
  }
  if (masked.layers.empty()) {
    std::string reasons;
    for (std::size_t i = 0; i < layers.size() && i < 4; ++i)
      reasons += fmt::format("{}'{}': {}", i == 0 ? "" : "; ", layers[i].name, layers[i].dense_reason);
    fail("no layer of the model '{}' is pruned ({}{}); choose another pattern or --include layers",
         graph.name, reasons, layers.size() > 4 ? "; ..." : "");
  }
  g.sort();
  g.validate();
  return masked;
}

}  // namespace lithe
