#include "lithe/multibit/branch_quantisers.h"

#include <fmt/format.h>

#include <string_view>

#include "lithe/graph/bound_function.h"

namespace lithe {

std::string QuantiserWriter::add(Node node) {
  std::string output = node.outputs[0];
  if (made_.insert(output).second) graph_.nodes.push_back(std::move(node));
  return output;
}

std::string QuantiserWriter::constant(const std::string& name, float value) {
  if (!graph_.is_constant(name)) graph_.constants[name] = TensorData::scalar(value);
  return name;
}

std::string QuantiserWriter::bound_node(const std::string& value, const std::string& name,
                                        const std::string& low, const std::string& high, std::int64_t levels,
                                        bool centred) {
  uses_bounds_ = true;
  Node node{.name = name,
            .op_type = "BoundQuantize",
            .domain = "lithe",
            .inputs = {value, low, high},
            .outputs = {name}};
  node.attributes["levels"] = levels;
  node.attributes["centred"] = std::int64_t{centred};
  return add(std::move(node));
}

std::string QuantiserWriter::bounded(const std::string& value, const std::string& name,
                                     const std::string& owner, std::int64_t levels, bool weight, int bits) {
  const std::string low = owner + "/low", high = owner + "/high";
  if (!graph_.is_constant(low))
    bounds.push_back({.low = constant(low, weight ? -1.0f : 0.0f),
                      .high = constant(high, 1.0f),
                      .value = value,
                      .weight = weight,
                      .bits = bits});
  return bound_node(value, name, low, high, levels, weight);
}

std::string QuantiserWriter::unary(const char* type, const std::string& input, const std::string& output) {
  Node node{.name = output, .op_type = type, .inputs = {input}, .outputs = {output}};
  if (std::string_view(type).starts_with("Reduce")) node.attributes["keepdims"] = std::int64_t{0};
  return add(std::move(node));
}

std::string QuantiserWriter::binary(const char* type, const std::string& a, const std::string& b,
                                    const std::string& output) {
  return add({.name = output, .op_type = type, .inputs = {a, b}, .outputs = {output}});
}

std::string QuantiserWriter::scaled_tanh(const std::string& weight) {
  const std::string curved = unary("Tanh", weight, weight + "/tanh");
  const std::string most = unary("ReduceMax", unary("Abs", curved, curved + "/size"), curved + "/most");
  return binary("Div", curved, most, weight + "/scaled");
}

// The largest weights lie on a bound, where the quantiser passes no gradient on. They would get none anyway:
// tanh(w) / max |tanh w| of the largest does not change with it.
std::string QuantiserWriter::dorefa_weight(const std::string& weight, int bits) {
  const std::string mean = unary("ReduceMean", unary("Abs", weight, weight + "/size"), weight + "/mean");
  const std::string name = fmt::format("{}/b{}", weight, bits);
  const std::string unit = bound_node(scaled_tanh(weight), name + "/unit", constant("bounds/minus_one", -1),
                                      constant("bounds/one", 1), levels_of(bits), true);
  return binary("Mul", unit, mean, name + "/quantised");
}

// floor(2^b t) is round(2^b t - 1/2), and the values of 2^b codes in the middle of their cells are those of
// as many codes between the outermost ones.
std::string QuantiserWriter::nested_weight(const std::string& weight, int bits) {
  constexpr float kUp = 0x1p-20f;
  const float most = static_cast<float>(levels_of(bits)) / static_cast<float>(levels_of(bits) + 1);
  const std::string name = fmt::format("{}/b{}", weight, bits), bound = fmt::format("bounds/nested{}", bits);
  const std::string unit =
      bound_node(scaled_tanh(weight), name + "/unit", constant(bound + "/low", -most - kUp),
                 constant(bound + "/high", most - kUp), levels_of(bits), true);
  return binary("Mul", unit, constant(bound + "/most", most), name + "/quantised");
}

std::string QuantiserWriter::dorefa_activation(const std::string& value, const std::string& name, int bits) {
  return bound_node(value, name, constant("bounds/zero", 0), constant("bounds/one", 1), levels_of(bits),
                    false);
}

std::string QuantiserWriter::stepped(const std::string& value, const std::string& name,
                                     const std::string& owner, std::int64_t low, std::int64_t high,
                                     bool weight) {
  const std::string scale = constant(owner + "/scale", 1);
  scales.push_back({scale, value, weight, low, high});
  Node node{.name = name,
            .op_type = "FakeQuantize",
            .domain = "lithe",
            .inputs = {value, scale, constant("scales/zero_point", 0)},
            .outputs = {name}};
  node.attributes["low"] = low;
  node.attributes["high"] = high;
  return add(std::move(node));
}

std::string QuantiserWriter::part(const std::string& value, std::int64_t rows, std::int64_t columns) {
  const std::string name = value + "/part";
  const auto ints = [&](const char* what, std::vector<std::int64_t> values) {
    std::string constant = fmt::format("{}/{}", name, what);
    graph_.constants[constant] = TensorData::from<std::int64_t>({2}, std::move(values));
    return constant;
  };
  return add({.name = name,
              .op_type = "Slice",
              .inputs = {value, ints("starts", {0, 0}), ints("ends", {rows, columns}), ints("axes", {0, 1})},
              .outputs = {name}});
}

void QuantiserWriter::finish() {
  graph_.header.opsets["lithe"] = 1;
  if (uses_bounds_) add_bound_function(graph_);
}

}  // namespace lithe
