// What a grounding network is trained to minimise.
//
// Wu et al., "EDA", CVPR 2023, sections 3.2 to 3.4, with the mask terms of Lin et al., "A Unified Framework
// for 3D Point Cloud Visual Grounding" (3DRefTR), 2023.
#pragma once

#include <ATen/ATen.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "lithe/grounding/roles.h"

namespace lithe {

/// What one layer predicts for its queries.
struct QueryPrediction {
  at::Tensor boxes;       // [batch, queries, 6]: centre and size, which may be negative
  at::Tensor tokens;      // [batch, queries, classes]: logits of the tokens that name it; the last: none
  at::Tensor projection;  // [batch, queries, dimension], of length 1
};

struct GroundingPrediction {
  std::vector<QueryPrediction> layers;  // the proposal first, the last decoder layer last
  at::Tensor token_projection;          // [batch, tokens, dimension], of length 1
  at::Tensor seed_logits;               // [batch, seeds]: whether to make a query of each
  at::Tensor seed_positions;            // [batch, seeds, 3]
  at::Tensor mask_logits;               // [batch, queries, superpoints], of the last layer; undefined: none
};

/// The targets of all samples, one after the other.
struct GroundingTargets {
  at::Tensor sample;        // [targets] int64, rising: the sample that each belongs to
  at::Tensor boxes;         // [targets, 6]
  TokenRoles roles;         // [targets, any width]
  at::Tensor token_counts;  // [batch] int64: tokens that are no padding; the last two name nothing
  at::Tensor on_seeds;      // [targets, seeds] bool: which seeds lie on it
  at::Tensor hits;          // [targets, superpoints]: how many points of a superpoint belong to it
  at::Tensor points;        // [batch, superpoints]: how many points it has
  at::Tensor superpoints;   // [batch] int64: how many the sample has; the rest of the columns is padding
  std::int64_t targets() const { return sample.size(0); }
};

/// Factors of the terms; a term with factor 0 is not computed.
struct CriterionOptions {
  double box = 5, giou = 1, tokens = 0.5, alignment = 0.5;  // of each layer, divided by their number
  double seeds = 8, mask = 10, dice = 2;
  double unmatched = 0.1;     // weight of queries that no target falls to
  double temperature = 0.07;  // of the alignment
  std::int64_t seeds_per_target = 4;
  // Of the cost that pairs queries with targets:
  double cost_tokens = 1, cost_giou = 2;
  double cost_mask = 10;   // times the share of points that differ; of the last layer
  bool main_only = false;  // no other role than the object's own words counts
};

struct GroundingLoss {
  at::Tensor total;
  /// Before their factors: "box", "giou", "tokens", "alignment" as means over the layers, "seeds", "mask",
  /// "dice"; only terms that count.
  std::map<std::string, double> terms;
};

/// A query of the batch for a target: both are indices into [batch x queries] and [targets].
struct QueryMatch {
  at::Tensor sample, query, target;  // [pairs] int64
};

/// Which queries of `layer` answer for the targets, by the optimal assignment in every sample. `masks`: the
/// logits that take part in the cost, or undefined. Throws Error(Input) if a prediction is not finite.
QueryMatch match_queries(const QueryPrediction& layer, const at::Tensor& masks,
                         const GroundingTargets& targets, const CriterionOptions& options);

/// Throws Error(Input) if the tensors do not fit together or a prediction is not finite.
GroundingLoss grounding_loss(const GroundingPrediction& prediction, const GroundingTargets& targets,
                             const CriterionOptions& options = {});

// The terms, each over its natural sum and divided by `pairs` where it is one of matched queries.

/// Sum of |centre difference| + 0.2 |size difference|, and of 1 - GIoU, of boxes [pairs, 6].
std::pair<at::Tensor, at::Tensor> box_losses(const at::Tensor& boxes, const at::Tensor& wanted);
/// Divergence of the tokens' distribution from 0.6 main + 0.2 modify + 0.2 pronoun + 0.1 relation, for
/// unmatched queries from the last class; a sum over queries.
at::Tensor token_loss(const at::Tensor& logits, const QueryMatch& match, const TokenRoles& roles,
                      double unmatched);
/// Contrast of queries with tokens in both directions; a sum over queries and tokens. The last two tokens are
/// what unmatched queries mean. Tokens of other objects count twice as negatives.
at::Tensor alignment_loss(const at::Tensor& queries, const at::Tensor& tokens, const QueryMatch& match,
                          const TokenRoles& roles, const at::Tensor& token_counts,
                          const CriterionOptions& options);
/// Focal loss (alpha 0.25, gamma 2; Lin et al., ICCV 2017) of each logit.
at::Tensor focal_loss(const at::Tensor& logits, const at::Tensor& wanted);
/// Focal loss, a mean over each row's own superpoints, and dice loss of [pairs, superpoints], of which the
/// first `counts` [pairs] of a row are there; both as sums over the pairs.
std::pair<at::Tensor, at::Tensor> mask_losses(const at::Tensor& logits, const at::Tensor& wanted,
                                              const at::Tensor& counts);
/// Focal loss of the seeds, a mean: those on a target that are nearest to its centre, by its size, are
/// positive, `per_target` of them.
at::Tensor seed_loss(const at::Tensor& logits, const at::Tensor& positions, const GroundingTargets& targets,
                     std::int64_t per_target);

}  // namespace lithe
