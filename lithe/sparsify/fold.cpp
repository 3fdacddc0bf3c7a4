#include "lithe/sparsify/fold.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "lithe/graph/sparsity_record.h"

namespace lithe {
namespace {

/// y = scale x + shift in each channel.
struct ChannelMap {
  std::vector<double> scale, shift;
};

ChannelMap map_of(const Graph& graph, const Node& norm) {
  std::vector<std::vector<double>> parts;
  for (std::size_t i = 1; i <= 4; ++i) parts.push_back(graph.constants.at(norm.input(i)).to_doubles());
  const double epsilon = norm.attr("epsilon", 1e-5f);
  ChannelMap map;
  for (std::size_t c = 0; c < parts[0].size(); ++c) {
    map.scale.push_back(parts[0][c] / std::sqrt(parts[3][c] + epsilon));
    map.shift.push_back(parts[1][c] - map.scale[c] * parts[2][c]);
  }
  return map;
}

/// Rounds once; every pruned weight becomes +0, and so does a kept one that rounds to -0.
TensorData rounded(DType dtype, const std::vector<std::int64_t>& shape, const std::vector<double>& values,
                   const std::vector<std::uint8_t>* mask) {
  const auto round = [&]<typename Real>(Real) {
    std::vector<Real> out(values.size(), Real{0});
    for (std::size_t i = 0; i < values.size(); ++i) {
      const Real value = static_cast<Real>(values[i]);
      if ((!mask || (*mask)[i] != 0) && value != 0) out[i] = value;
    }
    return TensorData::from(shape, std::move(out));
  };
  return dtype == DType::Float64 ? round(double{}) : round(float{});
}

struct Folded {
  TensorData kernel, bias;
};

Folded fold_layer(const Graph& graph, const MaskedLayer& masked, const Node& conv, const Node& norm,
                  const Node* branch_norm, const std::vector<std::uint8_t>& mask) {
  const TensorData& weight = graph.constants.at(masked.layer.weight);
  const ChannelMap first = map_of(graph, norm);
  std::vector<double> kernel = weight.to_doubles(), bias = first.shift;
  const std::size_t inner = static_cast<std::size_t>(masked.layer.groups.inner);
  const std::size_t row = kernel.size() / first.scale.size();
  if (!conv.input(2).empty()) {
    const std::vector<double> own = graph.constants.at(conv.input(2)).to_doubles();
    for (std::size_t c = 0; c < bias.size(); ++c) bias[c] += first.scale[c] * own[c];
  }
  for (std::size_t i = 0; i < kernel.size(); ++i) kernel[i] *= first.scale[i / row];
  if (branch_norm) {
    const ChannelMap second = map_of(graph, *branch_norm);
    const std::vector<double> v = graph.constants.at(masked.branch_weight).to_doubles();
    const std::vector<double> s = graph.constants.at(masked.spatial_mask).to_doubles();
    for (std::size_t i = 0; i < kernel.size(); ++i)
      if (s[i % inner] != 0) kernel[i] += second.scale[i / row] * v[i];
    for (std::size_t c = 0; c < bias.size(); ++c) bias[c] += second.shift[c];
  }
  return {rounded(weight.dtype(), weight.shape(), kernel, &mask),
          rounded(weight.dtype(), {static_cast<std::int64_t>(bias.size())}, bias, nullptr)};
}

std::vector<std::uint8_t> final_mask(const Graph& learnt, const MaskedLayer& one) {
  if (one.fixed_mask.empty()) return mask_of(learnt.constants.at(one.layer.weight), one.layer);
  const auto bytes = learnt.constants.at(one.fixed_mask).bytes();
  std::vector<std::uint8_t> mask;
  for (const std::byte byte : bytes) mask.push_back(byte != std::byte{0} ? 1 : 0);
  return mask;
}

}  // namespace

Graph fold_masks(const MaskedGraph& masked, const Graph& learnt) {
  Graph graph = learnt;
  std::vector<SparsityRecord> records;
  for (const MaskedLayer& one : masked.layers) {
    const std::vector<std::uint8_t> mask = final_mask(learnt, one);
    TensorData& weight = graph.constants.at(one.layer.weight);
    std::set<std::string> gone{one.pruned};
    std::string output = one.norm;  // what the folded convolution makes
    if (one.norm.empty()) {
      weight = rounded(weight.dtype(), weight.shape(), weight.to_doubles(), &mask);
    } else {
      const Node conv = graph.nodes[node_of(graph, one.layer.output)];
      const Node norm = graph.nodes[node_of(graph, one.norm)];
      gone.insert(one.norm);
      Folded folded;
      if (one.has_branch()) {
        const Node second = graph.nodes[node_of(graph, one.branch_norm)];
        folded = fold_layer(learnt, one, conv, norm, &second, mask);
        const GraphIndex index(graph);
        const int sum = index.consumers(one.branch_norm).at(0);
        output = graph.nodes[static_cast<std::size_t>(sum)].output(0);
        for (const std::string& value : {one.branch_norm, one.branch_output, output,
                                         graph.nodes[node_of(graph, one.branch_output)].input(1)})
          gone.insert(value);
      } else {
        folded = fold_layer(learnt, one, conv, norm, nullptr, mask);
      }
      weight = folded.kernel;
      const std::string bias = graph.add_constant(one.layer.name + "/bias", folded.bias);
      Node& target = graph.nodes[node_of(graph, one.layer.output)];
      target.inputs.resize(3);
      target.inputs[2] = bias;
    }
    std::erase_if(graph.nodes, [&](const Node& node) { return gone.contains(node.output(0)); });
    for (Node& node : graph.nodes)
      std::replace(node.inputs.begin(), node.inputs.end(), one.pruned, one.layer.weight);
    if (!one.norm.empty()) {
      graph.nodes[node_of(graph, one.layer.output)].outputs[0] = output;
      graph.values.erase(one.layer.output);
    }
    for (const std::string& value : gone)
      if (value != output) graph.values.erase(value);
    records.push_back({.layer = one.layer.name,
                       .weight = one.layer.weight,
                       .pattern = *one.layer.pattern,
                       .axis = one.layer.axis,
                       .checksum = weight_checksum(graph.constants.at(one.layer.weight))});
  }
  const bool still_used = std::any_of(graph.nodes.begin(), graph.nodes.end(),
                                      [](const Node& node) { return node.domain == "lithe"; });
  if (!still_used) graph.header.opsets.erase("lithe");
  for (const SparsityRecord& earlier : sparsity_records(graph))  // of layers that were pruned before
    if (std::none_of(records.begin(), records.end(),
                     [&](const SparsityRecord& one) { return one.weight == earlier.weight; }))
      records.push_back(earlier);
  keep_sparsity_records(graph, records);
  graph.remove_dead();
  graph.sort();
  graph.validate();
  return graph;
}

}  // namespace lithe
