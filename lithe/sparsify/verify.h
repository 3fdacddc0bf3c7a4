// Whether a fold did what it must: the same outputs, and weights in their patterns.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "lithe/data/dataset.h"
#include "lithe/sparsify/masked_graph.h"

namespace lithe {

/// How far the first outputs of two graphs are apart at most.
struct FoldDifference {
  double absolute = 0;          // in float32, rounding of the whole network included
  double scale = 1;             // largest magnitude of the output, at least 1
  double relative = 0;          // absolute over scale
  std::optional<double> exact;  // computed in float64: what the fold itself changes; nothing if an operator
                                // does not take float64
};

/// Over samples of the data; without data, on random inputs. Throws Error(Input) if an output is not finite.
FoldDifference fold_difference(const Graph& learnt, const Graph& folded, const DatasetPtr& data,
                               std::int64_t samples = 32);

/// Throws Error(Input) naming the tensor if a weight of the folded graph breaks the pattern of its layer.
void check_patterns(const Graph& folded, const std::vector<MaskedLayer>& layers);

}  // namespace lithe
