#include "lithe/models/builder.h"

#include <algorithm>
#include <cmath>

#include "lithe/base/error.h"
#include "lithe/base/math.h"

namespace lithe {
namespace {

DimVector to_dims(const std::vector<std::int64_t>& shape) {
  DimVector dims;
  for (const std::int64_t size : shape) dims.push_back(size < 0 ? Dim{-1, "batch"} : Dim{size, ""});
  return dims;
}

std::vector<std::int64_t> twice(std::int64_t value) {
  return {value, value};
}
std::vector<std::int64_t> four_times(std::int64_t value) {
  return {value, value, value, value};
}

}  // namespace

GraphBuilder::GraphBuilder(std::string name, std::uint64_t seed, std::int64_t opset) : rng_(seed) {
  graph_.name = std::move(name);
  graph_.header.producer_name = "lithe";
  graph_.header.opsets[""] = opset;
}

std::string GraphBuilder::input(const std::string& name, const std::vector<std::int64_t>& shape,
                                DType dtype) {
  graph_.inputs.push_back({.name = name, .dtype = dtype, .shape = to_dims(shape)});
  if (shape.size() > 1) channels_[name] = shape[1];
  return name;
}

void GraphBuilder::output(const std::string& name, const std::string& value,
                          const std::vector<std::int64_t>& shape, DType dtype) {
  for (Node& node : graph_.nodes) {
    std::replace(node.inputs.begin(), node.inputs.end(), value, name);
    std::replace(node.outputs.begin(), node.outputs.end(), value, name);
  }
  graph_.outputs.push_back({.name = name, .dtype = dtype, .shape = to_dims(shape)});
}

std::string GraphBuilder::constant(const std::string& name, TensorData value) {
  if (!graph_.constants.emplace(name, std::move(value)).second) fail("two constants are called '{}'", name);
  return name;
}

std::string GraphBuilder::ints(const std::string& name, std::vector<std::int64_t> values) {
  const auto count = static_cast<std::int64_t>(values.size());
  return constant(name, TensorData::from<std::int64_t>({count}, std::move(values)));
}

std::string GraphBuilder::scalar(const std::string& name, float value) {
  return constant(name, TensorData::scalar<float>(value));
}

std::string GraphBuilder::random(const std::string& name, const std::vector<std::int64_t>& shape,
                                 double radius, double center) {
  const auto count = element_count(shape);
  if (!count) fail("constant '{}': the shape {} is too large", name, format_shape(shape));
  std::vector<float> values(static_cast<std::size_t>(*count));
  constexpr double kScale = 1.0 / 4294967296.0;
  for (float& value : values)
    value = static_cast<float>(center + radius * (2 * kScale * static_cast<double>(rng_()) - 1));
  return constant(name, TensorData::from<float>(shape, std::move(values)));
}

std::string GraphBuilder::node(const std::string& op, const std::string& name,
                               std::vector<std::string> inputs, Attributes attributes) {
  return node_outputs(op, name, std::move(inputs), {name}, std::move(attributes)).front();
}

std::vector<std::string> GraphBuilder::node_outputs(const std::string& op, const std::string& name,
                                                    std::vector<std::string> inputs,
                                                    std::vector<std::string> outputs, Attributes attributes,
                                                    const std::string& domain) {
  graph_.nodes.push_back({.name = name,
                          .op_type = op,
                          .domain = domain,
                          .inputs = std::move(inputs),
                          .outputs = outputs,
                          .attributes = std::move(attributes)});
  return outputs;
}

std::string GraphBuilder::conv(const std::string& name, const std::string& x, const ConvOptions& options) {
  const std::int64_t in = channels(x), k = options.kernel;
  const std::int64_t per_group = in / options.groups;
  const double fan_in = static_cast<double>(per_group * k * k);
  std::vector<std::string> inputs{
      x, random(name + ".weight", {options.channels, per_group, k, k}, options.gain * std::sqrt(6 / fan_in))};
  if (options.bias) inputs.push_back(random(name + ".bias", {options.channels}, 0.1));
  const std::int64_t padding = options.padding < 0 ? k / 2 : options.padding;
  node("Conv", name, std::move(inputs),
       {{"kernel_shape", twice(k)},
        {"strides", twice(options.stride)},
        {"pads", four_times(padding)},
        {"dilations", twice(1)},
        {"group", options.groups}});
  channels_[name] = options.channels;
  return name;
}

std::string GraphBuilder::batch_norm(const std::string& name, const std::string& x, double gain) {
  const std::int64_t c = channels(x);
  const std::string weight = random(name + ".weight", {c}, 0.2 * gain, gain);
  const std::string bias = random(name + ".bias", {c}, 0.1);
  const std::string mean = random(name + ".running_mean", {c}, 0.1);
  const std::string variance = random(name + ".running_var", {c}, 0.2, 1);
  node("BatchNormalization", name, {x, weight, bias, mean, variance},
       {{"epsilon", 1e-5f}, {"momentum", 0.9f}});
  return like(x, name);
}

std::string GraphBuilder::relu6(const std::string& name, const std::string& x) {
  node("Clip", name, {x, scalar(name + ".min", 0), scalar(name + ".max", 6)});
  return like(x, name);
}

std::string GraphBuilder::silu(const std::string& name, const std::string& x) {
  const std::string gate = node("Sigmoid", name + ".sigmoid", {x});
  return like(x, node("Mul", name, {x, gate}));
}

std::string GraphBuilder::gelu(const std::string& name, const std::string& x) {
  const std::string scaled = node("Div", name + ".div", {x, scalar(name + ".sqrt2", std::sqrt(2.0f))});
  const std::string erf = node("Erf", name + ".erf", {scaled});
  const std::string shifted = node("Add", name + ".add", {erf, scalar(name + ".one", 1)});
  const std::string product = node("Mul", name + ".mul", {x, shifted});
  return like(x, node("Mul", name, {product, scalar(name + ".half", 0.5f)}));
}

std::string GraphBuilder::concat(const std::string& name, const std::vector<std::string>& parts,
                                 std::int64_t axis) {
  node("Concat", name, parts, {{"axis", axis}});
  std::int64_t total = 0;
  for (const std::string& part : parts)
    if (const auto found = channels_.find(part); found != channels_.end()) total += found->second;
  if (axis == 1) channels_[name] = total;
  return name;
}

std::string GraphBuilder::max_pool(const std::string& name, const std::string& x, std::int64_t kernel,
                                   std::int64_t stride, std::int64_t padding) {
  node("MaxPool", name, {x},
       {{"kernel_shape", twice(kernel)}, {"strides", twice(stride)}, {"pads", four_times(padding)}});
  return like(x, name);
}

std::string GraphBuilder::gemm(const std::string& name, const std::string& x, std::int64_t in,
                               std::int64_t out) {
  const std::string weight = random(name + ".weight", {out, in}, std::sqrt(3.0 / static_cast<double>(in)));
  return node("Gemm", name, {x, weight, random(name + ".bias", {out}, 0.1)}, {{"transB", std::int64_t{1}}});
}

std::string GraphBuilder::linear(const std::string& name, const std::string& x, std::int64_t in,
                                 std::int64_t out, double gain) {
  const std::string weight =
      random(name + ".weight", {in, out}, gain * std::sqrt(3.0 / static_cast<double>(in)));
  const std::string product = node("MatMul", name + ".matmul", {x, weight});
  return node("Add", name, {product, random(name + ".bias", {out}, 0.02)});
}

std::string GraphBuilder::reduce_mean(const std::string& name, const std::string& x) {
  const std::vector<std::int64_t> axes{-1};
  if (opset() >= 18)
    return node("ReduceMean", name, {x, ints(name + ".axes", axes)}, {{"keepdims", std::int64_t{1}}});
  return node("ReduceMean", name, {x}, {{"axes", axes}, {"keepdims", std::int64_t{1}}});
}

std::string GraphBuilder::layer_norm(const std::string& name, const std::string& x, std::int64_t size,
                                     bool decomposed, float epsilon) {
  const std::string weight = random(name + ".weight", {size}, 0.1, 1);
  const std::string bias = random(name + ".bias", {size}, 0.1);
  if (!decomposed)
    return node("LayerNormalization", name, {x, weight, bias},
                {{"axis", std::int64_t{-1}}, {"epsilon", epsilon}});
  const std::string mean = reduce_mean(name + ".mean", x);
  const std::string centered = node("Sub", name + ".sub", {x, mean});
  const std::string squared = node("Pow", name + ".pow", {centered, scalar(name + ".two", 2)});
  const std::string variance = reduce_mean(name + ".variance", squared);
  const std::string shifted =
      node("Add", name + ".add_epsilon", {variance, scalar(name + ".epsilon", epsilon)});
  const std::string deviation = node("Sqrt", name + ".sqrt", {shifted});
  const std::string normed = node("Div", name + ".div", {centered, deviation});
  return node("Add", name, {node("Mul", name + ".mul", {normed, weight}), bias});
}

std::string GraphBuilder::group_norm(const std::string& name, const std::string& x, std::int64_t groups) {
  const std::int64_t c = channels(x);
  const std::string grouped = reshape(name + ".group", x, {0, groups, -1});
  const std::string ones =
      constant(name + ".ones", TensorData::from<float>({groups}, std::vector<float>(groups, 1)));
  const std::string zeros =
      constant(name + ".zeros", TensorData::from<float>({groups}, std::vector<float>(groups)));
  const std::string normed =
      node("InstanceNormalization", name + ".instance", {grouped, ones, zeros}, {{"epsilon", 1e-5f}});
  const std::string shape = node("Shape", name + ".size", {x});
  const std::string back = node("Reshape", name + ".ungroup", {normed, shape});
  const std::string weighted =
      node("Mul", name + ".mul", {back, random(name + ".weight", {c, 1, 1}, 0.1, 1)});
  return like(x, node("Add", name, {weighted, random(name + ".bias", {c, 1, 1}, 0.1)}));
}

std::string GraphBuilder::reshape_dynamic(const std::string& name, const std::string& x,
                                          const std::vector<std::int64_t>& tail) {
  const std::string shape = node("Shape", name + ".size", {x});
  const std::string batch =
      node("Gather", name + ".batch", {shape, constant(name + ".zero", TensorData::scalar<std::int64_t>(0))},
           {{"axis", std::int64_t{0}}});
  const std::string vector = node("Unsqueeze", name + ".unsqueeze", {batch, ints(name + ".axis", {0})});
  const std::string target =
      node("Concat", name + ".target", {vector, ints(name + ".tail", tail)}, {{"axis", std::int64_t{0}}});
  return node("Reshape", name, {x, target});
}

std::int64_t GraphBuilder::channels(const std::string& value) const {
  const auto found = channels_.find(value);
  if (found == channels_.end()) fail("graph builder: the channels of '{}' are not known", value);
  return found->second;
}

const std::string& GraphBuilder::like(const std::string& model, const std::string& value) {
  if (const auto found = channels_.find(model); found != channels_.end()) channels_[value] = found->second;
  return value;
}

Graph GraphBuilder::finish() {
  graph_.validate();
  return std::move(graph_);
}

}  // namespace lithe
