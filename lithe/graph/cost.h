// What a graph costs: parameters, multiply-accumulates, memory for activations.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lithe/graph/graph.h"

namespace lithe {

struct Cost {
  /// Elements of weights, biases, norm scales and embeddings, shared ones once. Not counted: scalars, running
  /// statistics of batch norms, quantiser scales and zero points, sizes.
  std::int64_t parameters = 0;
  /// Multiply-accumulates of convolutions, matrix products (attention included), Einsum and recurrent layers.
  std::int64_t macs = 0;
  std::vector<std::int64_t> node_macs;  // by node
  /// Bytes of inputs and computed values: the most that live at once when each is freed after its last
  /// reader, and the sum. Reshapes share their input's memory; constants do not count.
  std::int64_t activation_peak_bytes = 0;
  std::int64_t activation_sum_bytes = 0;
  /// Values whose sizes are not known; what depends on them is not counted.
  std::vector<std::string> unknown_values;
};

/// Types and concrete shapes must have been inferred (`infer_shapes`). Calls of functions count as their
/// bodies.
Cost measure_cost(const Graph& graph);

std::int64_t count_parameters(const Graph& graph);
/// Those that the given nodes read.
std::int64_t count_parameters(const Graph& graph, const std::vector<int>& nodes);

}  // namespace lithe
