// How much memory the values of a network take on given data.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lithe/data/dataset.h"
#include "lithe/graph/graph.h"

namespace lithe {

/// Bytes of float32 for one sample.
struct ValueSizes {
  std::int64_t widest = 0;  // of the largest value
  std::int64_t kept = 0;    // of the named values together
};

/// The sizes on the largest sample of the data, which is found by looking at all of them (at the first only,
/// where the graph fixes the shape of its inputs). Nothing where shapes cannot be inferred.
std::optional<ValueSizes> value_sizes(const Graph& graph, const DatasetPtr& data,
                                      const std::vector<std::string>& kept, int threads);

/// How many samples run at once within `memory` bytes, at most `wanted` and at least 1: about four values of
/// the largest size are there at a time, and those that are kept.
std::int64_t samples_within(std::int64_t memory, const ValueSizes& sizes, std::int64_t wanted);

}  // namespace lithe
