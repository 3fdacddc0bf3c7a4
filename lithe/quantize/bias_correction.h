// Undoing the shift that rounding gives to the mean of each output channel.
#pragma once

#include <cstdint>

#include "lithe/base/progress.h"
#include "lithe/data/dataset.h"
#include "lithe/quantize/export_qdq.h"

namespace lithe {

struct BiasCorrectionOptions {
  std::int64_t samples = 128;  // of the calibration data; their activations are held in memory
  std::int64_t batch = 32;
  int threads = 2;  // that decode
  at::Device device = at::kCPU;
};

/// Adds E[y_float] - E[y_quantised] of every output channel to the layer's bias, from the first layer to the
/// last, so that each is measured behind corrected ones (Nagel et al., "Data-Free Quantization Through Weight
/// Equalization and Bias Correction", ICCV 2019, section 4.2, with measured means). Changes the bias
/// constants of `graph` and the bias names in `plan.layers`; layers without a bias get one, except a MatMul
/// without an Add behind it. Returns the number of layers corrected.
int correct_biases(Graph& graph, QdqPlan& plan, const DatasetPtr& calibration,
                   const BiasCorrectionOptions& options, Progress& progress);

}  // namespace lithe
