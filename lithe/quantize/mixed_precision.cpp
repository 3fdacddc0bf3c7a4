#include "lithe/quantize/mixed_precision.h"

#include <algorithm>

#include "lithe/base/error.h"

namespace lithe {
namespace {

std::int64_t bytes_of(const Graph& graph, const std::string& constant) {
  return static_cast<std::int64_t>(graph.constants.at(constant).bytes().size());
}

/// What there is to choose from.
struct Offer {
  std::vector<Layer> free;            // all layers, the fixed ones in float
  std::vector<LayerChoices> choices;  // of the weights that are chosen for, losses 0; then of the fixed ones
  std::int64_t other_bytes = 0, float_bytes = 0;
};

Offer make_offer(const Graph& graph, const std::vector<Layer>& layers, const MixedPrecisionOptions& options) {
  const auto bytes = options.bytes ? options.bytes : packed_weight_bytes;
  Offer offer{.free = layers};
  for (const auto& [name, data] : graph.constants) offer.other_bytes += bytes_of(graph, name);
  offer.float_bytes = options.float_bytes > 0 ? options.float_bytes : offer.other_bytes;
  offer.other_bytes += options.structure_bytes;
  std::vector<LayerChoices> held;
  for (const QuantizedWeight& weight : assign_weights(layers, options.sensitivity.weights.reduce_range)) {
    const std::size_t first = weight.layers.front();
    const std::int64_t count = graph.constants.at(weight.constant).count();
    const std::int64_t scales = scales_of(layers[first]);
    offer.other_bytes -= bytes_of(graph, weight.constant);
    LayerChoices one{.name = layers[first].name, .weights = count};
    if (options.fixed && std::any_of(weight.layers.begin(), weight.layers.end(),
                                     [&](std::size_t i) { return options.fixed(layers[i]); })) {
      one.choices = {{.weight_bits = weight.bits, .bytes = bytes(weight.bits, count, scales)}};
      held.push_back(std::move(one));
      for (const std::size_t i : weight.layers) offer.free[i].weight_bits = kFloatBits;
      continue;
    }
    for (const int bits : options.sensitivity.bits)
      one.choices.push_back({.weight_bits = bits, .bytes = bytes(bits, count, scales)});
    offer.choices.push_back(std::move(one));
  }
  if (offer.choices.empty())
    fail("there is no layer to choose bits for: all of them have theirs already, or stay in float");
  offer.choices.insert(offer.choices.end(), held.begin(), held.end());
  return offer;
}

BitAssignment choose(const Offer& offer, const MixedPrecisionOptions& options) {
  return choose_bits(
      offer.choices, options.budget,
      {.fixed_bytes = offer.other_bytes, .float_bytes = offer.float_bytes, .remedy = options.remedy});
}

}  // namespace

void check_budget(const Graph& graph, const std::vector<Layer>& layers,
                  const MixedPrecisionOptions& options) {
  choose(make_offer(graph, layers, options), options);
}

MixedPrecision choose_precision(const Graph& graph, std::vector<Layer>& layers, const DatasetPtr& calibration,
                                const MixedPrecisionOptions& options, Progress& progress) {
  Offer offer = make_offer(graph, layers, options);
  choose(offer, options);  // what cannot be met is not measured
  MixedPrecision result{.float_bytes = offer.float_bytes};
  result.sensitivities = measure_sensitivity(graph, offer.free, calibration, options.sensitivity, progress);
  for (std::size_t i = 0; i < result.sensitivities.size(); ++i) {
    auto& measured = result.sensitivities[i].choices.choices;
    auto& offered = offer.choices[i].choices;
    for (std::size_t c = 0; c < measured.size(); ++c) {
      offered[c].loss = measured[c].loss;
      measured[c].bytes = offered[c].bytes;
    }
  }
  result.assignment = choose(offer, options);
  for (std::size_t i = 0; i < result.sensitivities.size(); ++i)
    for (const std::size_t layer : result.sensitivities[i].layers)
      layers[layer].weight_bits = offer.choices[i].choices[result.assignment.choice[i]].weight_bits;
  return result;
}

}  // namespace lithe
