// What skipping layers of a noise predictor saves.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "lithe/diffusion/skippable_layers.h"
#include "lithe/graph/graph.h"

namespace lithe {

/// Multiply-accumulates of one call of the network on one image.
struct LayerMacs {
  std::int64_t full = 0;            // without skips
  std::vector<std::int64_t> saved;  // by skipping one layer alone: what remains of it (its 1x1) still counts
  /// Computations that serve several layers, such as the time embedding, go only if all of these are skipped.
  std::vector<std::pair<std::vector<int>, std::int64_t>> shared;

  /// Of the network that skips these layers (ascending).
  std::int64_t without(const std::vector<int>& skipped) const;
};
LayerMacs measure_layer_macs(const Graph& graph, const std::vector<SkippableLayer>& layers,
                             const InputShapes& shapes = {});

struct LayerTimeOptions {
  std::int64_t batch = 32;
  int threads = 1;
  int repeats = 9;  // runs whose median counts
};

/// Milliseconds of one call on a batch, measured.
struct LayerTimes {
  double full = 0;            // without skips
  std::vector<double> saved;  // by skipping one layer alone; within the noise of the clock it may be negative
};

/// Runs the network and, in turn with it, the network without each of the layers. Sets the number of threads
/// of the process.
LayerTimes measure_layer_times(const Graph& graph, const std::vector<SkippableLayer>& layers,
                               const LayerTimeOptions& options = {});

}  // namespace lithe
