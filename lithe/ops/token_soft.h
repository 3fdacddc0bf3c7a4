// Learnt token counts as differentiable functions of LibTorch tensors.
//
// Chen et al., "DiffRate: Differentiable Compression Rate for Efficient Vision Transformers", ICCV 2023:
// tokens keep their places while rates are learnt; what a rate removes is masked, and the mask passes
// gradients straight through.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

namespace lithe {

/// A learnt number of tokens: a distribution over the candidates `patches`, `patches` - g, ... > 0.
struct TokenRate {
  at::Tensor kept;  // scalar: ceil of the expected candidate, plus the special tokens; gradient of the latter
  at::Tensor
      probability;  // [specials + patches], falling: that the token of this rank is kept; special ones: 1
};

/// `theta` [candidates]: logits of the distribution. Throws Error(Input) if their number is not
/// ceil(patches / granularity).
TokenRate token_rate(const at::Tensor& theta, std::int64_t patches, std::int64_t granularity,
                     std::int64_t specials);

/// [tokens] of 1, and 0 at kept .. alive - 1; with the gradient of `probability`.
at::Tensor token_mask(const TokenRate& rate, std::int64_t kept, std::int64_t alive);

/// Softmax over the last axis of z [b, heads, n, n] in which token j takes part as far as mask [b or 1, n]
/// says, and always in its own row: (e + epsilon / n) / (sum e + epsilon) with epsilon = 1e-6, in float32.
at::Tensor masked_softmax(const at::Tensor& z, const at::Tensor& mask);

struct SoftTokens {
  at::Tensor x, size, mask;   // [b, n, c], [b, n], [b, n], sorted by importance
  at::Tensor pruned, merged;  // scalars: tokens kept by each step
};

struct SoftReduction {
  std::int64_t specials = 1, rows = 1, granularity = 1;
  bool scaled = true, weighted = false;
};

/// One step of learning: sorts by importance, masks what pruning removes, folds what merging removes into the
/// nearest important tokens and masks it. Sizes are made at least 1, as in the authors' training.
SoftTokens reduce_tokens_soft(const at::Tensor& x, const at::Tensor& attention, const at::Tensor& size,
                              const at::Tensor& mask, const at::Tensor& prune_theta,
                              const at::Tensor& merge_theta, const SoftReduction& reduction);

/// min(before, pruned, merged) whose gradient goes in full to both counts and not to `before`.
at::Tensor least_count(const at::Tensor& before, const at::Tensor& pruned, const at::Tensor& merged);

}  // namespace lithe
