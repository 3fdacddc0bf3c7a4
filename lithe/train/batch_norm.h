// Running statistics of batch norms under weights as they are now.
#pragma once

#include <cstdint>

#include "lithe/data/dataset.h"
#include "lithe/engine/executor.h"
#include "lithe/ops/collective.h"

namespace lithe {

struct ReestimateOptions {
  std::int64_t batches = 40;
  std::int64_t batch = 128;
  int threads = 2;         // that decode
  std::uint64_t seed = 0;  // of the order of the samples
  Collective* collective = nullptr;
};

/// Replaces running means and variances of all batch norms by the plain average over batches of the data:
/// batch norms run as in training, everything else (dropout) as in evaluation, parameters stay as they are.
/// Fewer batches are used if the data hold no more. Does nothing if the graph has no batch norm. Leaves the
/// executor in the mode it was in.
void reestimate_batch_norm(Executor& executor, const DatasetPtr& data, const ReestimateOptions& options = {});

}  // namespace lithe
