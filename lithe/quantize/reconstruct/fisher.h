// How much each output of a slice matters for what the network says.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "lithe/engine/executor.h"
#include "lithe/quantize/reconstruct/slice_data.h"

namespace lithe {

/// For each of `outputs` (values of the float graph): |d KL(softmax(float logits) || softmax(logits)) / d
/// output| + 1 for every sample, where the outputs and whatever else lives at that point are those of the
/// quantised network and what follows is float; what is derived is the mean over the `step_samples` of a
/// step, however many run at a time (Li et al., "BRECQ", ICLR 2021, and their code). `values` holds what
/// lives, the outputs among them, by name in the float graph; `logits` the float network's first output.
/// Throws Error(Input) if the first output is not [N, classes].
std::map<std::string, SampleCachePtr> fisher_importance(Executor& network, const CacheMap& values,
                                                        const SampleCache& logits,
                                                        const std::vector<std::string>& outputs,
                                                        std::int64_t samples, std::int64_t run_batch,
                                                        std::int64_t step_samples, CacheArena& arena);

}  // namespace lithe
