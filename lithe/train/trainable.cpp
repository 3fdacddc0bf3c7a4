#include "lithe/train/trainable.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <unordered_map>
#include <unordered_set>

namespace lithe {
namespace {

bool is_one_of(const Node& node, std::initializer_list<std::string_view> types) {
  return node.domain.empty() && std::find(types.begin(), types.end(), node.op_type) != types.end();
}

bool passes_constants(const Node& node) {
  return is_one_of(node, {"Transpose", "Reshape", "Identity", "Squeeze", "Unsqueeze", "Flatten", "Expand",
                          "Tile"}) ||
         node.domain == "lithe";
}

/// Two values, one of them zero and the other one far below: what attention adds to hide tokens.
bool is_mask(const TensorData& data) {
  const std::vector<float> values = data.to_floats();
  std::set<float> seen;
  for (const float value : values) {
    if (!std::isfinite(value)) return true;
    seen.insert(value);
    if (seen.size() > 2) return false;
  }
  return seen.size() == 2 && *seen.begin() <= -50 && *seen.rbegin() == 0;
}

class Finder {
 public:
  explicit Finder(const Graph& graph) : graph_(graph) {
    for (const auto& [name, data] : graph.constants) constants_[name] = &data;
    for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
      const Node& node = graph.nodes[i];
      if (const auto* data = node.is("Constant") ? node.find<TensorData>("value") : nullptr)
        constants_[node.output(0)] = data;
      else
        for (const std::string& output : node.outputs) producers_[output] = static_cast<int>(i);
    }
    for (const ValueInfo& input : graph.inputs)
      if (!graph.is_constant(input.name)) reached_[input.name] = Reach::Input;
  }

  std::vector<Trainable> find() {
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) visit(static_cast<int>(i));
    return std::move(found_);
  }

 private:
  /// What a computed value depends on: sizes and constants alone, the elements of an input, or a layer.
  enum class Reach { None, Input, Layer };

  Reach reach(const std::string& value) const {
    const auto found = reached_.find(value);
    return found == reached_.end() ? Reach::None : found->second;
  }

  /// The learnable constant behind a value that is made of constants alone, or "".
  std::string constant_behind(std::string value) const {
    for (int steps = 0; steps < 16 && !value.empty(); ++steps) {
      if (const auto found = constants_.find(value); found != constants_.end()) {
        const DType type = found->second->dtype();
        return type == DType::Float32 || type == DType::Float64 ? value : "";
      }
      const auto maker = producers_.find(value);
      if (maker == producers_.end()) return "";
      const Node& node = graph_.nodes[static_cast<std::size_t>(maker->second)];
      if (!passes_constants(node)) return "";
      value = node.input(0);
    }
    return "";
  }

  bool add(int node, const std::string& value, TrainableKind kind, std::int64_t least = 1) {
    if (value.empty() || reach(value) != Reach::None) return false;
    const std::string name = constant_behind(value);
    if (name.empty() || constants_.at(name)->count() < least) return false;
    if (names_.insert(name).second) found_.push_back({name, kind, node});
    return true;
  }

  void visit(int index) {
    const Node& node = graph_.nodes[static_cast<std::size_t>(index)];
    Reach most = Reach::None;
    for (const std::string& value : all_reads(node)) most = std::max(most, reach(value));
    if (node.is("Shape") || node.is("Size")) most = Reach::None;  // sizes are no data
    if (most != Reach::None && visit_computed(node, index, most)) most = Reach::Layer;
    if (node.is("Gather") && add_table(node, index)) most = Reach::Layer;
    if (most != Reach::None)
      for (const std::string& output : node.outputs)
        if (!output.empty()) reached_[output] = most;
  }

  /// A node that reads data; returns whether it is a layer with weights.
  bool visit_computed(const Node& node, int index, Reach most) {
    if (is_one_of(node, {"Conv", "ConvTranspose", "DeformConv"})) {
      const bool layer = add(index, node.input(1), TrainableKind::Weight);
      add(index, node.input(node.is("DeformConv") ? 3 : 2), TrainableKind::Bias);
      return layer;
    }
    if (is_one_of(node, {"Gemm", "MatMul", "Einsum"})) {
      bool layer = false;
      for (std::size_t i = 0; i < node.inputs.size() && (i < 2 || node.is("Einsum")); ++i)
        layer = add(index, node.input(i), TrainableKind::Weight) || layer;
      if (node.is("Gemm")) add(index, node.input(2), TrainableKind::Bias);
      return layer;
    }
    if (is_one_of(node, {"RNN", "GRU", "LSTM"})) {
      add(index, node.input(1), TrainableKind::Weight);
      add(index, node.input(2), TrainableKind::Weight);
      add(index, node.input(3), TrainableKind::Bias);
      return true;
    }
    if (is_one_of(node, {"BatchNormalization", "InstanceNormalization", "GroupNormalization",
                         "LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"})) {
      add(index, node.input(1), TrainableKind::NormScale);
      add(index, node.input(2), TrainableKind::NormBias);
      return true;
    }
    if (node.domain == "lithe") return false;  // its constants learn where what it makes is used as weights
    if (most != Reach::Layer) return false;    // ahead of the first layer: the normalisation of the input
    if (node.is("PRelu")) add(index, node.input(1), TrainableKind::NormScale);
    if (is_one_of(node, {"Add", "Sub", "Mul", "Div"})) visit_elementwise(node, index);
    if (node.is("Concat")) visit_concat(node, index);
    return false;
  }

  void visit_elementwise(const Node& node, int index) {
    for (std::size_t i = 0; i < 2; ++i) {
      const std::string& value = node.input(i);
      const std::string& other = node.input(1 - i);
      if (reach(value) != Reach::None || reach(other) != Reach::Layer) continue;
      const std::string name = constant_behind(value);
      if (name.empty() || is_mask(*constants_.at(name))) continue;
      const TensorData& data = *constants_.at(name);
      const bool additive = is_one_of(node, {"Add", "Sub"});
      // Scalars are factors and epsilons, unless one is the bias of a layer with a single output.
      if (data.count() < 2 && !(additive && data.rank() == 1 && follows_product(other))) continue;
      if (!additive && node.is("Div") && i == 0) continue;
      const auto wide =
          std::count_if(data.shape().begin(), data.shape().end(), [](std::int64_t size) { return size > 1; });
      const TrainableKind kind = wide > 1                 ? TrainableKind::Embedding
                                 : !additive              ? TrainableKind::NormScale
                                 : follows_product(other) ? TrainableKind::Bias
                                                          : TrainableKind::NormBias;
      add(index, value, kind);
    }
  }

  bool follows_product(const std::string& value) const {
    const auto maker = producers_.find(value);
    return maker != producers_.end() && is_one_of(graph_.nodes[static_cast<std::size_t>(maker->second)],
                                                  {"MatMul", "Einsum", "Gemm", "Conv"});
  }

  /// Tokens [1, k, d] in front of computed ones. Images padded with constant channels have four axes.
  void visit_concat(const Node& node, int index) {
    for (const std::string& value : node.inputs) {
      const std::string name = constant_behind(value);
      if (name.empty() || reach(value) != Reach::None) continue;
      const auto& shape = constants_.at(name)->shape();
      if (shape.size() == 3 && shape[0] == 1 && shape[2] > 1) add(index, value, TrainableKind::Embedding);
    }
  }

  /// Rows looked up by a computed index.
  bool add_table(const Node& node, int index) {
    if (reach(node.input(1)) == Reach::None || reach(node.input(0)) != Reach::None) return false;
    const std::string name = constant_behind(node.input(0));
    if (name.empty() || constants_.at(name)->rank() != 2) return false;
    return add(index, node.input(0), TrainableKind::Embedding, 2);
  }

  const Graph& graph_;
  std::unordered_map<std::string, const TensorData*> constants_;
  std::unordered_map<std::string, int> producers_;
  std::unordered_map<std::string, Reach> reached_;
  std::unordered_set<std::string> names_;
  std::vector<Trainable> found_;
};

}  // namespace

std::string_view trainable_kind_name(TrainableKind kind) {
  switch (kind) {
    case TrainableKind::Weight:
      return "weight";
    case TrainableKind::Bias:
      return "bias";
    case TrainableKind::NormScale:
      return "norm scale";
    case TrainableKind::NormBias:
      return "norm bias";
    case TrainableKind::Embedding:
      return "embedding";
  }
  return "";
}

std::vector<Trainable> trainable_constants(const Graph& graph) {
  std::vector<Trainable> found = Finder(graph).find();
  // A statistic that is also used elsewhere still follows the data.
  for (const std::string& name : running_statistics(graph))
    std::erase_if(found, [&](const Trainable& one) { return one.name == name; });
  return found;
}

std::vector<std::string> running_statistics(const Graph& graph) {
  std::vector<std::string> names;
  for (const Node& node : graph.nodes) {
    if (!node.is("BatchNormalization")) continue;
    for (const std::size_t input : {std::size_t{3}, std::size_t{4}})
      if (std::find(names.begin(), names.end(), node.input(input)) == names.end())
        names.push_back(node.input(input));
  }
  return names;
}

}  // namespace lithe
