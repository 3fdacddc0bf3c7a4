#include "lithe/multibit/account.h"

#include <algorithm>
#include <map>
#include <set>

#include "lithe/graph/cost.h"
#include "lithe/graph/shape_inference.h"
#include "lithe/graph/weights.h"
#include "lithe/multibit/branch_graph.h"

namespace lithe {
namespace {

int bits_of_steps(std::int64_t steps) {
  int bits = 0;
  while ((std::int64_t{1} << bits) < steps + 1) ++bits;
  return bits;
}

/// The quantiser behind a value, or nullptr.
const Node* quantiser_of(const Graph& graph, const GraphIndex& index, std::string value) {
  for (int step = 0; step < 4; ++step) {
    const int maker = index.producer(value);
    if (maker < 0) return nullptr;
    const Node& node = graph.nodes[static_cast<std::size_t>(maker)];
    if (node.domain == "lithe") return &node;
    if (!node.is("Slice") && !node.is("Mul")) return nullptr;
    value = node.input(0);
  }
  return nullptr;
}

int bits_of(const Node* quantiser) {
  if (!quantiser) return 0;
  if (quantiser->op_type == "BoundQuantize") return bits_of_steps(quantiser->attr("levels", std::int64_t{0}));
  if (quantiser->op_type != "FakeQuantize") return 0;
  return bits_of_steps(quantiser->attr("high", std::int64_t{0}) - quantiser->attr("low", std::int64_t{0}));
}

std::int64_t constant_bytes(const Graph& graph, const std::string& name) {
  const TensorData* data = graph.constant(name);
  return data && is_float(data->dtype()) ? 4 * data->count() : 0;
}

}  // namespace

BitCost bit_cost(const Graph& graph, int bits) {
  const MultibitInfo info = multibit_info(graph);
  const BitPath& path = info.path(bits);
  Graph part = extract_bits(graph, bits);
  infer_shapes(part, concrete_input_shapes(part, {}, 1));
  const Cost cost = measure_cost(part);
  const GraphIndex index(part);
  BitCost out{.bits = bits};
  const std::string whole = fmt::format("b{}.{}/", bits, path.branches.full.at(0));
  double one_branch = 0;
  for (std::size_t i = 0; i < part.nodes.size(); ++i) {
    const Node& node = part.nodes[i];
    const std::int64_t macs = cost.node_macs[i];
    const int activation = node.is("Conv") ? bits_of(quantiser_of(part, index, node.input(0))) : 0;
    const int weight = activation > 0 ? bits_of(quantiser_of(part, index, node.input(1))) : 0;
    if (weight == 0) {
      out.float_macs += macs;
      continue;
    }
    std::int64_t weights = 1;
    const ValueInfo* shape = part.info(node.input(1));
    if (shape && shape->shape)
      for (const Dim& dim : *shape->shape) weights *= std::max<std::int64_t>(1, dim.value);
    out.layers.push_back({node.name, macs, weights, weight, activation});
    out.macs += macs;
    out.bit_operations += static_cast<double>(macs) * weight * activation;
    if (node.name.starts_with(whole)) one_branch += static_cast<double>(macs);
  }
  out.uniform_bit_operations = one_branch * bits * bits;
  return out;
}

BitStorage bit_storage(const Graph& graph) {
  const MultibitInfo info = multibit_info(graph);
  BitStorage out;
  std::map<std::string, int> weights;  // bits by constant
  std::set<std::string> norms;
  std::int64_t one_branch = 0;
  const int most = info.bits.back(), whole = info.paths.back().branches.full.at(0);
  const std::string prefix = fmt::format("b{}.{}/", most, whole);
  const GraphIndex index(graph);
  for (const Node& node : graph.nodes) {
    if (node.is("BatchNormalization") && graph.is_constant(node.input(1))) {
      if (node.name.starts_with("b") && node.input(1).find('@') != std::string::npos)
        out.norms += 2 * constant_bytes(graph, node.input(1));
      for (std::size_t i = 1; i <= 4; ++i) norms.insert(node.input(i));
    }
    if (node.domain == "lithe")
      for (std::size_t i = 1; i < node.inputs.size(); ++i)
        if (norms.insert(node.input(i)).second) out.norms += constant_bytes(graph, node.input(i));
    if (!node.is("Conv")) continue;
    const Node* quantiser = quantiser_of(graph, index, node.input(1));
    if (!quantiser) continue;
    std::string constant = constant_behind(graph, index, quantiser->input(0));
    for (const Node& maker : graph.nodes)  // behind the curve of a baseline
      if (constant.empty() && !maker.outputs.empty() && maker.output(0) == quantiser->input(0)) {
        const int curve = index.producer(maker.input(0));
        if (curve >= 0) constant = graph.nodes[static_cast<std::size_t>(curve)].input(0);
      }
    int& bits = weights[constant];
    bits = std::max(bits, bits_of(quantiser));
    if (node.name.starts_with(prefix)) one_branch += constant_bytes(graph, constant);
  }
  for (const auto& [name, bits] : weights)
    if (const TensorData* data = graph.constant(name)) out.weights += (data->count() * bits + 7) / 8;
  for (const auto& [name, data] : graph.constants)
    if (is_float(data.dtype()) && data.count() > 1 && !weights.contains(name) &&
        (!norms.contains(name) || name.find('@') == std::string::npos))
      out.rest += 4 * data.count();
  out.as_float = one_branch + out.rest;
  return out;
}

}  // namespace lithe
