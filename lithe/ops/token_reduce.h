// Thinning out tokens as a differentiable function of LibTorch tensors.
#pragma once

#include <ATen/ATen.h>

#include "lithe/kernels/token_reduce.h"

namespace lithe {

struct ReducedTokens {
  at::Tensor x;           // [b, merge, c]
  at::Tensor size;        // [b, merge]
  at::Tensor assignment;  // int64 [b, n]: the token that each one went into, -1 where it was dropped
};

/// x [b, n, c], attention [b, heads, queries, n] and size [b or 1, n] by kernels/token_reduce.h, sample by
/// sample on LibTorch's threads. `reduction.tokens` and `channels` are taken from x. float32 on the CPU
/// without gradients; else `reduce_tokens_composed`. Throws Error(Input) naming `what` if shapes or counts do
/// not fit.
ReducedTokens reduce_tokens(const at::Tensor& x, const at::Tensor& attention, const at::Tensor& size,
                            TokenReduction reduction, std::int64_t rows, bool want_assignment,
                            const std::string& what);

/// The same with counts of every sample's own: at most `reduction.prune` and `reduction.merge` tokens, and no
/// more than hold the share `mass` of the importance (TokenReduceOwn in lithe/graph/token_function.h). Tokens
/// of size 0 stand behind all others and are not there; each sample comes to what it would alone. The
/// assignment of what is not there is -1.
ReducedTokens reduce_own_tokens(const at::Tensor& x, const at::Tensor& attention, const at::Tensor& size,
                                const TokenReduction& reduction, std::int64_t rows, double mass,
                                bool want_assignment, const std::string& what);

/// `reduce_tokens` from plain LibTorch operators, with gradients to x through the values of the tokens; which
/// tokens are kept and where they go is not differentiated, nor are sizes.
ReducedTokens reduce_tokens_composed(const at::Tensor& x, const at::Tensor& attention, const at::Tensor& size,
                                     const TokenReduction& reduction, std::int64_t rows);

/// Indices [b, count] of tokens by falling `importance` [b, n], the first `specials` in front; equal ones in
/// ascending order.
at::Tensor sorted_tokens(const at::Tensor& importance, std::int64_t specials, std::int64_t count);

/// Mean [b, n] of attention [b, heads, queries, n] over heads and the first `rows` queries.
at::Tensor mean_importance(const at::Tensor& attention, std::int64_t rows);

/// Rows `index` [b, k] of x [b, n, c] or [b, n].
at::Tensor gather_tokens(const at::Tensor& x, const at::Tensor& index);

/// Means [b, k, c] of `targets` and of the `sources` [b, u, c] that go to each by `index` [b, u], by their
/// weights [b, k] and [b, u].
at::Tensor group_means(const at::Tensor& targets, const at::Tensor& sources, const at::Tensor& index,
                       const at::Tensor& target_weights, const at::Tensor& source_weights);

/// For each of `sources` [b, u, c] the nearest of `targets` [b, k, c] by cosine, the first `specials` left
/// out: its index [b, u] and the cosine.
std::pair<at::Tensor, at::Tensor> nearest_tokens(const at::Tensor& sources, const at::Tensor& targets,
                                                 std::int64_t specials);

}  // namespace lithe
