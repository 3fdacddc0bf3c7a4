#include "lithe/quantize/export_qdq.h"

#include <algorithm>
#include <limits>
#include <map>
#include <memory>
#include <set>
#include <unordered_map>

#include "lithe/base/error.h"
#include "lithe/ops/registry.h"

namespace lithe {
namespace {

constexpr std::int64_t kPerChannelOpset = 13, kNibbleOpset = 21;

struct Limits {
  std::int64_t low, high;
};

Limits limits_of(DType dtype) {
  switch (dtype) {
    case DType::Int4:
      return {-8, 7};
    case DType::UInt4:
      return {0, 15};
    case DType::UInt8:
      return {0, 255};
    case DType::Int32:
      return {std::numeric_limits<std::int32_t>::min(), std::numeric_limits<std::int32_t>::max()};
    default:
      return {-128, 127};
  }
}

std::vector<std::int64_t> whole_numbers(const at::Tensor& tensor) {
  const at::Tensor longs = at::round(tensor).to(at::kLong).contiguous();
  const std::int64_t* first = longs.data_ptr<std::int64_t>();
  return {first, first + longs.numel()};
}

/// Integers as a constant of the given (8-bit, 4-bit or int32) type.
TensorData integer_constant(const at::Tensor& tensor, DType dtype, const std::string& what) {
  const std::vector<std::int64_t> numbers = whole_numbers(tensor);
  const Limits limits = limits_of(dtype);
  for (const std::int64_t number : numbers)
    if (number < limits.low || number > limits.high)
      fail("'{}': the code {} does not fit into {}", what, number, dtype_name(dtype));
  const std::vector<std::int64_t> shape = tensor.sizes().vec();
  if (dtype == DType::Int32)
    return TensorData::from(shape, std::vector<std::int32_t>(numbers.begin(), numbers.end()));
  if (dtype == DType::Int8)
    return TensorData::from(shape, std::vector<std::int8_t>(numbers.begin(), numbers.end()));
  if (dtype == DType::UInt8)
    return TensorData::from(shape, std::vector<std::uint8_t>(numbers.begin(), numbers.end()));
  auto packed = std::make_shared<const std::vector<std::uint8_t>>(pack_nibbles(numbers));
  const auto bytes = std::as_bytes(std::span<const std::uint8_t>(*packed));
  return TensorData(dtype, shape, bytes, packed);
}

bool is_nibble(int bits, std::int64_t opset, bool nibbles) {
  return nibbles && opset >= kNibbleOpset && bits <= 4;
}

/// How a weight lies in the file.
struct Container {
  DType dtype = DType::Int8;
  bool zero_points = false;  // kept as they are; otherwise subtracted from the codes
};

Container container_of(const QuantizedWeight& weight, std::int64_t opset, bool nibbles) {
  const at::Tensor& zero = weight.quantizer.zero_point;
  const at::Tensor numbers = weight.codes - along_axis(zero, weight.quantizer.axis, weight.codes.dim());
  const auto fit = [](const at::Tensor& values, DType dtype) {
    const Limits limits = limits_of(dtype);
    return values.min().item<float>() >= static_cast<float>(limits.low) &&
           values.max().item<float>() <= static_cast<float>(limits.high);
  };
  if (is_nibble(weight.bits, opset, nibbles)) {
    if (fit(numbers, DType::Int4)) return {DType::Int4, false};
    if (fit(zero, DType::UInt4)) return {DType::UInt4, true};
  }
  if (fit(numbers, DType::Int8)) return {};
  if (fit(zero, DType::UInt8)) return {DType::UInt8, true};
  return {DType::Float32, false};
}

class Exporter {
 public:
  Exporter(const Graph& graph, const QdqPlan& plan, const ExportOptions& options)
      : graph_(graph), plan_(plan), options_(options) {}

  Graph run() {
    if (graph_.opset() < kPerChannelOpset)
      fail("per-channel quantisation needs opset 13, but the model is of opset {}", graph_.opset());
    for (const Layer& layer : plan_.layers) layer_at_.emplace(layer.node, &layer);
    for (const QuantizedActivation& activation : plan_.activations)
      activations_.emplace(activation.value, &activation);
    for (const QuantizedWeight& weight : plan_.weights)
      for (const std::size_t layer : weight.layers) weight_at_.emplace(plan_.layers[layer].node, &weight);

    std::vector<Node> nodes = std::move(graph_.nodes);
    graph_.nodes.clear();
    // unique_name looks at the nodes: names of the original ones must not be taken again.
    for (const Node& node : nodes) taken_.insert(node.outputs.begin(), node.outputs.end());
    for (const ValueInfo& input : graph_.inputs) taken_.insert(input.name);
    for (const ValueInfo* input : graph_.required_inputs()) quantize_value(input->name);
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      Node& node = nodes[i];
      redirect(node, i);
      if (const auto found = weight_at_.find(i); found != weight_at_.end()) {
        const Layer& layer = *layer_at_.at(i);
        node.inputs[layer.weight_index] = dequantized_weight(*found->second);
        if (options_.integer_bias) integer_bias(node, layer, *found->second);
      }
      const std::vector<std::string> outputs = node.outputs;
      graph_.nodes.push_back(std::move(node));
      for (const std::string& value : outputs) quantize_value(value);
    }
    graph_.remove_dead();
    graph_.validate();
    return std::move(graph_);
  }

 private:
  std::string unique(const std::string& base) {
    std::string name = base;
    for (int i = 1; taken_.contains(name) || graph_.is_constant(name); ++i)
      name = fmt::format("{}_{}", base, i);
    taken_.insert(name);
    return name;
  }

  std::string constant(const std::string& base, TensorData data) {
    std::string name = unique(base);
    graph_.constants.emplace(name, std::move(data));
    return name;
  }

  /// Leads the node's inputs to the quantised values.
  void redirect(Node& node, std::size_t index) {
    if (node.is("Shape") || node.is("Size")) return;
    const auto layer = layer_at_.find(index);
    const bool in_float = layer != layer_at_.end() && layer->second->activation_bits == kFloatBits;
    for (std::string& name : node.inputs)
      if (const auto found = quantized_.find(name); found != quantized_.end() && !in_float)
        name = found->second;
  }

  /// Whether a layer multiplies the value with weights of 8-bit containers: stock runtimes fuse such a layer
  /// into one integer operator, which takes no 4-bit input beside them.
  bool meets_bytes(const std::string& value) const {
    return std::any_of(plan_.layers.begin(), plan_.layers.end(), [&](const Layer& layer) {
      const auto weight = weight_at_.find(layer.node);
      return layer.input == value && weight != weight_at_.end() &&
             !is_nibble(weight->second->bits, graph_.opset(), options_.nibbles);
    });
  }

  void quantize_value(const std::string& value) {
    const auto found = activations_.find(value);
    if (found == activations_.end()) return;
    const QuantizedActivation& activation = *found->second;
    const CodeRange& codes = activation.quantizer.codes;
    const double scale = activation.quantizer.scale.item<float>();
    const double zero = activation.quantizer.zero_point.item<float>();
    const Limits nibble = limits_of(activation.is_signed ? DType::Int4 : DType::UInt4);
    const bool nibbles = options_.nibbles && graph_.opset() >= kNibbleOpset && activation.bits == 4 &&
                         codes.low >= nibble.low && codes.high <= nibble.high && !meets_bytes(value);
    const DType dtype = nibbles ? (activation.is_signed ? DType::Int4 : DType::UInt4)
                                : (activation.is_signed ? DType::Int8 : DType::UInt8);
    const Limits limits = limits_of(dtype);
    const std::string scale_name = constant(value + "_scale", TensorData::scalar(static_cast<float>(scale)));
    const std::string zero_name =
        constant(value + "_zero_point",
                 integer_constant(activation.quantizer.zero_point.reshape({}), dtype, value + "_zero_point"));
    std::string source = value;
    if (activation.bits < 8 && (codes.low > limits.low || codes.high < limits.high)) {
      const auto bound = [&](std::int64_t code) {
        return TensorData::scalar(static_cast<float>((static_cast<double>(code) - zero) * scale));
      };
      source = unique(value + "_clipped");
      graph_.nodes.push_back({.name = value + "/clip",
                              .op_type = "Clip",
                              .inputs = {value, constant(value + "_low", bound(codes.low)),
                                         constant(value + "_high", bound(codes.high))},
                              .outputs = {source}});
    }
    const std::string integers = unique(value + "_quantized"), result = unique(value + "_dequantized");
    graph_.nodes.push_back({.name = value + "/quantize",
                            .op_type = "QuantizeLinear",
                            .inputs = {source, scale_name, zero_name},
                            .outputs = {integers}});
    graph_.nodes.push_back({.name = value + "/dequantize",
                            .op_type = "DequantizeLinear",
                            .inputs = {integers, scale_name, zero_name},
                            .outputs = {result}});
    quantized_.emplace(value, result);
  }

  const std::string& dequantized_weight(const QuantizedWeight& weight) {
    const auto key = std::pair{weight.constant, weight.quantizer.axis};
    if (const auto found = weights_.find(key); found != weights_.end()) return found->second;
    const Container container = container_of(weight, graph_.opset(), options_.nibbles);
    const Quantizer& quantizer = weight.quantizer;
    if (container.dtype == DType::Float32)  // a zero-point far from all codes, where no weight is near 0
      return weights_
          .emplace(key, constant(weight.constant + "_rounded",
                                 to_tensor_data(decode(quantizer, weight.codes).contiguous())))
          .first->second;
    const at::Tensor zero =
        container.zero_points ? quantizer.zero_point : at::zeros_like(quantizer.zero_point);
    const at::Tensor numbers =
        container.zero_points
            ? weight.codes
            : weight.codes - along_axis(quantizer.zero_point, quantizer.axis, weight.codes.dim());
    const std::string& base = weight.constant;
    Node node{.name = base + "/dequantize", .op_type = "DequantizeLinear"};
    node.inputs = {constant(base + "_quantized", integer_constant(numbers, container.dtype, base)),
                   constant(base + "_scale", to_tensor_data(quantizer.scale.contiguous())),
                   constant(base + "_zero_point", integer_constant(zero, container.dtype, base))};
    node.outputs = {unique(base + "_dequantized")};
    if (quantizer.axis >= 0) node.attributes["axis"] = quantizer.axis;
    graph_.nodes.push_back(node);
    return weights_.emplace(key, node.outputs[0]).first->second;
  }

  void integer_bias(Node& node, const Layer& layer, const QuantizedWeight& weight) {
    const auto input = activations_.find(layer.input);
    if (layer.bias.empty() || layer.bias_node != layer.node || layer.activation_bits == kFloatBits ||
        input == activations_.end())
      return;
    const at::Tensor bias = to_tensor(graph_.constants.at(layer.bias)).reshape({-1});
    const at::Tensor input_scale = input->second->quantizer.scale;
    const at::Tensor scale = input_scale * weight.quantizer.scale;
    const at::Tensor codes = quantize_bias(bias, input_scale.item<float>(), weight.quantizer.scale);
    // A bias may be shared by layers of different scales, so it is stored for each.
    const std::string base = layer.name + "/bias";
    Node dequantize{.name = base + "/dequantize", .op_type = "DequantizeLinear"};
    dequantize.inputs = {
        constant(base + "_quantized", integer_constant(codes, DType::Int32, base)),
        constant(base + "_scale", to_tensor_data(scale.contiguous())),
        constant(base + "_zero_point", integer_constant(at::zeros_like(scale), DType::Int32, base))};
    dequantize.outputs = {unique(base + "_dequantized")};
    if (scale.dim() > 0) dequantize.attributes["axis"] = std::int64_t{0};
    node.inputs[2] = dequantize.outputs[0];
    graph_.nodes.push_back(std::move(dequantize));
  }

  Graph graph_;
  const QdqPlan& plan_;
  ExportOptions options_;
  std::unordered_map<std::size_t, const Layer*> layer_at_;
  std::unordered_map<std::size_t, const QuantizedWeight*> weight_at_;
  std::unordered_map<std::string, const QuantizedActivation*> activations_;
  std::unordered_map<std::string, std::string> quantized_;
  std::map<std::pair<std::string, std::int64_t>, std::string> weights_;
  std::set<std::string> taken_;
};

}  // namespace

std::vector<std::uint8_t> pack_nibbles(std::span<const std::int64_t> codes) {
  std::vector<std::uint8_t> bytes((codes.size() + 1) / 2, 0);
  for (std::size_t i = 0; i < codes.size(); ++i)
    bytes[i / 2] = static_cast<std::uint8_t>(bytes[i / 2] | (codes[i] & 15) << (i % 2 * 4));
  return bytes;
}

std::int64_t stored_bytes(int bits, std::int64_t elements, std::int64_t scales, std::int64_t opset,
                          bool nibbles) {
  const DType dtype = is_nibble(bits, opset, nibbles) ? DType::Int4 : DType::Int8;
  return packed_bytes(dtype, elements) + 4 * scales + packed_bytes(dtype, scales);
}

Graph export_qdq(const Graph& graph, const QdqPlan& plan, const ExportOptions& options) {
  return Exporter(graph, plan, options).run();
}

}  // namespace lithe
