#include "lithe/quantize/reparameterise.h"

#include <algorithm>
#include <map>
#include <optional>

#include "lithe/engine/executor.h"
#include "lithe/ops/registry.h"
#include "lithe/quantize/batches.h"
#include "lithe/quantize/prepare.h"

namespace lithe {
namespace {

constexpr double kLeastRatio = 1e-2;  // of a channel's range to the mean: narrower ones are not blown up more

/// A constant that a node reads.
struct Place {
  std::size_t node = 0, input = 0;
};

/// value = x * scale + shift with one number a channel of the last dimension, read by `layers` only.
struct Norm {
  std::string value;
  Place scale, shift;
  std::int64_t channels = 0;
  std::vector<std::size_t> layers;
};

bool is_vector(const Graph& graph, const std::string& name, std::int64_t channels) {
  const TensorData* data = name.empty() ? nullptr : graph.constant(name);
  return data && data->dtype() == DType::Float32 && data->rank() == 1 &&
         (channels == 0 || data->count() == channels);
}

/// The input of a commutative node that is a vector of constants; -1 if none is.
int vector_input(const Graph& graph, const Node& node) {
  for (int i = 0; i < 2; ++i)
    if (is_vector(graph, node.input(static_cast<std::size_t>(i)), 0)) return i;
  return -1;
}

/// MatMul or Gemm with the value on the left and a matrix of constants on the right.
bool is_linear(const Graph& graph, const Node& node, const std::string& value, std::int64_t channels) {
  if (!node.is("MatMul") && !node.is("Gemm")) return false;
  if (node.input(0) != value || node.input(1) == value || node.input(2) == value) return false;
  const TensorData* weight = graph.constant(node.input(1));
  if (!weight || weight->dtype() != DType::Float32 || weight->rank() != 2) return false;
  if (node.is("Gemm") && (node.attr("transA", std::int64_t{0}) != 0 || node.attr("beta", 1.0f) != 1.0f ||
                          node.attr("alpha", 1.0f) != 1.0f))
    return false;
  if (node.is("Gemm") && !node.input(2).empty() && !is_vector(graph, node.input(2), 0)) return false;
  const bool transposed = node.is("Gemm") && node.attr("transB", std::int64_t{0}) != 0;
  return weight->shape()[transposed ? 1 : 0] == channels;
}

std::vector<Norm> find_norms(const Graph& graph) {
  const GraphIndex index(graph);
  std::vector<Norm> norms;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    Norm norm{.value = node.output(0)};
    if (node.is("LayerNormalization")) {
      const std::int64_t axis = node.attr("axis", std::int64_t{-1});
      if (axis != -1 || !is_vector(graph, node.input(1), 0)) continue;
      norm.channels = graph.constants.at(node.input(1)).count();
      if (!is_vector(graph, node.input(2), norm.channels)) continue;
      norm.scale = {i, 1};
      norm.shift = {i, 2};
    } else if (node.is("Add")) {
      const int shift = vector_input(graph, node);
      if (shift < 0) continue;
      norm.channels = graph.constants.at(node.input(static_cast<std::size_t>(shift))).count();
      const int maker = index.producer(node.input(static_cast<std::size_t>(1 - shift)));
      if (maker < 0) continue;
      const Node& product = graph.nodes[static_cast<std::size_t>(maker)];
      if (!product.is("Mul") || index.consumers(product.output(0)).size() != 1 ||
          index.is_output(product.output(0)))
        continue;
      const int scale = vector_input(graph, product);
      if (scale < 0 || !is_vector(graph, product.input(static_cast<std::size_t>(scale)), norm.channels))
        continue;
      norm.scale = {static_cast<std::size_t>(maker), static_cast<std::size_t>(scale)};
      norm.shift = {i, static_cast<std::size_t>(shift)};
    } else {
      continue;
    }
    const auto& readers = index.consumers(norm.value);
    if (readers.empty() || index.is_output(norm.value) || norm.channels < 2) continue;
    if (!std::all_of(readers.begin(), readers.end(), [&](int reader) {
          return is_linear(graph, graph.nodes[static_cast<std::size_t>(reader)], norm.value, norm.channels);
        }))
      continue;
    for (const int reader : readers) norm.layers.push_back(static_cast<std::size_t>(reader));
    norms.push_back(std::move(norm));
  }
  return norms;
}

struct Span {
  at::Tensor low, high;  // [channels]
};

std::map<std::string, Span> watch(const Graph& graph, const std::vector<Norm>& norms, const DatasetPtr& data,
                                  const ReparameteriseOptions& options) {
  std::map<std::string, Span> spans;
  for (const Norm& norm : norms) spans[norm.value];
  std::vector<std::string> values;
  for (const Norm& norm : norms) values.push_back(norm.value);
  Executor executor(graph, {.device = options.device});
  for_each_batch(graph, data, {.batch = options.batch, .threads = options.threads, .limit = options.samples},
                 [&](const Feeds& feeds, std::int64_t) {
                   for (const auto& [name, value] : executor.run(feeds, values)) {
                     const at::Tensor rows = value.to(at::kCPU).reshape({-1, value.size(-1)});
                     Span& span = spans.at(name);
                     const at::Tensor low = std::get<0>(rows.min(0)), high = std::get<0>(rows.max(0));
                     span.low = span.low.defined() ? at::minimum(span.low, low) : low;
                     span.high = span.high.defined() ? at::maximum(span.high, high) : high;
                   }
                 });
  return spans;
}

void store(Graph& graph, const Place& place, const at::Tensor& value) {
  graph.constants[own_constant(graph, place.node, place.input)] = to_tensor_data(value.contiguous());
}

at::Tensor load(const Graph& graph, const Place& place) {
  return to_tensor(graph.constants.at(graph.nodes[place.node].inputs.at(place.input)));
}

/// Folds x = ratio * (x' - shift) into the layer that reads x'. A MatMul's bias becomes an Add of its own,
/// which the caller puts behind the node; null if the layer took it itself.
std::optional<at::Tensor> fold_into(Graph& graph, std::size_t layer, const at::Tensor& ratio,
                                    const at::Tensor& shift) {
  const bool gemm = graph.nodes[layer].is("Gemm");
  const bool transposed = gemm && graph.nodes[layer].attr("transB", std::int64_t{0}) != 0;
  at::Tensor weight = load(graph, {layer, 1});
  if (transposed) weight = weight.t();
  const at::Tensor scaled = weight * ratio.unsqueeze(1);
  const at::Tensor bias = -at::matmul(shift.to(at::kDouble), scaled.to(at::kDouble)).to(at::kFloat);
  store(graph, {layer, 1}, transposed ? scaled.t() : scaled);
  if (!gemm) return bias;
  ensure_bias(graph, layer, bias.numel());
  store(graph, {layer, 2}, load(graph, {layer, 2}) + bias);
  return std::nullopt;
}

}  // namespace

int reparameterise_norms(Graph& graph, const DatasetPtr& data, const ReparameteriseOptions& options) {
  const at::NoGradGuard no_grad;
  const std::vector<Norm> norms = find_norms(graph);
  if (norms.empty()) return 0;
  const std::map<std::string, Span> spans = watch(graph, norms, data, options);
  std::map<std::size_t, at::Tensor> biases;  // of MatMul nodes
  for (const Norm& norm : norms) {
    const Span& span = spans.at(norm.value);
    const at::Tensor width = span.high - span.low;
    const at::Tensor mean = width.mean();
    if (!(mean.item<float>() > 0)) continue;
    const at::Tensor ratio = (width / mean).clamp_min(kLeastRatio);
    // The middles of all channels meet in the mean of the scaled middles.
    const at::Tensor middle = (span.high + span.low) / 2 / ratio;
    const at::Tensor shift = middle.mean() - middle;
    store(graph, norm.scale, load(graph, norm.scale) / ratio);
    store(graph, norm.shift, load(graph, norm.shift) / ratio + shift);
    for (const std::size_t layer : norm.layers)
      if (const auto bias = fold_into(graph, layer, ratio, shift)) biases[layer] = *bias;
  }
  std::vector<Node> nodes;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    nodes.push_back(graph.nodes[i]);
    const auto found = biases.find(i);
    if (found == biases.end()) continue;
    const std::string value = nodes.back().output(0);
    const GraphIndex index(graph);
    const auto& readers = index.consumers(value);
    // An Add of constants behind the product takes the bias in; else it gets one.
    if (readers.size() == 1 && !index.is_output(value)) {
      const auto reader = static_cast<std::size_t>(readers.front());
      const int place = graph.nodes[reader].is("Add") ? vector_input(graph, graph.nodes[reader]) : -1;
      if (place >= 0 && is_vector(graph, graph.nodes[reader].input(static_cast<std::size_t>(place)),
                                  found->second.numel())) {
        const Place bias{reader, static_cast<std::size_t>(place)};
        store(graph, bias, load(graph, bias) + found->second);
        continue;
      }
    }
    const std::string product = graph.unique_name(value + "_unbiased");
    nodes.back().outputs[0] = product;
    nodes.push_back({.name = value + "/bias",
                     .op_type = "Add",
                     .inputs = {product, graph.add_constant(value + ".bias", to_tensor_data(found->second))},
                     .outputs = {value}});
  }
  graph.nodes = std::move(nodes);
  graph.validate();
  return static_cast<int>(norms.size());
}

}  // namespace lithe
