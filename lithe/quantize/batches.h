// Calibration data, batch by batch, as feeds of a graph.
#pragma once

#include <cstdint>
#include <functional>

#include "lithe/data/loader.h"
#include "lithe/data/usable_batch.h"

namespace lithe {

struct BatchOptions {
  std::int64_t batch = 32;  // if the graph leaves it free
  int threads = 2;          // that decode
  std::int64_t limit = -1;  // samples; negative: all
};

/// Calls `visit` with the feeds of each batch and the number of samples in it. Where the graph fixes its
/// batch, a rest that does not fill one is left out. Throws Error(Input) if there is no full batch.
void for_each_batch(const Graph& graph, const DatasetPtr& dataset, const BatchOptions& options,
                    const std::function<void(const Feeds&, std::int64_t samples)>& visit);

}  // namespace lithe
