// Means over the processes that train one model.
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "lithe/metrics/evaluate.h"
#include "lithe/ops/collective.h"
#include "lithe/train/optimiser.h"

namespace lithe {

/// Replaces the gradients by their means over the processes; one that is undefined counts as 0 and stays
/// undefined.
void average_gradients(Collective& processes, const std::vector<Parameter>& parameters);

/// The numbers, added up over the processes.
std::vector<double> sum_numbers(Collective& processes, const std::vector<double>& numbers, at::Device device);

/// Replaces loss, top-1 and PSNR of a process's share of the samples by those of all.
void average_scores(Collective& processes, Evaluation& result, at::Device device);

}  // namespace lithe
