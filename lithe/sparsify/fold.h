// From the graph that learnt to an ordinary one: one kernel a layer, literal zeros, standard operators.
#pragma once

#include "lithe/sparsify/masked_graph.h"

namespace lithe {

/// `learnt` is `masked.graph` with other constants. For a layer with a branch
///   K[o] = a1 (W B)[o] + a2 (V B S)[o],  b[o] = beta1 - a1 mean1 + beta2 - a2 mean2 (+ a1 bias),
/// a = gamma / sqrt(var + eps), with the stored S and the mask B of the final W; norms that were inserted are
/// folded alike; other layers get W B and keep their norms. Computed in double and rounded once; pruned
/// weights are +0. A branch whose S is empty adds only its shift. The result holds no `lithe` node, and the
/// pattern of every layer stands in its metadata (lithe/graph/sparsity_record.h).
Graph fold_masks(const MaskedGraph& masked, const Graph& learnt);

}  // namespace lithe
