// Bits layer by layer: from measured sensitivities to a network that fits a budget.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "lithe/base/progress.h"
#include "lithe/data/dataset.h"
#include "lithe/quantize/bit_budget.h"
#include "lithe/quantize/sensitivity.h"

namespace lithe {

struct MixedPrecisionOptions {
  BitBudget budget;
  SensitivityOptions sensitivity;
  /// Layers that keep the weight bits that they have, as the first and the last may; they count in the
  /// budget.
  std::function<bool(const Layer&)> fixed;
  /// Bytes of a weight in the file; default: codes packed densely.
  std::function<std::int64_t(int bits, std::int64_t elements, std::int64_t scales)> bytes;
  std::int64_t structure_bytes = 0;  // of the file beside its constants: names, nodes, scales of activations
  std::int64_t float_bytes = 0;      // what a share is of; 0: all constants of the float model
  std::string remedy;                // see BudgetOptions
};

struct MixedPrecision {
  std::vector<WeightSensitivity> sensitivities;  // of the weights that were chosen for
  BitAssignment assignment;                      // their choices, in that order, then those of fixed weights
  std::int64_t float_bytes = 0;                  // what a share is of
};

/// Throws what `choose_precision` would throw because the budget is below the least possible, or because
/// every layer is fixed; looks at no data.
void check_budget(const Graph& graph, const std::vector<Layer>& layers, const MixedPrecisionOptions& options);

/// Measures the sensitivities and sets the weight bits of all layers that have some and are not fixed. A size
/// is that of all constants, weights as chosen and what else there is (biases, layers in float) as it is, and
/// of the structure.
/// The mean number of bits is that of all weights that are quantised, the fixed ones included. A constant
/// that a fixed layer shares is fixed.
/// Throws as `measure_sensitivity` and `choose_bits` do, or if every layer is fixed.
MixedPrecision choose_precision(const Graph& graph, std::vector<Layer>& layers, const DatasetPtr& calibration,
                                const MixedPrecisionOptions& options, Progress& progress);

}  // namespace lithe
