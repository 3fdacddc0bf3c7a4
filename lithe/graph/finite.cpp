#include "lithe/graph/finite.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>

#include "lithe/base/error.h"
#include "lithe/graph/weights.h"

namespace lithe {
namespace {

/// The first element that `bad` holds of; -1 if there is none or the data are no floats.
template <typename Bad>
std::ptrdiff_t first_element(const TensorData& data, Bad bad) {
  const auto look = [&](const auto& values) {
    const auto found = std::find_if(values.begin(), values.end(), bad);
    return found == values.end() ? -1 : found - values.begin();
  };
  if (!is_float(data.dtype())) return -1;
  return data.dtype() == DType::Float32 ? look(data.values<float>()) : look(data.to_floats());
}

void look_for_nan(const std::string& name, const TensorData& data, std::vector<std::string>& lines) {
  const std::ptrdiff_t at = first_element(data, [](float value) { return std::isnan(value); });
  if (at >= 0) lines.push_back(fmt::format("the constant '{}' holds NaN at element {}", name, at));
}

void look_for_nan(const Graph& graph, std::vector<std::string>& lines) {
  for (const auto& [name, data] : graph.constants) look_for_nan(name, data, lines);
  for (const Node& node : graph.nodes)
    for (const auto& [name, attribute] : node.attributes) {
      if (const auto* data = std::get_if<TensorData>(&attribute); data && node.is("Constant"))
        look_for_nan(node.output(0), *data, lines);
      if (const auto* inner = std::get_if<GraphPtr>(&attribute)) look_for_nan(**inner, lines);
      if (const auto* inner = std::get_if<std::vector<GraphPtr>>(&attribute))
        for (const GraphPtr& one : *inner) look_for_nan(*one, lines);
    }
}

void look_for_infinity(const Graph& graph, std::vector<std::string>& lines) {
  const GraphIndex index(graph);
  std::set<std::string> seen;  // shared weights once
  for (const Node& node : graph.nodes) {
    const auto weight = find_weight(graph, index, node);
    const TensorData* data = weight ? graph.constant(weight->constant) : nullptr;
    if (!data || !seen.insert(weight->constant).second) continue;
    const std::ptrdiff_t at = first_element(*data, [](float value) { return std::isinf(value); });
    if (at >= 0)
      lines.push_back(fmt::format("{}: its weight '{}' holds infinity at element {}", describe(node),
                                  weight->constant, at));
  }
}

}  // namespace

std::vector<std::string> unusable_constants(const Graph& graph) {
  std::vector<std::string> lines;
  look_for_nan(graph, lines);
  look_for_infinity(graph, lines);
  return lines;
}

void require_usable_constants(const Graph& graph) {
  if (const auto lines = unusable_constants(graph); !lines.empty())
    fail("{}; train or export the model again", lines.front());
}

}  // namespace lithe
