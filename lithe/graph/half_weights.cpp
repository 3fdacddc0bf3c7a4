#include "lithe/graph/half_weights.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace lithe {
namespace {

/// The float16 nearest to `value`, ties to even; finite values stay finite.
std::uint16_t to_half(float value) {
  const auto sign = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16 & 0x8000u);
  if (std::isnan(value)) return static_cast<std::uint16_t>(sign | 0x7e00u);
  if (std::isinf(value)) return static_cast<std::uint16_t>(sign | 0x7c00u);
  const float magnitude = std::min(std::abs(value), 65504.0f);
  constexpr float kLeastNormal = 0x1p-14f;
  if (magnitude < kLeastNormal)  // steps of 2^-24
    return static_cast<std::uint16_t>(sign | static_cast<std::uint16_t>(std::lrint(magnitude * 0x1p24f)));
  const auto bits = std::bit_cast<std::uint32_t>(magnitude);
  const std::uint32_t rounded = bits + 0xfffu + (bits >> 13 & 1u);
  return static_cast<std::uint16_t>(sign | (((rounded >> 13) - (112u << 10)) & 0x7fffu));
}

TensorData halved(const TensorData& data) {
  std::vector<std::uint16_t> halves;
  for (const float value : data.values<float>()) halves.push_back(to_half(value));
  auto owner = std::make_shared<const std::vector<std::uint16_t>>(std::move(halves));
  const auto bytes = std::as_bytes(std::span<const std::uint16_t>(*owner));
  return TensorData(DType::Float16, data.shape(), bytes, std::move(owner));
}

}  // namespace

void halve_weights(Graph& graph, std::int64_t least) {
  std::set<std::string> inputs;
  for (const ValueInfo& input : graph.inputs) inputs.insert(input.name);
  std::vector<std::string> names;
  for (const auto& [name, data] : graph.constants)
    if (data.dtype() == DType::Float32 && data.count() >= least && !inputs.contains(name))
      names.push_back(name);
  std::vector<Node> casts;
  for (const std::string& name : names) {
    const std::string half = graph.add_constant(name + ".half", halved(graph.constants.at(name)));
    graph.constants.erase(name);
    Node cast{.name = name + ".widen", .op_type = "Cast", .inputs = {half}, .outputs = {name}};
    cast.attributes["to"] = static_cast<std::int64_t>(DType::Float32);
    casts.push_back(std::move(cast));
  }
  graph.nodes.insert(graph.nodes.begin(), std::make_move_iterator(casts.begin()),
                     std::make_move_iterator(casts.end()));
}

void widen_weights(Graph& graph) {
  std::erase_if(graph.nodes, [&](const Node& node) {
    const TensorData* data = node.is("Cast") ? graph.constant(node.input(0)) : nullptr;
    if (!data || data->dtype() != DType::Float16 ||
        node.attr("to", std::int64_t{0}) != static_cast<std::int64_t>(DType::Float32))
      return false;
    const bool output = std::any_of(graph.outputs.begin(), graph.outputs.end(),
                                    [&](const ValueInfo& one) { return one.name == node.output(0); });
    if (output) return false;
    graph.constants[node.output(0)] = TensorData::from<float>(data->shape(), data->to_floats());
    return true;
  });
  graph.remove_dead();
}

}  // namespace lithe
