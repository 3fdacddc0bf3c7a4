#include "lithe/quantize/mixed_precision.h"

#include <algorithm>

#include "lithe/base/error.h"

namespace lithe {
namespace {

/// Scales of a weight: one a channel, or one.
std::int64_t scales_of(const Layer& layer) {
  return layer.axis >= 0 ? layer.channels : 1;
}

std::int64_t bytes_of(const Graph& graph, const std::string& constant) {
  return static_cast<std::int64_t>(graph.constants.at(constant).bytes().size());
}

}  // namespace

MixedPrecision choose_precision(const Graph& graph, std::vector<Layer>& layers, const DatasetPtr& calibration,
                                const MixedPrecisionOptions& options, Progress& progress) {
  const auto bytes = options.bytes ? options.bytes : packed_weight_bytes;
  MixedPrecision result;
  for (const auto& [name, data] : graph.constants) result.float_bytes += bytes_of(graph, name);
  std::int64_t other_bytes = result.float_bytes;
  std::vector<Layer> free = layers;  // the fixed ones in float
  std::vector<LayerChoices> held;    // one choice each
  for (const QuantizedWeight& weight : assign_weights(layers, options.sensitivity.weights.reduce_range)) {
    const Layer& first = layers[weight.layers.front()];
    other_bytes -= bytes_of(graph, weight.constant);
    if (!options.fixed || std::none_of(weight.layers.begin(), weight.layers.end(),
                                       [&](std::size_t i) { return options.fixed(layers[i]); }))
      continue;
    const std::int64_t count = graph.constants.at(weight.constant).count();
    held.push_back(
        {.name = first.name,
         .weights = count,
         .choices = {{.weight_bits = weight.bits, .bytes = bytes(weight.bits, count, scales_of(first))}}});
    for (const std::size_t i : weight.layers) free[i].weight_bits = kFloatBits;
  }
  result.sensitivities = measure_sensitivity(graph, free, calibration, options.sensitivity, progress);
  std::vector<LayerChoices> choices;
  for (WeightSensitivity& one : result.sensitivities) {
    for (BitChoice& choice : one.choices.choices)
      choice.bytes = bytes(choice.weight_bits, one.choices.weights, scales_of(layers[one.layers.front()]));
    choices.push_back(one.choices);
  }
  choices.insert(choices.end(), held.begin(), held.end());
  result.assignment =
      choose_bits(choices, options.budget, {.fixed_bytes = other_bytes, .float_bytes = result.float_bytes});
  for (std::size_t i = 0; i < result.sensitivities.size(); ++i)
    for (const std::size_t layer : result.sensitivities[i].layers)
      layers[layer].weight_bits = choices[i].choices[result.assignment.choice[i]].weight_bits;
  return result;
}

}  // namespace lithe
