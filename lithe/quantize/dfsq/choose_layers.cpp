#include "lithe/quantize/dfsq/choose_layers.h"

#include <algorithm>
#include <map>
#include <set>

#include "lithe/graph/blocks.h"
#include "lithe/graph/border.h"
#include "lithe/graph/dataflow.h"

namespace lithe {
namespace {

/// What is known of a value on the data path.
struct Place {
  double resolution = 1;  // pixels for each of the input's, along one axis
  bool pooled = false;    // an average over the whole image, or made of such
};

class Choice {
 public:
  Choice(const Graph& graph, const std::vector<Layer>& layers)
      : graph_(graph), flow_(graph), layers_(layers) {
    for (std::size_t i = 0; i < layers.size(); ++i) layer_at_.emplace(static_cast<int>(layers[i].node), i);
    std::vector<bool> is_layer(graph.nodes.size(), false);
    for (const Layer& layer : layers) is_layer[layer.node] = true;
    border_ = find_border(graph, is_layer);
    for (int i = 0; i < count(); ++i) place(i);
  }

  std::vector<bool> run() {
    for (const Block& block : find_blocks(flow_)) collect(block);
    std::vector<bool> chosen(layers_.size(), false);
    const int first = units_.empty() ? -1 : *units_.begin(), last = units_.empty() ? -1 : *units_.rbegin();
    std::set<int> fused;  // nodes that fuse the outputs of blocks
    for (int i = 0; i < count(); ++i) {
      const auto found = layer_at_.find(i);
      if (found == layer_at_.end() || !may_be_chosen(layers_[found->second])) continue;
      const int source = maker_behind_elementwise(layers_[found->second].input);
      const bool fuses = last >= 0 && i > last && source >= 0 &&
                         (fused.contains(source) || (node(source).is("Concat") && flow_.is_join(source)));
      if (fuses) fused.insert(i);
      chosen[found->second] = units_.empty() || units_.contains(i) || (i > first && i < last) || fuses;
    }
    return chosen;
  }

 private:
  int count() const { return static_cast<int>(graph_.nodes.size()); }
  const Node& node(int i) const { return graph_.nodes[static_cast<std::size_t>(i)]; }
  Place place_of(const std::string& value) const {
    const auto found = places_.find(value);
    return found == places_.end() ? Place{} : found->second;
  }

  static double stride(const Node& node) {
    const auto strides = node.attr("strides", std::vector<std::int64_t>{});
    return strides.empty() ? 1.0 : static_cast<double>(std::max<std::int64_t>(1, strides[0]));
  }

  /// The factor of a Resize or Upsample along rows; one that hangs on sizes goes back to the size of the
  /// input, as in an upwards path, or beyond it.
  double enlargement(const Node& node, double resolution) const {
    const TensorData* scales = graph_.constant(node.input(node.is("Resize") ? 2 : 1));
    if (scales && scales->count() >= 3) return scales->to_doubles()[2];
    return resolution < 1 ? 1 / resolution : 2;
  }

  void place(int i) {
    const Node& one = node(i);
    Place result{.resolution = 0, .pooled = true};
    bool any = false;
    for (const std::string& input : flow_.data_inputs(i)) {
      const Place from = place_of(input);
      result.resolution = std::max(result.resolution, from.resolution);
      result.pooled = result.pooled && from.pooled;
      any = true;
    }
    if (!any) result = {};
    if (one.is("Conv") || one.is("MaxPool") || one.is("AveragePool")) result.resolution /= stride(one);
    if (one.is("ConvTranspose")) result.resolution *= stride(one);
    if (one.is("DepthToSpace"))
      result.resolution *= static_cast<double>(one.attr("blocksize", std::int64_t{1}));
    if (one.is("SpaceToDepth"))
      result.resolution /= static_cast<double>(one.attr("blocksize", std::int64_t{1}));
    if (one.is("Resize") || one.is("Upsample")) result.resolution *= enlargement(one, result.resolution);
    if (one.is("GlobalAveragePool") || one.is("GlobalMaxPool") || one.is("ReduceMean") ||
        one.is("ReduceMax") || one.is("ReduceSum"))
      result.pooled = true;
    for (const std::string& output : one.outputs) places_[output] = result;
  }

  /// Whether the output of the node is rearranged or enlarged to more pixels than the input has.
  bool feeds_upsampling(int i, int depth = 0) const {
    if (depth > 16) return false;
    for (const int reader : flow_.data_consumers(node(i).output(0))) {
      const Node& one = node(reader);
      if (place_of(one.output(0)).resolution > 1) return true;
      const bool passes = follows_elementwise(one) || one.is("Reshape") || one.is("Transpose");
      if (passes && feeds_upsampling(reader, depth + 1)) return true;
    }
    return false;
  }

  bool may_be_chosen(const Layer& layer) const {
    const auto i = static_cast<std::size_t>(layer.node);
    const TensorData* weight = graph_.constant(layer.weight);
    return layer.op == "Conv" && weight && weight->rank() == 4 && flow_.is_data(static_cast<int>(i)) &&
           !border_.first[i] && !border_.last[i] && !place_of(layer.input).pooled &&
           place_of(layer.input).resolution <= 1 && !feeds_upsampling(static_cast<int>(i));
  }

  int maker_behind_elementwise(const std::string& value) const {
    int maker = flow_.index.producer(value);
    while (maker >= 0 && follows_elementwise(node(maker)) && !flow_.data_inputs(maker).empty())
      maker = flow_.index.producer(flow_.data_inputs(maker).front());
    return maker;
  }

  int layers_in(const Block& block) const {
    return static_cast<int>(
        std::count_if(block.nodes.begin(), block.nodes.end(), [&](int i) { return layer_at_.contains(i); }));
  }
  bool holds_residual(const Block& block) const {
    return std::any_of(block.children.begin(), block.children.end(), [&](const Block& child) {
      if (child.kind == BlockKind::Gate) return false;  // attention with a residual path of its own
      return (child.kind == BlockKind::Residual && layers_in(child) >= 2) || holds_residual(child);
    });
  }
  void collect(const Block& block) {
    if (holds_residual(block) && block.kind != BlockKind::Gate) {
      for (const Block& child : block.children) collect(child);
    } else if (layers_in(block) >= 2) {
      for (const int i : block.nodes)
        if (layer_at_.contains(i)) units_.insert(i);
    }
  }

  const Graph& graph_;
  const DataFlow flow_;
  const std::vector<Layer>& layers_;
  std::map<int, std::size_t> layer_at_;  // by node
  Border border_;
  std::map<std::string, Place> places_;
  std::set<int> units_;  // layers inside blocks
};

}  // namespace

std::vector<bool> choose_body_layers(const Graph& graph, const std::vector<Layer>& layers) {
  return Choice(graph, layers).run();
}

bool is_rectified(const Graph& graph, const GraphIndex& index, const std::string& value) {
  std::string name = value;
  for (int depth = 0; depth < 64; ++depth) {
    const int maker = index.producer(name);
    if (maker < 0) return false;
    const Node& node = graph.nodes[static_cast<std::size_t>(maker)];
    if (node.is("Relu")) return true;
    if (node.is("Clip")) {
      const TensorData* low = graph.constant(node.input(1));
      return low && low->count() == 1 && low->to_floats()[0] >= 0;
    }
    const bool passes = node.is("MaxPool") || node.is("Identity") || node.is("DepthToSpace") ||
                        node.is("Split") || node.is("Slice") || node.is("AveragePool") ||
                        node.is("Transpose") || node.is("Reshape");
    if (!passes) return false;
    name = node.input(0);
  }
  return false;
}

}  // namespace lithe
