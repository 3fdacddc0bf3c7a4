// Layer norms made fit for one scale: what differs from channel to channel moves into the next layers.
#pragma once

#include "lithe/data/dataset.h"
#include "lithe/graph/graph.h"

namespace lithe {

struct ReparameteriseOptions {
  std::int64_t samples = 256;  // of the data, to see the ranges on
  std::int64_t batch = 32;
  int threads = 2;  // that decode
  at::Device device = at::kCPU;
};

/// For every layer norm (LayerNormalization, or its last Mul and Add) whose output only MatMul and Gemm
/// layers read: gives each channel of that output the same range by dividing and shifting the norm's own
/// scale and bias, and undoes it in weights and biases of the layers. The network computes the same; one
/// scale for the whole tensor then fits all channels (Li et al., "RepQ-ViT", ICCV 2023, section 3.2, with
/// min-max ranges). Returns how many norms were changed. Throws Error(Input) if the data are empty or do not
/// fit.
int reparameterise_norms(Graph& graph, const DatasetPtr& data, const ReparameteriseOptions& options = {});

}  // namespace lithe
