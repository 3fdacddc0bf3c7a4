// What `quantize` and `plan_quantization` do where `QuantizeOptions::dfsq` is given.
#pragma once

#include "lithe/quantize/quantize.h"

namespace lithe {

/// Throws as `quantize` does, and Error(Input) if options are given that have no meaning for DFSQ (a budget,
/// profile int8, placement deploy, corrected biases, a target other than ONNX Runtime).
Quantized quantize_dfsq(const Graph& model, const DatasetPtr& calibration, const QuantizeOptions& options,
                        Progress& progress);
QuantizationPlan plan_dfsq(const Graph& model, const QuantizeOptions& options);

/// The uniform quantisation of the same layers to the same bits with ranges by `method`: what DFSQ is
/// compared with. Other layers stay in float.
QuantizeOptions uniform_counterpart(const QuantizeOptions& options, const std::vector<LayerResult>& layers,
                                    QuantizeMethod method);

}  // namespace lithe
