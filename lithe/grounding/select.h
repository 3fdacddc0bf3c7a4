// Which query is the answer, and which points are its mask.
#pragma once

#include <ATen/ATen.h>

#include "lithe/grounding/roles.h"

namespace lithe {

/// How well each query fits what the sentence says: the sum over its tokens of a share of 1 times (1 where
/// the token names the object, plus modify, pronoun and relation, minus other). Roles have one row a sample.
/// [batch, queries].

/// Shares are the softmax of token logits [batch, queries, classes].
at::Tensor position_scores(const at::Tensor& token_logits, const TokenRoles& roles);
/// Shares are the softmax of the products of projections [batch, queries, d] and [batch, tokens, d] over the
/// temperature; published numbers are of these.
at::Tensor semantic_scores(const at::Tensor& queries, const at::Tensor& tokens, const TokenRoles& roles,
                           double temperature = 0.07);

/// The mask of each query on points: a point has the logit of its superpoint, and belongs to the mask if that
/// is positive. mask_logits [..., superpoints], ids [points] int64; [..., points] bool. Throws Error(Input)
/// if an id is out of range.
at::Tensor point_masks(const at::Tensor& mask_logits, const at::Tensor& ids);

}  // namespace lithe
