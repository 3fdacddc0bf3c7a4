#include "lithe/quantize/dfsq/subset_weights.h"

#include "lithe/ops/registry.h"

namespace lithe {

Quantizer published_weight_quantizer(const at::Tensor& weight, int bits) {
  const at::Tensor rows = weight.reshape({weight.size(0), -1});
  const at::Tensor low = rows.amin(1), high = rows.amax(1);
  const double levels = static_cast<double>((std::int64_t{1} << bits) - 1);
  at::Tensor scale = (high - low) / levels;
  // Equal weights lie one step above or below zero, or on it.
  const at::Tensor flat = scale == 0;
  scale = at::where(flat, at::where(low == 0, at::ones_like(low), low.abs()), scale);
  const at::Tensor zero_point = at::where(flat, at::full_like(low, 1), -at::round(low / scale));
  return {.scale = scale, .zero_point = zero_point, .codes = asymmetric_codes(bits), .axis = 0};
}

std::vector<QuantizedWeight> published_weights(const Graph& graph, const std::vector<Layer>& layers) {
  std::vector<QuantizedWeight> weights = assign_weights(layers, ReduceRange::Off);
  for (QuantizedWeight& weight : weights) {
    const Layer& layer = layers[weight.layers.front()];
    const at::Tensor values = to_tensor(graph.constants.at(weight.constant));
    const bool rows_first = layer.axis <= 0;
    const at::Tensor moved = rows_first ? values : values.movedim(layer.axis, 0).contiguous();
    weight.quantizer = published_weight_quantizer(moved, weight.bits);
    weight.quantizer.axis = layer.axis < 0 ? 0 : layer.axis;
    weight.codes = encode(weight.quantizer, values);
  }
  return weights;
}

}  // namespace lithe
