#include "lithe/diffusion/skippable_layers.h"

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <unordered_set>

#include "lithe/base/error.h"
#include "lithe/graph/blocks.h"
#include "lithe/graph/cost.h"
#include "lithe/graph/dataflow.h"

namespace lithe {
namespace {

/// What may stand on a shortcut besides one 1x1 convolution: it has no parameters and mixes no channels.
bool passes_image(const Node& node) {
  constexpr std::array<std::string_view, 15> kTypes{
      "Identity", "Cast",  "Dropout",   "AveragePool", "MaxPool",      "Resize",       "Upsample", "Reshape",
      "Expand",   "Slice", "Transpose", "Pad",         "DepthToSpace", "SpaceToDepth", "Squeeze"};
  return node.domain.empty() && std::find(kTypes.begin(), kTypes.end(), node.op_type) != kTypes.end();
}

/// How an operand of a sum comes from the entry of its block.
struct Path {
  std::string value;
  std::vector<int> nodes;
  bool cheap = true;
  int weights = 0;
};

class LayerFinder {
 public:
  explicit LayerFinder(const Graph& graph) : graph_(graph), flow_(graph) {
    for (int node = 0; node < std::ssize(graph.nodes); ++node) weighted_ += flow_.weight(node).has_value();
  }

  std::vector<SkippableLayer> run() {
    const std::vector<Block> blocks = find_blocks(flow_);
    for (const Block& block : blocks) visit(block);
    std::sort(found_.begin(), found_.end(), [](const Found& a, const Found& b) { return a.join < b.join; });
    std::vector<SkippableLayer> layers;
    for (Found& one : found_) layers.push_back(std::move(one.layer));
    return layers;
  }

 private:
  struct Found {
    int join = -1;
    SkippableLayer layer;
  };

  const Node& node(int index) const { return graph_.nodes[static_cast<std::size_t>(index)]; }

  void visit(const Block& block) {
    if (auto layer = as_layer(block); layer && !spans_layers(block)) {
      found_.push_back({block.join, std::move(*layer)});
      return;
    }
    for (const Block& child : block.children) visit(child);
  }

  int count_layers(const std::vector<Block>& blocks) const {
    int count = 0;
    for (const Block* block : flatten(blocks)) count += as_layer(*block).has_value();
    return count;
  }

  /// Whether the layers are rather those inside the block: it is a skip around most of the network, or around
  /// joins of encoder and decoder.
  bool spans_layers(const Block& block) const {
    const std::vector<const Block*> inner = flatten(block.children);
    for (const Block* one : inner)
      if (one->kind == BlockKind::Concat && count_layers(one->children) > 0) return true;
    const auto weighted = std::count_if(block.nodes.begin(), block.nodes.end(),
                                        [&](int one) { return flow_.weight(one).has_value(); });
    return 2 * weighted > weighted_ && count_layers(block.children) > 1;
  }

  std::optional<SkippableLayer> as_layer(const Block& block) const {
    const Node& join = node(block.join);
    const bool subtracts = join.is("Sub");
    if (!join.is("Add") && !join.is("Sum") && !subtracts) return std::nullopt;
    if (join.inputs.size() != 2 || flow_.data_inputs(block.join).size() != 2) return std::nullopt;
    const Path a = path_to(join.inputs[0], block), b = path_to(join.inputs[1], block);
    // The cheap operand; of two the cheaper one.
    const auto price = [](const Path& path) { return std::pair(path.weights, path.nodes.size()); };
    const bool first = a.cheap && (!b.cheap || price(a) < price(b));
    const bool second = !subtracts && b.cheap && (!a.cheap || price(b) < price(a));
    if (!first && !second) return std::nullopt;
    const Path &shortcut = first ? a : b, &branch = first ? b : a;
    if (!same_shape(shortcut.value, join.output(0)) || branch.nodes.empty()) return std::nullopt;
    SkippableLayer layer{.name = block.name,
                         .kind = attends(branch) ? LayerKind::Attention : LayerKind::Residual,
                         .entry = block.entry,
                         .shortcut = shortcut.value,
                         .branch = branch.value,
                         .output = join.output(0)};
    return layer;
  }

  Path path_to(const std::string& value, const Block& block) const {
    Path path{.value = value};
    std::unordered_set<int> seen;
    std::vector<std::string> open{value};
    while (!open.empty()) {
      const std::string name = open.back();
      open.pop_back();
      const int maker = flow_.index.producer(name);
      if (name == block.entry || maker < 0 || !flow_.is_data(maker) || !seen.insert(maker).second) continue;
      path.nodes.push_back(maker);
      judge(maker, path);
      for (const std::string& read : flow_.data_inputs(maker)) open.push_back(read);
    }
    path.cheap = path.cheap && path.weights <= 1;
    return path;
  }

  void judge(int index, Path& path) const {
    const Node& one = node(index);
    const bool adds_bias = one.is("Add") && reads_constant(one);
    if (is_pointwise(one))
      ++path.weights;
    else if (!passes_image(one) && !adds_bias)
      path.cheap = false;
    if (flow_.data_inputs(index).size() != 1) path.cheap = false;
    // A time step, a label or a mask has a say in it.
    for (const std::string& name : all_reads(one))
      if (const int maker = flow_.index.producer(name); maker >= 0 && flow_.is_conditioned(maker))
        path.cheap = false;
  }

  bool reads_constant(const Node& one) const {
    return graph_.is_constant(one.input(0)) || graph_.is_constant(one.input(1));
  }
  /// A 1x1 convolution, or the same on tokens.
  bool is_pointwise(const Node& one) const {
    if (one.is("MatMul") || one.is("Gemm")) return graph_.is_constant(one.input(1));
    const TensorData* weight = one.is("Conv") ? graph_.constant(one.input(1)) : nullptr;
    return weight && weight->rank() > 2 &&
           std::all_of(weight->shape().begin() + 2, weight->shape().end(),
                       [](std::int64_t size) { return size == 1; });
  }

  /// Whether two computed matrices are multiplied on it.
  bool attends(const Path& path) const {
    return std::any_of(path.nodes.begin(), path.nodes.end(), [&](int index) {
      const Node& one = node(index);
      if (one.op_type == "Attention" || one.op_type == "MultiHeadAttention") return true;
      return (one.is("MatMul") || one.is("Einsum")) && !flow_.weight(index) && !reads_constant(one);
    });
  }

  bool same_shape(const std::string& a, const std::string& b) const {
    const ValueInfo *one = graph_.info(a), *other = graph_.info(b);
    return one && other && one->shape && other->shape && *one->shape == *other->shape;
  }

  const Graph& graph_;
  DataFlow flow_;
  std::int64_t weighted_ = 0;
  std::vector<Found> found_;
};

/// Fills in what a skip removes.
void count_savings(const Graph& graph, std::vector<SkippableLayer>& layers) {
  const Cost cost = measure_cost(graph);
  std::map<std::string, std::int64_t, std::less<>> macs;  // by the first output
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) macs[graph.nodes[i].output(0)] = cost.node_macs[i];
  for (int number = 0; number < std::ssize(layers); ++number) {
    SkippableLayer& layer = layers[static_cast<std::size_t>(number)];
    const Graph rest = without_layers(graph, layers, {number});
    std::unordered_set<std::string> left;
    for (const Node& node : rest.nodes) left.insert(node.output(0));
    for (const auto& [output, count] : macs) {
      if (left.contains(output)) continue;
      ++layer.nodes;
      layer.macs += count;
    }
  }
}

}  // namespace

std::string_view layer_kind_name(LayerKind kind) {
  return kind == LayerKind::Attention ? "attention" : "residual";
}

std::vector<SkippableLayer> find_skippable_layers(const Graph& graph, const InputShapes& shapes) {
  Graph sized = graph;
  infer_shapes(sized, concrete_input_shapes(graph, shapes));
  std::vector<SkippableLayer> layers = LayerFinder(sized).run();
  count_savings(sized, layers);
  return layers;
}

Graph without_layers(const Graph& graph, const std::vector<SkippableLayer>& layers,
                     const std::vector<int>& skipped) {
  const std::set<int, std::greater<>> numbers(skipped.begin(), skipped.end());
  Graph rest = graph;
  // Backwards: a later layer's shortcut may be the output of an earlier one.
  for (const int number : numbers) {
    if (number < 0 || number >= std::ssize(layers))
      fail("there is no layer {} to skip; the model '{}' has {}, numbered from 0", number, graph.name,
           layers.size());
    const SkippableLayer& layer = layers[static_cast<std::size_t>(number)];
    const auto join = std::find_if(rest.nodes.begin(), rest.nodes.end(),
                                   [&](const Node& node) { return node.output(0) == layer.output; });
    if (join == rest.nodes.end() || join->inputs.size() != 2)
      fail("the model '{}' does not have the layer '{}'", graph.name, layer.name);
    const bool is_output = std::any_of(rest.outputs.begin(), rest.outputs.end(),
                                       [&](const ValueInfo& output) { return output.name == layer.output; });
    if (is_output)  // its name must stay
      *join = {
          .name = join->name, .op_type = "Identity", .inputs = {layer.shortcut}, .outputs = join->outputs};
    else
      rest.replace_uses(layer.output, layer.shortcut);
  }
  rest.remove_dead();
  return rest;
}

std::vector<int> layer_numbers(const std::vector<SkippableLayer>& layers,
                               const std::vector<std::string>& names) {
  std::set<int> numbers;
  for (const std::string& name : names) {
    const auto found = std::find_if(layers.begin(), layers.end(),
                                    [&](const SkippableLayer& layer) { return layer.name == name; });
    if (found == layers.end())
      fail("the model has no skippable layer '{}': the schedule was made for another model", name);
    numbers.insert(static_cast<int>(found - layers.begin()));
  }
  return {numbers.begin(), numbers.end()};
}

}  // namespace lithe
