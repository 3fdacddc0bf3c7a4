// Batch norms for convolutions that have none.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lithe/data/dataset.h"
#include "lithe/graph/graph.h"

namespace lithe {

/// Puts a batch norm that changes nothing behind each of the convolutions, named by their outputs: statistics
/// from `samples` samples of the data, scale sqrt(var + eps), shift mean, the bias taken over. Only nodes may
/// read these outputs, and biases must be constants. Returns the convolutions' outputs by their new names;
/// the old ones are those of the norms. Throws Error(Input) if the data hold no full batch.
std::vector<std::string> insert_norms(Graph& graph, const std::vector<std::string>& convolutions,
                                      const DatasetPtr& data, std::int64_t samples, std::int64_t batch);

}  // namespace lithe
