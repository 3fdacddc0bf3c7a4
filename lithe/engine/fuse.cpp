#include "lithe/engine/fuse.h"

#include <ATen/Context.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <optional>
#include <unordered_map>

#include "lithe/base/error.h"

namespace lithe {
namespace {

constexpr std::int64_t kMaxFoldedBytes = 64 << 20;  // a larger result is computed anew in every run

bool is_random(const Node& node) {
  constexpr std::array kRandom{"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
                               "Multinomial",  "Bernoulli",        "Dropout"};
  return std::any_of(kRandom.begin(), kRandom.end(), [&](const char* type) { return node.is(type); });
}

/// Evaluates nodes that read only constants.
void fold_constants(const Program::Source& source, const Scope& scope, Fused& fused) {
  const at::NoGradGuard no_grad;
  for (const Node* node : source.nodes) {
    const auto keep = [&] { fused.nodes.push_back(*node); };
    const std::int64_t opset = scope.opset(node->domain);
    const OpEntry* entry = native_entry(*node, opset);
    if (!entry || is_control_flow(*node, opset) || is_random(*node)) {
      keep();
      continue;
    }
    std::vector<at::Tensor> inputs;
    std::vector<DType> types;
    bool constant = true;
    for (const std::string& name : node->inputs) {
      inputs.emplace_back();
      types.push_back(name.empty() ? DType::Undefined : source.type(name));
      if (name.empty()) continue;
      const auto folded = fused.constants.find(name);
      const at::Tensor* tensor = folded == fused.constants.end() ? source.constant(name) : &folded->second;
      if (!(constant = tensor != nullptr)) break;
      inputs.back() = *tensor;
    }
    if (!constant) {
      keep();
      continue;
    }
    std::vector<at::Tensor> results;
    try {
      results = entry->run(
          OpCall{.node = *node, .opset = opset, .inputs = inputs, .device = scope.device, .types = types});
    } catch (const std::exception&) {  // it will fail again, with its message, if it is really run
      keep();
      continue;
    }
    std::int64_t bytes = 0;
    bool complete = true;
    for (std::size_t i = 0; i < node->outputs.size(); ++i) {
      if (node->outputs[i].empty()) continue;
      complete = complete && i < results.size() && results[i].defined();
      if (complete) bytes += static_cast<std::int64_t>(results[i].nbytes());
    }
    if (!complete || (bytes > kMaxFoldedBytes && !node->is("Constant"))) {
      keep();
      continue;
    }
    for (std::size_t i = 0; i < node->outputs.size(); ++i)
      if (!node->outputs[i].empty()) fused.constants[node->outputs[i]] = results[i].to(scope.device);
  }
}

/// Finds chains of nodes and puts one node in their place.
class Fuser {
 public:
  Fuser(const Program::Source& source, const Scope& scope, Fused& fused)
      : source_(source),
        scope_(scope),
        constants_(fused.constants),
        kept_(source.outputs.begin(), source.outputs.end()) {
    nodes_.assign(std::make_move_iterator(fused.nodes.begin()), std::make_move_iterator(fused.nodes.end()));
    dead_.assign(nodes_.size(), false);
    index();
  }

  void run(const FuseOptions& options) {
    each("BatchNormalization", &Fuser::batch_norm);
    each("Div", &Fuser::layer_norm);
    each("Erf", &Fuser::gelu);
    each("Sigmoid", &Fuser::silu);
    each("MatMul", &Fuser::linear);
    each("QuantizeLinear", &Fuser::fake_quantize);
    if (options.channels_last && scope_.device.is_cpu() && at::hasMKLDNN()) block_layout();
  }

  void write(std::deque<Node>& nodes) {
    nodes.clear();
    for (std::size_t i = 0; i < nodes_.size(); ++i)
      if (!dead_[i]) nodes.push_back(std::move(nodes_[i]));
  }

 private:
  void index() {
    producer_.clear();
    readers_.clear();
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      if (dead_[i]) continue;
      for (const std::string& name : nodes_[i].outputs)
        if (!name.empty()) producer_[name] = i;
      for (const std::string& name : all_reads(nodes_[i])) readers_[name].push_back(i);
    }
  }

  void each(std::string_view type, bool (Fuser::*rule)(std::size_t)) {
    bool changed = false;
    for (std::size_t i = 0; i < nodes_.size(); ++i)
      if (!dead_[i] && nodes_[i].is(type) && (this->*rule)(i)) changed = true;
    if (changed) index();
  }

  const at::Tensor* constant(const std::string& name) const {
    if (name.empty()) return nullptr;
    const auto found = constants_.find(name);
    return found == constants_.end() ? source_.constant(name) : &found->second;
  }

  /// The constant's only element, if it is a constant of one element.
  std::optional<double> scalar(const std::string& name) const {
    const at::Tensor* tensor = constant(name);
    if (!tensor || tensor->numel() != 1 || !tensor->is_floating_point()) return {};
    return tensor->item().toDouble();
  }

  bool is_about(const std::string& name, double wanted) const {
    const auto value = scalar(name);
    return value && std::abs(*value - wanted) <= 1e-4 * std::abs(wanted);
  }

  /// The node that makes the value, if it is of that type.
  std::optional<std::size_t> maker(const std::string& name, std::string_view type) const {
    const auto found = producer_.find(name);
    if (found == producer_.end() || dead_[found->second] || !nodes_[found->second].is(type)) return {};
    return found->second;
  }

  /// The only reader of a node's first output, if there is one of that type that reads it once.
  std::optional<std::size_t> reader(std::size_t node, std::string_view type) const {
    const std::string& name = nodes_[node].output(0);
    const auto found = readers_.find(name);
    if (kept_.contains(name) || found == readers_.end() || found->second.size() != 1) return {};
    const std::size_t index = found->second[0];
    return !dead_[index] && nodes_[index].is(type) ? std::optional(index) : std::nullopt;
  }

  /// The other operand of a node of two.
  const std::string& other(std::size_t node, const std::string& one) const {
    return nodes_[node].input(0) == one ? nodes_[node].input(1) : nodes_[node].input(0);
  }

  /// True if nothing outside reads what the inner nodes make.
  bool closed(const std::vector<std::size_t>& inner, std::size_t last) const {
    const auto inside = [&](std::size_t i) {
      return i == last || std::find(inner.begin(), inner.end(), i) != inner.end();
    };
    for (const std::size_t i : inner) {
      for (const std::string& name : nodes_[i].outputs) {
        if (kept_.contains(name)) return false;
        const auto found = readers_.find(name);
        if (found != readers_.end() && !std::all_of(found->second.begin(), found->second.end(), inside))
          return false;
      }
    }
    return true;
  }

  /// Puts a node in the place of `last`, whose output it makes, and drops the inner ones.
  void replace(const std::vector<std::size_t>& inner, std::size_t last, const char* type,
               std::vector<std::string> inputs,
               std::map<std::string, Attribute, std::less<>> attributes = {}) {
    for (const std::size_t i : inner) dead_[i] = true;
    Node& node = nodes_[last];
    node = Node{.name = node.name,
                .op_type = type,
                .domain = kFusedDomain,
                .inputs = std::move(inputs),
                .outputs = {node.output(0)},
                .attributes = std::move(attributes)};
    producer_[node.output(0)] = last;
  }

  std::string add_constant(const std::string& of, const char* role, at::Tensor value) {
    std::string name = fmt::format("{}/{}/{}", kFusedDomain, of, role);
    constants_[name] = std::move(value);
    return name;
  }

  /// Conv, BatchNormalization -> Conv.
  bool batch_norm(std::size_t i) {
    const Node& norm = nodes_[i];
    const auto conv = maker(norm.input(0), "Conv");
    if (!conv || reader(*conv, "BatchNormalization") != i || norm.attr("training_mode", std::int64_t{0}) != 0)
      return false;
    for (std::size_t k = 1; k < norm.outputs.size(); ++k)
      if (!norm.outputs[k].empty()) return false;
    const at::Tensor* weight = constant(nodes_[*conv].input(1));
    const at::Tensor* bias = constant(nodes_[*conv].input(2));
    std::array<const at::Tensor*, 4> parameters;
    for (std::size_t k = 0; k < 4; ++k) {
      parameters[k] = constant(norm.input(k + 1));
      if (!parameters[k]) return false;
    }
    if (!weight || (!bias && !nodes_[*conv].input(2).empty()) || !weight->is_floating_point()) return false;
    std::array<at::Tensor, 4> p;
    for (std::size_t k = 0; k < 4; ++k) {
      p[k] = parameters[k]->to(at::kDouble).reshape({-1});
      if (p[k].numel() != weight->size(0)) return false;
    }
    const auto& [scale, shift, mean, variance] = p;
    const at::Tensor factor = scale / at::sqrt(variance + static_cast<double>(norm.attr("epsilon", 1e-5f)));
    std::vector<std::int64_t> shape(static_cast<std::size_t>(weight->dim()), 1);
    shape[0] = -1;
    const at::Tensor old_bias = bias ? bias->to(at::kDouble) : at::zeros_like(mean);
    Node folded = nodes_[*conv];
    folded.inputs.resize(3);
    folded.inputs[1] = add_constant(norm.output(0), "weight",
                                    (weight->to(at::kDouble) * factor.view(shape)).to(weight->scalar_type()));
    folded.inputs[2] =
        add_constant(norm.output(0), "bias", (shift + (old_bias - mean) * factor).to(weight->scalar_type()));
    folded.outputs = {norm.output(0)};
    dead_[*conv] = true;
    nodes_[i] = std::move(folded);
    return true;
  }

  bool over_last_axis(const Node& mean) const {
    if (mean.attr("keepdims", std::int64_t{1}) == 0) return false;
    if (const auto* axes = mean.find<std::vector<std::int64_t>>("axes"))
      return *axes == std::vector<std::int64_t>{-1};
    const at::Tensor* axes = constant(mean.input(1));
    return axes && axes->numel() == 1 && axes->item().toLong() == -1;
  }

  /// (x - mean) / sqrt(mean((x - mean)^2) + epsilon) * weight + bias -> LayerNorm.
  bool layer_norm(std::size_t i) {
    const auto centred = maker(nodes_[i].input(0), "Sub"), root = maker(nodes_[i].input(1), "Sqrt");
    if (!centred || !root) return false;
    const auto sum = maker(nodes_[*root].input(0), "Add");
    if (!sum) return false;
    std::optional<std::size_t> variance;
    double epsilon = 0;
    for (const std::size_t side : {0, 1}) {
      const auto value = scalar(nodes_[*sum].input(1 - side));
      if (!value) continue;
      variance = maker(nodes_[*sum].input(side), "ReduceMean");
      epsilon = *value;
    }
    if (!variance || !over_last_axis(nodes_[*variance])) return false;
    auto square = maker(nodes_[*variance].input(0), "Pow");
    if (square) {
      const at::Tensor* power = constant(nodes_[*square].input(1));
      if (!power || power->numel() != 1 || power->item().toDouble() != 2) return false;
    } else {
      square = maker(nodes_[*variance].input(0), "Mul");
      if (!square || nodes_[*square].input(0) != nodes_[*square].input(1)) return false;
    }
    const auto squared = maker(nodes_[*square].input(0), "Sub");
    if (!squared) return false;
    const std::string x = nodes_[*centred].input(0);
    std::vector<std::size_t> inner{*centred, *root, *sum, *variance, *square, i};
    for (const std::size_t sub : {*centred, *squared}) {
      const auto mean = maker(nodes_[sub].input(1), "ReduceMean");
      if (!mean || nodes_[sub].input(0) != x || nodes_[*mean].input(0) != x || !over_last_axis(nodes_[*mean]))
        return false;
      inner.push_back(*mean);
    }
    if (*squared != *centred) inner.push_back(*squared);
    const auto scaled = reader(i, "Mul");
    if (!scaled) return false;
    const auto shifted = reader(*scaled, "Add");
    if (!shifted) return false;
    inner.push_back(*scaled);
    const std::string weight = other(*scaled, nodes_[i].output(0)),
                      bias = other(*shifted, nodes_[*scaled].output(0));
    const at::Tensor *w = constant(weight), *b = constant(bias);
    if (!w || !b || w->dim() != 1 || b->dim() != 1 || w->numel() != b->numel() || !closed(inner, *shifted))
      return false;
    replace(inner, *shifted, "LayerNorm", {x, weight, bias}, {{"epsilon", static_cast<float>(epsilon)}});
    return true;
  }

  /// x * 0.5 * (1 + erf(x / sqrt(2))), in any order -> Gelu.
  bool gelu(std::size_t i) {
    std::optional<std::size_t> inside = maker(nodes_[i].input(0), "Div");
    std::string x;
    if (inside && is_about(nodes_[*inside].input(1), std::sqrt(2.0))) {
      x = nodes_[*inside].input(0);
    } else {
      inside = maker(nodes_[i].input(0), "Mul");
      if (!inside) return false;
      for (const std::size_t side : {0, 1})
        if (is_about(nodes_[*inside].input(side), std::sqrt(0.5))) x = nodes_[*inside].input(1 - side);
      if (x.empty()) return false;
    }
    const auto plus = reader(i, "Add");
    if (!plus || !is_about(other(*plus, nodes_[i].output(0)), 1)) return false;
    const auto product = reader(*plus, "Mul");
    if (!product) return false;
    std::vector<std::size_t> inner{*inside, i, *plus};
    std::size_t last = *product;
    const std::string factor = other(*product, nodes_[*plus].output(0));
    if (const auto half = maker(factor, "Mul"); half && factor != x) {
      const Node& node = nodes_[*half];
      if (!(node.input(0) == x && is_about(node.input(1), 0.5)) &&
          !(node.input(1) == x && is_about(node.input(0), 0.5)))
        return false;
      inner.push_back(*half);
    } else {
      const auto end = reader(*product, "Mul");
      if (!end) return false;
      const std::string second = other(*end, nodes_[*product].output(0));
      if (!(factor == x && is_about(second, 0.5)) && !(is_about(factor, 0.5) && second == x)) return false;
      inner.push_back(*product);
      last = *end;
    }
    if (!closed(inner, last)) return false;
    replace(inner, last, "Gelu", {x});
    return true;
  }

  /// x * sigmoid(x) -> Silu.
  bool silu(std::size_t i) {
    const auto product = reader(i, "Mul");
    if (!product || other(*product, nodes_[i].output(0)) != nodes_[i].input(0)) return false;
    replace({i}, *product, "Silu", {nodes_[i].input(0)});
    return true;
  }

  /// MatMul by a constant matrix, Add of a constant vector -> Linear.
  bool linear(std::size_t i) {
    const auto sum = reader(i, "Add");
    const at::Tensor* weight = constant(nodes_[i].input(1));
    if (!sum || !weight || weight->dim() != 2 || weight->scalar_type() != at::kFloat) return false;
    const std::string bias = other(*sum, nodes_[i].output(0));
    const at::Tensor* b = constant(bias);
    if (!b || b->dim() != 1 || b->numel() != weight->size(1) || b->scalar_type() != at::kFloat) return false;
    replace({i}, *sum, "Linear", {nodes_[i].input(0), nodes_[i].input(1), bias});
    return true;
  }

  /// QuantizeLinear, DequantizeLinear with the same scale and zero point -> FakeQuantize.
  bool fake_quantize(std::size_t i) {
    const auto back = reader(i, "DequantizeLinear");
    const Node& node = nodes_[i];
    if (!back || node.has("block_size") || node.has("output_dtype")) return false;
    const at::Tensor* scale = constant(node.input(1));
    const at::Tensor* zero = constant(node.input(2));
    if (!scale || scale->numel() != 1 || scale->scalar_type() != at::kFloat || !zero || zero->numel() != 1)
      return false;
    const auto same = [&](std::size_t k) {
      const at::Tensor *a = constant(node.input(k)), *b = constant(nodes_[*back].input(k));
      return a && b && b->numel() == 1 && a->scalar_type() == b->scalar_type() &&
             a->item().toDouble() == b->item().toDouble();
    };
    if (!same(1) || !same(2)) return false;
    std::int64_t low = 0, high = 0;
    switch (source_.type(node.input(2))) {
      case DType::UInt8:
        high = 255;
        break;
      case DType::Int8:
        low = -128, high = 127;
        break;
      case DType::UInt16:
        high = 65535;
        break;
      case DType::Int16:
        low = -32768, high = 32767;
        break;
      case DType::UInt4:
        high = 15;
        break;
      case DType::Int4:
        low = -8, high = 7;
        break;
      default:
        return false;
    }
    const float step = scale->item().toFloat();
    const std::int64_t zero_point = zero->item().toLong();
    replace({i}, *back, "FakeQuantize", {node.input(0)},
            {{"scale", step}, {"zero_point", zero_point}, {"low", low}, {"high", high}});
    return true;
  }

  /// Convolutions that oneDNN can run in its own blocked layout.
  bool can_block(const Node& node) const {
    if (!node.is("Conv") || node.attr("auto_pad", "NOTSET") != "NOTSET") return false;
    const at::Tensor* weight = constant(node.input(1));
    if (!weight || weight->dim() != 4 || weight->scalar_type() != at::kFloat) return false;
    const auto pads = node.attr("pads", std::vector<std::int64_t>(4, 0));
    return pads.size() == 4 && pads[0] == pads[2] && pads[1] == pads[3] && pads[0] >= 0 && pads[1] >= 0 &&
           node.attr("strides", std::vector<std::int64_t>(2, 1)).size() == 2 &&
           node.attr("dilations", std::vector<std::int64_t>(2, 1)).size() == 2 &&
           node.attr("group", std::int64_t{1}) >= 1;
  }

  /// Chains of convolutions, additions, ReLUs and pools stay in oneDNN's blocked layout, which is faster than
  /// channels-last; everything else gets plain tensors (see Program).
  void block_layout() {
    std::vector<bool> eligible(nodes_.size(), false), blocked(nodes_.size(), false);
    for (std::size_t i = 0; i < nodes_.size(); ++i) eligible[i] = !dead_[i] && can_block(nodes_[i]);
    const auto stays = [&](const std::string& name) {
      const auto found = readers_.find(name);
      if (kept_.contains(name) || found == readers_.end()) return false;
      return std::all_of(found->second.begin(), found->second.end(),
                         [&](std::size_t i) { return eligible[i] || takes_blocked(nodes_[i]); });
    };
    const auto comes_blocked = [&](const std::string& name) {
      const auto found = producer_.find(name);
      return found != producer_.end() && blocked[found->second];
    };
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      if (dead_[i]) continue;
      const Node& node = nodes_[i];
      if (eligible[i])
        blocked[i] = comes_blocked(node.input(0)) || stays(node.output(0));
      else
        blocked[i] = takes_blocked(node) && !node.is("GlobalAveragePool") && comes_blocked(node.input(0));
    }
    drop_small_regions(eligible, blocked);
    for (std::size_t i = 0; i < nodes_.size(); ++i)
      if (eligible[i] && blocked[i]) use_blocked(nodes_[i]);
  }

  /// Every value that enters or leaves a blocked region is converted: regions of few convolutions do not pay.
  void drop_small_regions(const std::vector<bool>& eligible, std::vector<bool>& blocked) const {
    constexpr std::size_t kConvolutionsPerConversion = 3;
    std::vector<std::size_t> parent(nodes_.size());
    std::iota(parent.begin(), parent.end(), std::size_t{0});
    const auto root = [&](std::size_t i) {
      while (parent[i] != i) i = parent[i] = parent[parent[i]];
      return i;
    };
    struct Region {
      std::size_t convolutions = 0, conversions = 0;
    };
    std::vector<Region> regions(nodes_.size());
    for (const bool counting : {false, true}) {
      for (std::size_t i = 0; i < nodes_.size(); ++i) {
        if (!blocked[i]) continue;
        Region& region = regions[root(i)];
        if (counting && eligible[i]) ++region.convolutions;
        for (const std::string& name : nodes_[i].inputs) {
          const auto found = producer_.find(name);
          const bool inside = found != producer_.end() && blocked[found->second];
          if (inside && !counting) parent[root(i)] = root(found->second);
          if (counting && !inside && !name.empty() && !constant(name)) ++region.conversions;
        }
        if (!counting) continue;
        const std::string& output = nodes_[i].output(0);
        const auto readers = readers_.find(output);
        const bool leaves =
            kept_.contains(output) || readers == readers_.end() ||
            std::any_of(readers->second.begin(), readers->second.end(), [&](std::size_t reader) {
              return !blocked[reader] && !takes_blocked(nodes_[reader]);
            });
        if (leaves) ++region.conversions;
      }
    }
    std::vector<bool> kept(blocked.size(), false);
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      const Region& region = regions[root(i)];
      kept[i] = blocked[i] && region.convolutions >= kConvolutionsPerConversion * region.conversions;
    }
    blocked = kept;
  }

  void use_blocked(Node& node) {
    const at::Tensor weight = *constant(node.input(1));
    const auto pads = node.attr("pads", std::vector<std::int64_t>(4, 0));
    const std::int64_t groups = node.attr("group", std::int64_t{1});
    const at::Tensor packed = at::mkldnn_reorder_conv2d_weight(
        weight.contiguous().to_mkldnn(), std::vector<std::int64_t>{pads[0], pads[1]},
        node.attr("strides", std::vector<std::int64_t>(2, 1)),
        node.attr("dilations", std::vector<std::int64_t>(2, 1)), groups);
    node.domain = kFusedDomain;
    node.inputs[1] = add_constant(node.output(0), "packed", packed);
    node.attributes["kernel_shape"] = std::vector<std::int64_t>{weight.size(2), weight.size(3)};
    node.attributes["channels"] = weight.size(1) * groups;
  }

  const Program::Source& source_;
  const Scope& scope_;
  std::map<std::string, at::Tensor>& constants_;
  std::set<std::string> kept_;
  std::vector<Node> nodes_;
  std::vector<bool> dead_;
  std::unordered_map<std::string, std::size_t> producer_;
  std::unordered_map<std::string, std::vector<std::size_t>> readers_;
};

}  // namespace

std::string describe_fused(const Node& node) {
  if (node.domain != kFusedDomain) return describe(node);
  return describe(Node{.name = node.name, .op_type = node.op_type, .outputs = node.outputs});
}

bool takes_blocked(const Node& node) {
  if (node.is("MaxPool")) {
    const auto pads = node.attr("pads", std::vector<std::int64_t>{});
    const auto dilations = node.attr("dilations", std::vector<std::int64_t>{});
    return node.output(1).empty() && node.attr("auto_pad", "NOTSET") == "NOTSET" &&
           node.attr("ceil_mode", std::int64_t{0}) == 0 &&
           (pads.empty() || (pads.size() == 4 && pads[0] == pads[2] && pads[1] == pads[3])) &&
           std::all_of(dilations.begin(), dilations.end(), [](std::int64_t d) { return d == 1; });
  }
  return node.is("Relu") || node.is("Add") || node.is("GlobalAveragePool") ||
         (node.domain == kFusedDomain && node.op_type == "Conv");
}

Fused fuse(const Program::Source& source, const Scope& scope, const FuseOptions& options) {
  const at::NoGradGuard no_grad;
  Fused fused;
  fold_constants(source, scope, fused);
  Fuser fuser(source, scope, fused);
  fuser.run(options);
  fuser.write(fused.nodes);
  return fused;
}

}  // namespace lithe
