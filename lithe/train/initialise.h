// Weights to start training from.
#pragma once

#include <cstdint>

#include "lithe/graph/graph.h"

namespace lithe {

/// Gives every learnable constant of the graph its usual start: convolution weights are normal with variance
/// 2 / fan-in (He et al., ICCV 2015), a tenth of that deviation where a convolution without a norm ends a
/// residual branch (the scaling of Lim et al., CVPRW 2017, section 3.1); weights of matrix products normal
/// with variance 1 / fan-in, embeddings normal with deviation 0.02 (as in ViT), scales of norms 1, biases 0;
/// running means 0 and variances 1. Weights depend on the seed and their name alone.
void initialise(Graph& graph, std::uint64_t seed);

}  // namespace lithe
