// What a transformer costs with fewer tokens.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "lithe/tokens/compress.h"

namespace lithe {

/// Multiply-accumulates of one sample: a fixed part, and for each block a polynomial in the tokens behind its
/// step, which its MLP, the attention of the next block and (behind the last one) the head work on.
struct TokenCost {
  double fixed = 0;
  std::vector<std::array<double, 3>> behind;  // factors of 1, n and n^2
  std::int64_t dense = 0;                     // of the model as it is
  std::int64_t tokens = 0, specials = 0, width = 0, head_width = 0;

  /// Of the network alone, as the paper counts: `after` has the tokens behind each block.
  double network(const std::vector<std::int64_t>& after) const;
  /// With what the operators of the steps add, as `measure_cost` counts the rewritten graph.
  std::int64_t total(const std::vector<TokenStep>& steps) const;
  std::int64_t total(const TokenSchedule& schedule) const;
};

/// What a step adds when it gets `tokens`: similarities and sums, as matrix products of its function.
std::int64_t step_macs(const TokenStep& step, std::int64_t tokens, const TokenCost& cost);

/// Found by measuring the graph at three numbers of tokens, so that it holds for whatever stands between the
/// blocks.
TokenCost token_cost(const Graph& prepared, const TokenModel& model, bool class_rows = false);

/// The count that DiffRate's authors publish, for a ViT with an MLP of four times the width and a patch
/// embedding that is charged for the class token too: `prune` and `merge` count the class token.
struct PublishedVit {
  std::int64_t width = 384, tokens = 197, patch = 16, classes = 1000;
};
std::int64_t published_macs(const PublishedVit& vit, const TokenSchedule& schedule);

}  // namespace lithe
