// Thinning out the tokens of one sample: importance, selection, matching and merging.
//
// The arithmetic of lithe.TokenPrune and lithe.TokenReduce (lithe/graph/token_function.h): Chen et al.,
// "DiffRate: Differentiable Compression Rate for Efficient Vision Transformers", ICCV 2023. float32,
// row-major.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace lithe {

/// importance[j] = mean over all heads and the first `rows` queries of attention [heads, queries, tokens].
void token_importance(const float* attention, std::int64_t heads, std::int64_t queries, std::int64_t tokens,
                      std::int64_t rows, float* importance);

/// The first `specials` tokens, then the most important others, falling; `kept` indices in all (specials <=
/// kept <= the number of tokens). Of equally important tokens that of lower index comes first; NaN counts as
/// least.
void token_order(std::span<const float> importance, std::int64_t specials, std::int64_t kept,
                 std::int64_t* order);

struct TokenReduction {
  std::int64_t tokens = 0, channels = 0;  // of x
  std::int64_t prune = 0, merge = 0;      // tokens after each step: specials < merge <= prune <= tokens
  std::int64_t specials = 1;              // never merged
  bool scaled = true;                     // sizes of merged tokens are multiplied by their cosine
  bool weighted = false;                  // means of groups are weighted by sizes
  float least = std::numeric_limits<float>::lowest();  // of sizes before they are added up
};

/// Buffers that calls share.
struct TokenWorkspace {
  std::vector<float> lengths, cosines, weights;
  std::vector<std::int64_t> targets;
};

/// x [tokens, channels] and size [tokens] in the order of `order` [prune] (see token_order) to out [merge,
/// channels] and out_size [merge]. `assignment` [tokens], if asked for, tells where each token went, -1 where
/// it was dropped. Outputs must not overlap inputs.
void reduce_tokens(const float* x, const float* size, const std::int64_t* order,
                   const TokenReduction& reduction, float* out, float* out_size, std::int64_t* assignment,
                   TokenWorkspace& workspace);
void reduce_tokens_reference(const float* x, const float* size, const std::int64_t* order,
                             const TokenReduction& reduction, float* out, float* out_size,
                             std::int64_t* assignment);

}  // namespace lithe
