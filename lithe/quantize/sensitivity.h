// What each layer's weights lose at each number of bits.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lithe/base/progress.h"
#include "lithe/data/dataset.h"
#include "lithe/quantize/bit_budget.h"
#include "lithe/quantize/weights.h"

namespace lithe {

enum class SensitivityMetric {
  Automatic,   // Divergence for float outputs [N, C] with C > 1, else Error
  Divergence,  // KL(softmax of the float output || softmax of the quantised one), mean over samples
  Error,       // sum (y - y')^2 / sum y^2
};

struct SensitivityOptions {
  std::vector<int> bits{2, 3, 4, 5, 6, 7, 8};
  WeightOptions weights;  // how weights are quantised
  SensitivityMetric metric = SensitivityMetric::Automatic;
  std::int64_t samples = 128;  // the first ones of the data
  std::int64_t batch = 32;     // where the model leaves it free; float values of one batch are held in memory
  int threads = 2;             // that decode
  at::Device device = at::kCPU;
};

/// Of one constant, which several layers may share.
struct WeightSensitivity {
  std::string constant;
  std::vector<std::size_t> layers;  // indices into those given
  LayerChoices choices;  // named after the first layer; bytes of densely packed codes, scales and zero-points
};

/// Measures, for the weight of every layer that has weight bits and for each candidate, the loss of the
/// network's outputs when this weight alone is quantised and all else is float (mean over the float outputs
/// that depend on it). Float values are computed once a batch, and only what lies behind the layer runs
/// again. The sum of such losses stands for the loss of all together, which is what the choice of bits
/// assumes. Candidates beyond 8 bits, or below 2, are refused.
/// Throws Error(Input) if the data are empty or do not fit, or if an output is NaN or infinite.
std::vector<WeightSensitivity> measure_sensitivity(const Graph& graph, const std::vector<Layer>& layers,
                                                   const DatasetPtr& calibration,
                                                   const SensitivityOptions& options, Progress& progress);

/// Bytes of densely packed codes with float scales and one-byte zero-points.
std::int64_t packed_weight_bytes(int bits, std::int64_t elements, std::int64_t scales);

}  // namespace lithe
