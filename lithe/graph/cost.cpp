#include "lithe/graph/cost.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <unordered_map>
#include <unordered_set>

#include "lithe/base/math.h"
#include "lithe/graph/einsum.h"
#include "lithe/graph/function.h"
#include "lithe/graph/shape_inference.h"
#include "lithe/graph/weights.h"

namespace lithe {
namespace {

constexpr int kMaxDepth = 16;  // of nested function calls

constexpr std::int64_t kLargestValue = std::int64_t{1}
                                       << 38;  // elements; more is taken for a mistake in the file

using Sizes = std::optional<std::vector<std::int64_t>>;

Sizes sizes_of(const Graph& graph, const std::string& value) {
  if (const TensorData* constant = graph.constant(value)) return constant->shape();
  const ValueInfo* info = graph.info(value);
  if (!info || !info->shape) return std::nullopt;
  std::vector<std::int64_t> sizes;
  for (const Dim& dim : *info->shape) {
    if (!dim.known()) return std::nullopt;
    sizes.push_back(dim.value);
  }
  return sizes;
}

std::int64_t multiply(std::initializer_list<std::int64_t> factors) {
  std::int64_t product = 1;
  for (const std::int64_t factor : factors) product = checked_multiply(product, factor).value_or(INT64_MAX);
  return product;
}

std::int64_t count_of(const std::vector<std::int64_t>& sizes) {
  return element_count(sizes).value_or(INT64_MAX);
}

std::int64_t convolution(const Graph& graph, const Node& node, std::size_t weight_input) {
  const Sizes out = sizes_of(graph, node.output(0)), weight = sizes_of(graph, node.input(weight_input));
  if (!out || !weight || weight->empty() || weight->front() == 0) return 0;
  return multiply({count_of(*out), count_of(*weight) / weight->front()});
}

std::int64_t transposed_convolution(const Graph& graph, const Node& node) {
  const Sizes in = sizes_of(graph, node.input(0)), weight = sizes_of(graph, node.input(1));
  if (!in || !weight || weight->empty() || weight->front() == 0) return 0;
  return multiply({count_of(*in), count_of(*weight) / weight->front()});
}

std::int64_t gemm(const Graph& graph, const Node& node) {
  const Sizes a = sizes_of(graph, node.input(0)), out = sizes_of(graph, node.output(0));
  if (!a || a->size() != 2 || !out) return 0;
  return multiply({count_of(*out), (*a)[node.attr("transA", std::int64_t{0}) != 0 ? 0 : 1]});
}

std::int64_t matrix_product(const Graph& graph, const Node& node) {
  const Sizes a = sizes_of(graph, node.input(0)), out = sizes_of(graph, node.output(0));
  if (!a || a->empty() || !out) return 0;
  return multiply({count_of(*out), a->back()});
}

/// The loops that the equation names; one operand only needs additions.
std::int64_t einsum(const Graph& graph, const Node& node) {
  if (node.inputs.size() < 2) return 0;
  std::vector<std::vector<std::int64_t>> shapes;
  std::vector<std::size_t> ranks;
  for (const std::string& input : node.inputs) {
    const Sizes sizes = sizes_of(graph, input);
    if (!sizes) return 0;
    ranks.push_back(sizes->size());
    shapes.push_back(*sizes);
  }
  const EinsumPlan plan = parse_einsum(node, ranks);
  std::vector<std::int64_t> extent(plan.labels, 1);
  for (std::size_t i = 0; i < shapes.size(); ++i)
    for (std::size_t j = 0; j < shapes[i].size(); ++j)
      extent[plan.inputs[i][j]] = std::max(extent[plan.inputs[i][j]], shapes[i][j]);
  return count_of(extent);
}

std::int64_t recurrent(const Graph& graph, const Node& node) {
  const Sizes x = sizes_of(graph, node.input(0)), w = sizes_of(graph, node.input(1)),
              r = sizes_of(graph, node.input(2));
  if (!x || x->size() != 3 || !w || !r) return 0;
  const std::int64_t weights = count_of(*w), recurrence = count_of(*r);
  return multiply({(*x)[0], (*x)[1], std::min(weights, INT64_MAX - recurrence) + recurrence});
}

std::int64_t node_macs(const Graph& graph, const Node& node, int depth);

/// Scores and their product with the values, of Attention without caches.
std::int64_t attention(const Graph& graph, const Node& node) {
  const Sizes q = sizes_of(graph, node.input(0)), k = sizes_of(graph, node.input(1)),
              out = sizes_of(graph, node.output(0));
  if (!q || !k || !out || q->size() < 3 || k->size() != q->size() || out->size() != q->size()) return 0;
  const std::int64_t keys = (*k)[k->size() - 2];
  const std::int64_t scores = multiply({count_of(*q), keys}), sums = multiply({count_of(*out), keys});
  std::int64_t total = 0;
  return __builtin_add_overflow(scores, sums, &total) ? INT64_MAX : total;
}

/// A call of a function, counted through its body.
std::int64_t function_macs(const Graph& graph, const Function& function, const Node& node, int depth) {
  Graph body;
  body.header.opsets = function.opsets;
  body.header.functions = graph.header.functions;
  for (std::size_t i = 0; i < function.inputs.size(); ++i) {
    const std::string& given = node.input(i);
    if (given.empty()) continue;
    if (const TensorData* constant = graph.constant(given)) {
      body.constants.emplace(function.inputs[i], *constant);
    } else {
      ValueInfo input{.name = function.inputs[i]};
      if (const ValueInfo* info = graph.info(given)) {
        input = *info;
        input.name = function.inputs[i];
      }
      body.inputs.push_back(std::move(input));
    }
  }
  body.nodes = instantiate(function, node);
  infer_shapes(body);
  std::int64_t total = 0;
  for (const Node& inner : body.nodes)
    if (__builtin_add_overflow(total, node_macs(body, inner, depth + 1), &total)) return INT64_MAX;
  return total;
}

std::int64_t node_macs(const Graph& graph, const Node& node, int depth) {
  if (const Function* function = graph.function_of(node))
    return depth < kMaxDepth ? function_macs(graph, *function, node, depth) : 0;
  if (!node.domain.empty()) return 0;
  const std::string& type = node.op_type;
  if (type == "Conv" || type == "ConvInteger" || type == "DeformConv") return convolution(graph, node, 1);
  if (type == "QLinearConv") return convolution(graph, node, 3);
  if (type == "ConvTranspose") return transposed_convolution(graph, node);
  if (type == "Gemm") return gemm(graph, node);
  if (type == "MatMul" || type == "MatMulInteger" || type == "QLinearMatMul")
    return matrix_product(graph, node);
  if (type == "Einsum") return einsum(graph, node);
  if (type == "Attention") return attention(graph, node);
  if (type == "LSTM" || type == "GRU" || type == "RNN") return recurrent(graph, node);
  return 0;
}

bool shares_memory(const Node& node) {
  static const std::unordered_set<std::string_view> table{"Reshape",   "Flatten",  "Squeeze",
                                                          "Unsqueeze", "Identity", "Dropout"};
  return node.domain.empty() && table.contains(node.op_type);
}

/// Counts what lives at each node.
class MemoryMeter {
 public:
  MemoryMeter(const Graph& graph, Cost& cost) : graph_(graph), index_(graph), cost_(cost) {}

  void run() {
    find_owners();
    for (const ValueInfo* input : graph_.required_inputs()) {
      dependent_.insert(input->name);
      birth(input->name);
    }
    find_last_uses();
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      const Node& node = graph_.nodes[i];
      if (!depends_on_input(node)) continue;
      for (const std::string& output : node.outputs) {
        if (output.empty() || (index_.consumers(output).empty() && !index_.is_output(output))) continue;
        dependent_.insert(output);
        if (owner_of(output) == output) birth(output);
      }
      cost_.activation_peak_bytes = std::max(cost_.activation_peak_bytes, live_);
      for (const std::string& value : dies_at_[i]) live_ -= bytes_[value];
    }
  }

 private:
  bool depends_on_input(const Node& node) const {
    const auto reads = all_reads(node);
    return std::any_of(reads.begin(), reads.end(),
                       [&](const std::string& name) { return dependent_.contains(name); });
  }

  /// The value whose memory this one uses.
  const std::string& owner_of(const std::string& value) const {
    const auto found = owners_.find(value);
    return found == owners_.end() ? value : found->second;
  }

  void find_owners() {
    for (const Node& node : graph_.nodes)
      if (shares_memory(node) && !graph_.is_constant(node.input(0)))
        owners_[node.output(0)] = owner_of(node.input(0));
  }

  void birth(const std::string& value) {
    const ValueInfo* info = graph_.info(value);
    if (info && !info->other_type.empty()) return;
    const Sizes sizes = sizes_of(graph_, value);
    if (!sizes || dtype_bits(info->dtype) == 0 || count_of(*sizes) > kLargestValue) {
      cost_.unknown_values.push_back(value);
      return;
    }
    const std::int64_t bytes = packed_bytes(info->dtype, count_of(*sizes));
    bytes_[value] = bytes;
    live_ += bytes;
    cost_.activation_sum_bytes += bytes;
    cost_.activation_peak_bytes = std::max(cost_.activation_peak_bytes, live_);
  }

  void find_last_uses() {
    dies_at_.resize(graph_.nodes.size());
    std::unordered_map<std::string, int> last;
    const auto use = [&](const std::string& value, int node) {
      if (value.empty() || graph_.is_constant(value)) return;
      int& at = last.try_emplace(owner_of(value), node).first->second;
      at = std::max(at, node);
    };
    for (int i = 0; i < static_cast<int>(graph_.nodes.size()); ++i)
      for (const std::string& name : all_reads(graph_.nodes[static_cast<std::size_t>(i)])) use(name, i);
    for (const ValueInfo& output : graph_.outputs) use(output.name, static_cast<int>(graph_.nodes.size()));
    for (const auto& [value, node] : last)
      if (node < static_cast<int>(dies_at_.size())) dies_at_[static_cast<std::size_t>(node)].push_back(value);
  }

  const Graph& graph_;
  const GraphIndex index_;
  Cost& cost_;
  std::unordered_set<std::string> dependent_;
  std::unordered_map<std::string, std::string> owners_;  // of values that share memory
  std::unordered_map<std::string, std::int64_t> bytes_;
  std::vector<std::vector<std::string>> dies_at_;
  std::int64_t live_ = 0;
};

/// Inputs that hold no parameters: statistics, quantiser settings, bounds.
bool holds_parameter(const Node& node, std::size_t input) {
  const std::string& type = node.op_type;
  if (type == "BatchNormalization") return input < 3;
  if (type == "QuantizeLinear" || type == "DequantizeLinear") return input == 0;
  if (type == "QLinearConv") return input == 3 || input == 8;
  if (type == "QLinearMatMul") return input == 0 || input == 3;
  if (type == "Resize" || type == "Upsample" || type == "Clip" || type == "Range") return false;
  return true;
}

}  // namespace

std::int64_t count_parameters(const Graph& graph, const std::vector<int>& nodes) {
  std::unordered_map<std::string, const TensorData*> made;  // by Constant nodes
  for (const Node& node : graph.nodes)
    if (node.is("Constant"))
      if (const auto* value = node.find<TensorData>("value")) made[node.output(0)] = value;
  std::unordered_set<std::string> counted;
  std::int64_t total = 0;
  for (const int index : nodes) {
    const Node& node = graph.nodes[static_cast<std::size_t>(index)];
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      const TensorData* constant = graph.constant(node.inputs[i]);
      if (const auto found = made.find(node.inputs[i]); !constant && found != made.end())
        constant = found->second;
      if (!constant || constant->rank() == 0 || !holds_parameter(node, i)) continue;
      const bool quantised = node.op_type == "DequantizeLinear" || node.op_type.starts_with("QLinear") ||
                             node.op_type.ends_with("Integer");
      if (!is_float(constant->dtype()) && !quantised) continue;
      if (counted.insert(node.inputs[i]).second) total += constant->count();
    }
  }
  return total;
}

std::int64_t count_parameters(const Graph& graph) {
  std::vector<int> all(graph.nodes.size());
  std::iota(all.begin(), all.end(), 0);
  return count_parameters(graph, all);
}

Cost measure_cost(const Graph& graph) {
  Cost cost;
  cost.parameters = count_parameters(graph);
  for (const Node& node : graph.nodes) {
    cost.node_macs.push_back(node_macs(graph, node, 0));
    if (__builtin_add_overflow(cost.macs, cost.node_macs.back(), &cost.macs)) cost.macs = INT64_MAX;
  }
  MemoryMeter(graph, cost).run();
  return cost;
}

}  // namespace lithe
