#include "lithe/multibit/account.h"

#include <algorithm>
#include <map>
#include <set>

#include "lithe/graph/cost.h"
#include "lithe/graph/shape_inference.h"
#include "lithe/graph/weights.h"
#include "lithe/multibit/multibit_info.h"

namespace lithe {
namespace {

int bits_of_steps(std::int64_t steps) {
  int bits = 0;
  while (bits < 32 && (std::int64_t{1} << bits) <= steps) ++bits;
  return bits;
}

const Node* maker_of(const Graph& graph, const GraphIndex& index, const std::string& value) {
  const int maker = index.producer(value);
  return maker < 0 ? nullptr : &graph.nodes[static_cast<std::size_t>(maker)];
}

/// The quantiser behind a value, or nullptr.
const Node* quantiser_of(const Graph& graph, const GraphIndex& index, std::string value) {
  for (int step = 0; step < 4; ++step) {
    const Node* node = maker_of(graph, index, value);
    if (!node || node->domain == "lithe") return node;
    if (!node->is("Slice") && !node->is("Mul")) return nullptr;
    value = node->input(0);
  }
  return nullptr;
}

int bits_of(const Node* quantiser) {
  if (!quantiser) return 0;
  if (quantiser->op_type == "BoundQuantize") return bits_of_steps(quantiser->attr("levels", std::int64_t{0}));
  if (quantiser->op_type != "FakeQuantize") return 0;
  return bits_of_steps(quantiser->attr("high", std::int64_t{0}) - quantiser->attr("low", std::int64_t{0}));
}

/// The float constant of a quantised weight, also behind the curve of a baseline; "" if there is none.
std::string weight_behind(const Graph& graph, const GraphIndex& index, const Node& quantiser) {
  std::string constant = constant_behind(graph, index, quantiser.input(0));
  if (!constant.empty()) return constant;
  const Node* scaled = maker_of(graph, index, quantiser.input(0));
  const Node* curve = scaled ? maker_of(graph, index, scaled->input(0)) : nullptr;
  return curve && graph.is_constant(curve->input(0)) ? curve->input(0) : "";
}

std::int64_t constant_bytes(const Graph& graph, const std::string& name) {
  const TensorData* data = graph.constant(name);
  return data && is_float(data->dtype()) ? 4 * data->count() : 0;
}

bool is_norm(const Graph& graph, const Node& node) {
  return node.is("BatchNormalization") && graph.is_constant(node.input(1));
}

}  // namespace

BitCost bit_cost(const Graph& graph, int bits) {
  const BitPath path = multibit_info(graph).path(bits);
  Graph part = extract_bits(graph, bits);
  infer_shapes(part, concrete_input_shapes(part, {}, 1));
  const Cost cost = measure_cost(part);
  const GraphIndex index(part);
  BitCost out{.bits = bits};
  const std::string whole = branch_prefix(bits, path.branches.full.front());
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
    if (node.output(0).starts_with(whole)) one_branch += static_cast<double>(macs);
  }
  out.uniform_bit_operations = one_branch * bits * bits;
  return out;
}

BitStorage bit_storage(const Graph& graph) {
  const MultibitInfo info = multibit_info(graph);
  const GraphIndex index(graph);
  std::vector<std::string> prefixes;
  for (const BitPath& path : info.paths) {
    for (const int branch : path.branches.full) prefixes.push_back(branch_prefix(path.bits, branch));
    if (path.branches.partial > 0) prefixes.push_back(branch_prefix(path.bits, path.branches.partial));
  }
  const std::string plain_branch = branch_prefix(info.bits.back(), info.paths.back().branches.full.front());
  // With slots a branch has as many sets of codes as places in which it runs. Other methods quantise one set
  // anew.
  const bool codes = info.method == multibit_method_name(MultibitMethod::MbQuant);
  std::map<std::string, std::pair<std::string, int>> weights;  // constant and bits, by what is stored once
  std::map<std::string, std::int64_t> norms, bounds, rest, plain;  // bytes by constant
  std::set<std::string> quantised;
  for (const Node& node : graph.nodes) {
    const std::string& value = node.output(0);
    const bool in_branch = std::any_of(prefixes.begin(), prefixes.end(),
                                       [&](const std::string& one) { return value.starts_with(one); });
    const bool in_plain = !in_branch || value.starts_with(plain_branch);
    if (is_norm(graph, node)) {
      const std::int64_t bytes = 2 * constant_bytes(graph, node.input(1));
      (in_branch ? norms : rest)[node.input(1)] = bytes;
      if (in_plain) plain[node.input(1)] = bytes;
      continue;
    }
    if (node.domain == "lithe") {
      for (std::size_t i = 1; i < node.inputs.size(); ++i)
        bounds[node.input(i)] = constant_bytes(graph, node.input(i));
      continue;
    }
    const Node* quantiser = node.is("Conv") ? quantiser_of(graph, index, node.input(1)) : nullptr;
    const std::string constant = quantiser ? weight_behind(graph, index, *quantiser) : "";
    if (!constant.empty()) {
      auto& [name, bits] = weights[codes ? quantiser->output(0) : constant];
      name = constant;
      bits = std::max(bits, bits_of(quantiser));
      quantised.insert(constant);
      if (in_plain) plain[constant] = constant_bytes(graph, constant);
    }
    for (const std::string& input : node.inputs) {
      const TensorData* data = graph.constant(input);
      if (!data || data->count() <= 1 || !is_float(data->dtype())) continue;
      rest[input] = 4 * data->count();
      if (in_plain) plain[input] = 4 * data->count();
    }
  }
  const auto sum = [&](const std::map<std::string, std::int64_t>& bytes, bool with_quantised) {
    std::int64_t total = 0;
    for (const auto& [name, count] : bytes)
      if (with_quantised || !quantised.contains(name)) total += count;
    return total;
  };
  BitStorage out{
      .norms = sum(norms, true) + sum(bounds, true), .rest = sum(rest, false), .as_float = sum(plain, true)};
  for (const auto& [stored, weight] : weights)
    out.weights += (graph.constants.at(weight.first).count() * weight.second + 7) / 8;
  return out;
}

}  // namespace lithe
