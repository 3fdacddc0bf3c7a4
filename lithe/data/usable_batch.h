// How many samples a model really takes at a time.
#pragma once

#include <cstdint>

#include "lithe/data/dataset.h"

namespace lithe {

/// `wanted`, or 1 if the model runs single samples but not several at once although it declares its batch
/// free (exporters sometimes bake the batch of the example into a constant). Whoever needs several at once,
/// as training does, refuses the model then. Throws Error(Input) if it runs neither, or that names the one
/// number of samples that it does run, where that is not `wanted`.
std::int64_t usable_batch(const Graph& graph, const DatasetPtr& dataset, std::int64_t wanted);

/// What to tell of a model for which `usable_batch` gave 1.
inline constexpr const char* kSingleSamplesOnly =
    "the model runs single samples only, although it declares its batch free";

}  // namespace lithe
