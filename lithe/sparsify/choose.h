// A pattern for every layer under a budget.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <vector>

#include "lithe/base/progress.h"
#include "lithe/data/dataset.h"
#include "lithe/sparsify/layers.h"

namespace lithe {

/// What may remain of all layers together, dense ones included.
struct SparsityBudget {
  enum class Of { Weights, Macs } of = Of::Weights;
  double share = 1;  // 0..1
};

/// "size=0.3" or "macs=0.25". Throws Error(Input).
SparsityBudget parse_sparsity_budget(const std::string& text);

struct ChooseOptions {
  std::vector<SparsityPattern> candidates{{2, 4}, {1, 4}, {1, 8}, {1, 16}};
  std::int64_t samples = 512;     // to measure the loss on
  std::int64_t norm_batches = 4;  // to re-estimate batch norms on before
  std::int64_t batch = 64;
  int threads = 2;
  std::uint64_t seed = 0;
  Ragged ragged = Ragged::Skip;  // Pad: candidates need not divide the input channels
  at::Device device = at::kCPU;
};

/// What one pattern on one layer alone does to the network.
struct Sensitivity {
  std::size_t layer = 0;  // index
  SparsityPattern pattern;
  double harm = 0;  // increase of the loss; without labels, energy of the output's error over its own
};

/// Throws Error(Input), naming what can be reached, if the sparsest candidates do not meet the budget, or if
/// it is of MACs that are not known.
void check_budget(const std::vector<SparseLayer>& layers, const ChooseOptions& options,
                  const SparsityBudget& budget);

/// Masks one layer at a time by magnitude, re-estimates batch norms, and scores. Layers without a pattern and
/// those whose pattern the user gave by name are left out, and so are candidates that do not divide a layer's
/// input channels, unless `ragged` allows them. The score is the cross-entropy for labelled classification.
/// Throws Error(Input) if that of the dense model is not finite.
std::vector<Sensitivity> measure_sensitivity(const Graph& graph, const std::vector<SparseLayer>& layers,
                                             const DatasetPtr& data, const ChooseOptions& options,
                                             Progress& progress);

/// Starts with dense layers and again and again takes the step (one layer to a sparser pattern) of least harm
/// for what it saves, until the budget holds; layers that stay dense get `dense_reason`. Layers whose pattern
/// the user gave by name keep it. Steps whose harm is not finite come last. Throws Error(Input), naming what
/// can be reached, if the sparsest patterns measured do not meet the budget.
void choose_patterns(std::vector<SparseLayer>& layers, const std::vector<Sensitivity>& sensitivities,
                     const SparsityBudget& budget);

}  // namespace lithe
