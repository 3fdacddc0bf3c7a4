#include "lithe/quantize/weights.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "lithe/base/error.h"
#include "lithe/ops/registry.h"

namespace lithe {
namespace {

bool is_reduced(const Layer& layer, ReduceRange reduce) {
  return reduce == ReduceRange::All || (reduce == ReduceRange::FirstLast && (layer.first || layer.last));
}

}  // namespace

std::vector<QuantizedWeight> assign_weights(const std::vector<Layer>& layers, ReduceRange reduce_range) {
  std::vector<QuantizedWeight> weights;
  std::map<std::pair<std::string, std::int64_t>, std::size_t> known;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (layers[i].weight_bits == kFloatBits) continue;
    const auto [place, fresh] = known.emplace(std::pair{layers[i].weight, layers[i].axis}, weights.size());
    if (fresh) weights.push_back({.constant = layers[i].weight, .bits = 0});
    QuantizedWeight& weight = weights[place->second];
    weight.layers.push_back(i);
    weight.bits = std::max(weight.bits, layers[i].weight_bits);
  }
  for (QuantizedWeight& weight : weights) {
    weight.reduced =
        weight.bits >= 7 && std::any_of(weight.layers.begin(), weight.layers.end(),
                                        [&](std::size_t i) { return is_reduced(layers[i], reduce_range); });
    if (weight.reduced) weight.bits = 7;
  }
  return weights;
}

std::vector<QuantizedWeight> quantize_weights(const Graph& graph, const std::vector<Layer>& layers,
                                              const WeightOptions& options) {
  std::vector<QuantizedWeight> weights = assign_weights(layers, options.reduce_range);
  for (QuantizedWeight& weight : weights) {
    const bool symmetric = options.scheme == Scheme::Symmetric || weight.bits == 8 || weight.reduced;
    const Scheme scheme = symmetric ? Scheme::Symmetric : Scheme::Asymmetric;
    const CodeRange codes = symmetric ? symmetric_codes(weight.bits) : asymmetric_codes(weight.bits);
    const at::Tensor values = to_tensor(graph.constants.at(weight.constant));
    const std::int64_t axis = layers[weight.layers.front()].axis;
    const Range range = options.method == RangeMethod::Mse
                            ? search_mse_range(values, axis, scheme, codes, options.search)
                            : min_max_range(values, axis);
    weight.quantizer = quantizer_for_range(range, scheme, codes, axis);
    weight.quantizer.scale = at::where((range.low == 0).logical_and(range.high == 0),
                                       at::ones_like(weight.quantizer.scale), weight.quantizer.scale);
    weight.codes = encode(weight.quantizer, values);
  }
  return weights;
}

at::Tensor quantize_bias(const at::Tensor& bias, double input_scale, const at::Tensor& weight_scale) {
  const at::Tensor scale = weight_scale.to(at::kDouble) * input_scale;
  const at::Tensor codes = at::round(bias.to(at::kDouble) / scale);
  if (codes.numel() > 0 && !(codes.abs().max().item<double>() < 2147483647.0))
    fail("a bias of {} does not fit into int32 at scale {}", bias.abs().max().item<double>(),
         scale.min().item<double>());
  return codes.to(at::kInt);
}

int raise_scales(QuantizedWeight& weight, const at::Tensor& values, const at::Tensor& bias,
                 double input_scale) {
  at::Tensor least = bias.abs().to(at::kDouble) / (input_scale * std::ldexp(1.0, 30));
  if (weight.quantizer.scale.dim() == 0) least = least.max();
  const at::Tensor floor = least.to(at::kFloat), low = weight.quantizer.scale < floor;
  const int changed = static_cast<int>(low.sum().item<std::int64_t>());
  if (changed == 0) return 0;
  weight.quantizer.scale = at::where(low, floor, weight.quantizer.scale);
  // Other channels keep their codes, which may have been learnt.
  weight.codes = at::where(along_axis(low, weight.quantizer.axis, values.dim()),
                           encode(weight.quantizer, values), weight.codes);
  return changed;
}

}  // namespace lithe
