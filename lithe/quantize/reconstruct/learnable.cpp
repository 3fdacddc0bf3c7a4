#include "lithe/quantize/reconstruct/learnable.h"

#include <algorithm>

#include "lithe/base/error.h"

namespace lithe {
namespace {

constexpr int kBits8 = 8;

/// The activations that share the scale of activation `a`, itself among them.
std::vector<std::size_t> sharing(const QdqPlan& plan, std::size_t a) {
  std::vector<std::size_t> together{a};
  for (std::size_t b = 0; b < plan.activations.size(); ++b)
    if (b != a && plan.activations[a].group && plan.activations[b].group == plan.activations[a].group)
      together.push_back(b);
  return together;
}

}  // namespace

Learnables::Learnables(const Graph& graph, const QdqPlan& plan, const ReconstructOptions& options)
    : plan_(plan), options_(options) {
  for (std::size_t a = 0; a < plan.activations.size(); ++a)
    for (const ValueInfo* input : graph.required_inputs()) {
      if (plan.activations[a].value != input->name) continue;
      const auto fixed = sharing(plan, a);
      taken_scales_.insert(fixed.begin(), fixed.end());
    }
}

bool Learnables::learns_rounding(const QuantizedWeight& weight) const {
  return options_.round_eight_bits || (weight.bits < kBits8 && !weight.reduced);
}

void Learnables::require_any(std::vector<std::string>& notes) const {
  const bool roundings = std::any_of(plan_.weights.begin(), plan_.weights.end(),
                                     [&](const QuantizedWeight& weight) { return learns_rounding(weight); });
  const bool scales =
      options_.scales != ScaleLearning::Off && taken_scales_.size() < plan_.activations.size();
  if (!roundings && !scales)
    fail(
        "nothing is left to learn: 8-bit weights (7 with --reduce-range) keep their nearest codes unless "
        "--round-8bit is given, and no activation scale is learnt; use --method mse, or fewer bits");
  if (roundings) return;
  notes.push_back(
      plan_.weights.empty()
          ? "only activation scales were learnt: the weights stay in float"
          : "only activation scales were learnt: 8-bit weights (7 with --reduce-range) keep their "
            "nearest codes; --round-8bit learns them too");
}

std::vector<std::size_t> Learnables::take_weights(const Slice& slice) {
  const std::set<int> layers(slice.layers.begin(), slice.layers.end());
  std::vector<std::size_t> weights;
  for (std::size_t w = 0; w < plan_.weights.size(); ++w) {
    const QuantizedWeight& weight = plan_.weights[w];
    const bool here = std::any_of(weight.layers.begin(), weight.layers.end(), [&](std::size_t layer) {
      return layers.contains(static_cast<int>(plan_.layers[layer].node));
    });
    if (here && taken_weights_.insert(w).second && learns_rounding(weight)) weights.push_back(w);
  }
  return weights;
}

std::vector<std::vector<std::size_t>> Learnables::take_scales(const Slice& slice) {
  std::vector<std::vector<std::size_t>> scales;
  for (const std::size_t a : slice.activations) {
    if (taken_scales_.contains(a)) continue;
    scales.push_back(sharing(plan_, a));
    taken_scales_.insert(scales.back().begin(), scales.back().end());
  }
  return scales;
}

PlanSnapshot::PlanSnapshot(const QdqPlan& plan, const std::vector<std::size_t>& weights,
                           const std::vector<std::vector<std::size_t>>& scales) {
  for (const std::size_t w : weights) {
    QuantizedWeight copy = plan.weights[w];
    copy.codes = copy.codes.clone();
    copy.quantizer.scale = copy.quantizer.scale.clone();
    weights_.emplace_back(w, std::move(copy));
  }
  for (const auto& group : scales)
    for (const std::size_t a : group) scales_.emplace_back(a, plan.activations[a].quantizer.scale.clone());
}

void PlanSnapshot::restore(QdqPlan& plan) const {
  for (const auto& [w, weight] : weights_) plan.weights[w] = weight;
  for (const auto& [a, scale] : scales_) plan.activations[a].quantizer.scale = scale;
}

}  // namespace lithe
