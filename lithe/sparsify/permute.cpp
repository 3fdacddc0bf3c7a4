#include "lithe/sparsify/permute.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <optional>
#include <set>
#include <string_view>
#include <tuple>

#include "lithe/base/error.h"
#include "lithe/graph/shape_inference.h"
#include "lithe/kernels/nm_swap.h"

namespace lithe {
namespace {

/// A constant whose axis counts the channels.
struct Use {
  std::string constant;
  std::size_t axis = 0;
  bool operator<(const Use& other) const {
    return std::tie(constant, axis) < std::tie(other.constant, other.axis);
  }
};

/// Values whose channels must keep one order, and the constants that know it.
struct Tied {
  std::set<std::string> values;
  std::set<Use> uses;
  std::vector<const SparseLayer*> readers;  // pruned layers
  std::int64_t channels = 0;
};

bool keeps_channels(const Node& node) {
  static const std::set<std::string_view> names{
      "Relu",          "LeakyRelu", "Clip",    "Sigmoid",     "HardSigmoid",
      "HardSwish",     "Tanh",      "Elu",     "Selu",        "Softplus",
      "Mish",          "Identity",  "MaxPool", "AveragePool", "GlobalAveragePool",
      "GlobalMaxPool", "Erf",       "Exp",     "Sqrt",        "Abs",
      "Neg",           "Dropout"};
  return node.domain.empty() && names.contains(node.op_type);
}

bool joins_channels(const Node& node) {
  return node.is("Add") || node.is("Sub") || node.is("Mul") || node.is("Div");
}

class Tracer {
 public:
  Tracer(const Graph& graph, const GraphIndex& index, const std::vector<SparseLayer>& layers)
      : graph_(graph), index_(index) {
    for (const SparseLayer& layer : layers)
      if (layer.pattern && !layer.shared) pruned_[layer.output] = &layer;
    for (const ValueInfo& input : graph.inputs) inputs_.insert(input.name);
  }

  /// Everything tied to the channels of the value, or nothing if their order cannot change.
  std::optional<Tied> trace(const std::string& value) {
    tied_ = {};
    open_ = {value};
    while (!open_.empty()) {
      const std::string one = std::move(open_.back());
      open_.pop_back();
      if (!tied_.values.insert(one).second) continue;
      if (inputs_.contains(one) || index_.is_output(one) || graph_.is_constant(one) || !visit_maker(one))
        return std::nullopt;
      for (const int reader : index_.consumers(one))
        if (!visit_reader(graph_.nodes[static_cast<std::size_t>(reader)], one)) return std::nullopt;
    }
    for (const Use& use : tied_.uses) {
      const std::int64_t size = graph_.constants.at(use.constant).shape()[use.axis];
      if (tied_.channels == 0) tied_.channels = size;
      if (size != tied_.channels) return std::nullopt;
    }
    return tied_;
  }

 private:
  /// A constant that only this use reads.
  bool own(const std::string& name, std::size_t axis) {
    const TensorData* data = graph_.constant(name);
    if (!data || index_.consumers(name).size() != 1 || axis >= data->shape().size()) return false;
    tied_.uses.insert({name, axis});
    return true;
  }

  std::size_t rank_of(const std::string& value) const {
    const ValueInfo* info = graph_.info(value);
    return info && info->shape ? info->shape->size() : 0;
  }

  /// Constants by channel of an elementwise node, [C, 1, 1] or [1, C, 1, 1]; scalars have no channels.
  bool own_operand(const std::string& name, std::size_t rank) {
    const TensorData* data = graph_.constant(name);
    if (!data) return false;
    if (data->count() == 1) return true;
    const auto size = static_cast<std::size_t>(data->rank());
    if (rank < 2 || size > rank || size + 1 < rank) return false;
    const std::size_t axis = size + 1 - rank;
    for (std::size_t d = 0; d < size; ++d)
      if (d != axis && data->shape()[d] != 1) return false;
    return own(name, axis);
  }

  bool visit_elementwise(const Node& node) {
    const std::size_t rank = rank_of(node.output(0));
    for (const std::string& input : node.inputs) {
      if (graph_.is_constant(input)) {
        if (!own_operand(input, rank)) return false;
      } else {
        if (rank == 0 || rank_of(input) != rank || !same_channels(input, node.output(0))) return false;
        open_.push_back(input);
      }
    }
    open_.push_back(node.output(0));
    return true;
  }

  bool same_channels(const std::string& a, const std::string& b) const {
    const ValueInfo *left = graph_.info(a), *right = graph_.info(b);
    return (*left->shape)[1].known() && (*left->shape)[1] == (*right->shape)[1];
  }

  /// Flatten of [n, C, 1, 1].
  bool is_flat(const Node& node) const {
    const ValueInfo* info = graph_.info(node.input(0));
    if (!node.is("Flatten") || node.attr("axis", std::int64_t{1}) != 1 || !info || !info->shape) return false;
    for (std::size_t d = 2; d < info->shape->size(); ++d)
      if ((*info->shape)[d].value != 1) return false;
    return info->shape->size() >= 2;
  }

  static bool is_depthwise(const Node& node, const TensorData& weight) {
    return node.is("Conv") && weight.shape()[1] == 1 &&
           node.attr("group", std::int64_t{1}) == weight.shape()[0] && weight.shape()[0] > 1;
  }

  /// A node between tied values.
  bool visit_between(const Node& node) {
    if (node.is("BatchNormalization")) {
      for (std::size_t i = 1; i <= 4; ++i)
        if (!own(node.input(i), 0)) return false;
    } else if (node.is("Conv")) {  // depthwise
      if (!own(node.input(1), 0)) return false;
      if (!node.input(2).empty() && !own(node.input(2), 0)) return false;
    } else if (joins_channels(node)) {
      return visit_elementwise(node);
    } else if (!keeps_channels(node) && !is_flat(node)) {
      return false;
    } else {
      for (std::size_t i = 1; i < node.inputs.size(); ++i)  // bounds of Clip, ratio of Dropout
        if (!node.input(i).empty() &&
            (!graph_.constant(node.input(i)) || graph_.constant(node.input(i))->count() != 1))
          return false;
      if (node.outputs.size() > 1 && !node.output(1).empty()) return false;
    }
    open_.push_back(node.input(0));
    open_.push_back(node.output(0));
    return true;
  }

  bool visit_maker(const std::string& value) {
    const int maker = index_.producer(value);
    if (maker < 0) return false;
    const Node& node = graph_.nodes[static_cast<std::size_t>(maker)];
    const TensorData* weight = graph_.constant(node.input(1));
    if (node.is("Conv") && weight && weight->rank() >= 3 && node.attr("group", std::int64_t{1}) == 1)
      return own(node.input(1), 0) && (node.input(2).empty() || own(node.input(2), 0));
    if (node.is("Gemm") && weight && weight->rank() == 2 && node.attr("transA", std::int64_t{0}) == 0) {
      const std::size_t axis = node.attr("transB", std::int64_t{0}) != 0 ? 0 : 1;
      if (!own(node.input(1), axis)) return false;
      const TensorData* bias = graph_.constant(node.input(2));
      if (node.input(2).empty()) return true;
      return bias && bias->rank() >= 1 &&
             (bias->count() == 1 || own(node.input(2), static_cast<std::size_t>(bias->rank() - 1)));
    }
    if (node.is("Conv") && (!weight || !is_depthwise(node, *weight))) return false;
    return visit_between(node);
  }

  bool visit_reader(const Node& node, const std::string& value) {
    const TensorData* weight = graph_.constant(node.input(1));
    if (node.is("Conv") && weight && node.input(0) == value && node.attr("group", std::int64_t{1}) == 1) {
      if (!own(node.input(1), 1)) return false;
      note(node);
      return true;
    }
    if (node.is("Gemm") && weight && node.input(0) == value && node.attr("transA", std::int64_t{0}) == 0) {
      if (!own(node.input(1), node.attr("transB", std::int64_t{0}) != 0 ? 1 : 0)) return false;
      note(node);
      return true;
    }
    if (node.is("Conv") && (!weight || node.input(0) != value || !is_depthwise(node, *weight))) return false;
    return visit_between(node);
  }

  void note(const Node& layer) {
    if (const auto found = pruned_.find(layer.output(0)); found != pruned_.end())
      tied_.readers.push_back(found->second);
  }

  const Graph& graph_;
  const GraphIndex& index_;
  std::map<std::string, const SparseLayer*> pruned_;
  std::set<std::string> inputs_;
  Tied tied_;
  std::vector<std::string> open_;
};

/// Elements along the axis in a new order: element i becomes what stood at order[i].
TensorData reordered(const TensorData& data, std::size_t axis, const std::vector<std::int64_t>& order) {
  const auto& shape = data.shape();
  std::size_t inner = static_cast<std::size_t>(dtype_bits(data.dtype()) / 8), outer = 1;
  for (std::size_t d = 0; d < axis; ++d) outer *= static_cast<std::size_t>(shape[d]);
  for (std::size_t d = axis + 1; d < shape.size(); ++d) inner *= static_cast<std::size_t>(shape[d]);
  auto bytes = std::make_shared<std::vector<std::byte>>(data.bytes().size());
  for (std::size_t o = 0; o < outer; ++o)
    for (std::size_t c = 0; c < order.size(); ++c)
      std::copy_n(data.bytes().begin() + static_cast<std::ptrdiff_t>(
                                             (o * order.size() + static_cast<std::size_t>(order[c])) * inner),
                  inner, bytes->begin() + static_cast<std::ptrdiff_t>((o * order.size() + c) * inner));
  return TensorData(data.dtype(), shape, *bytes, bytes);
}

/// Swaps channels while that lets the patterns keep more.
std::vector<std::int64_t> search_order(const Graph& graph, const Tied& tied, const PermuteOptions& options,
                                       PermutedGroup& report) {
  std::vector<SwapTable> tables;
  for (const SparseLayer* layer : tied.readers) {
    const std::vector<float> weight = graph.constants.at(layer->weight).to_floats();
    tables.emplace_back(weight.data(), layer->groups, layer->pattern->kept, layer->pattern->group);
  }
  const auto kept = [&] {
    double sum = 0;
    for (const SwapTable& table : tables) sum += table.kept();
    return sum;
  };
  report.channels = tied.channels;
  report.kept_before = kept();
  const std::int64_t channels = tied.channels;
  const auto gain_of = [&](std::int64_t a, std::int64_t b) {
    double gain = 0;
    for (const SwapTable& table : tables) gain += table.gain(a, b);
    return gain;
  };
  std::vector<std::int64_t> order(static_cast<std::size_t>(channels));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  // Every round judges all pairs once and takes the best of them whose channels' groups nobody touched yet.
  const double least = 1e-6 * report.kept_before;
  while (report.swaps < options.max_swaps) {
    struct Candidate {
      double gain;
      std::int64_t a, b;
    };
    std::vector<Candidate> candidates;
    for (std::int64_t a = 0; a < channels; ++a)
      for (std::int64_t b = a + 1; b < channels; ++b)
        if (const double gain = gain_of(a, b); gain > least) candidates.push_back({gain, a, b});
    std::stable_sort(candidates.begin(), candidates.end(),
                     [](const Candidate& x, const Candidate& y) { return x.gain > y.gain; });
    std::set<std::pair<std::size_t, std::int64_t>> touched;  // (layer, group)
    bool any = false;
    for (const auto& [gain, a, b] : candidates) {
      bool free = report.swaps < options.max_swaps;
      for (std::size_t i = 0; i < tables.size(); ++i)
        for (const std::int64_t channel : {a, b})
          free = free && !touched.contains({i, channel / tied.readers[i]->pattern->group});
      if (!free) continue;
      for (std::size_t i = 0; i < tables.size(); ++i) {
        tables[i].swap(a, b);
        for (const std::int64_t channel : {a, b})
          touched.insert({i, channel / tied.readers[i]->pattern->group});
      }
      std::swap(order[static_cast<std::size_t>(a)], order[static_cast<std::size_t>(b)]);
      ++report.swaps;
      any = true;
    }
    if (!any) break;
  }
  report.kept_after = kept();
  return order;
}

}  // namespace

std::vector<PermutedGroup> permute_channels(Graph& graph, const std::vector<SparseLayer>& layers,
                                            const PermuteOptions& options) {
  Graph typed = graph;
  infer_shapes(typed);
  const GraphIndex index(typed);
  Tracer tracer(typed, index, layers);
  std::vector<PermutedGroup> groups;
  std::set<std::string> done;
  for (const SparseLayer& layer : layers) {
    if (!layer.pattern || layer.shared || done.contains(layer.output)) continue;
    const std::string& input = typed.nodes[node_of(typed, layer.output)].input(0);
    const auto tied = tracer.trace(input);
    if (!tied) continue;
    PermutedGroup report;
    for (const SparseLayer* reader : tied->readers) {
      report.layers.push_back(reader->name);
      done.insert(reader->output);
    }
    if (tied->readers.empty()) continue;
    const std::vector<std::int64_t> order = search_order(graph, *tied, options, report);
    if (report.swaps > 0)
      for (const Use& use : tied->uses) {
        TensorData& data = graph.constants.at(use.constant);
        data = reordered(data, use.axis, order);
      }
    groups.push_back(std::move(report));
  }
  return groups;
}

}  // namespace lithe
