// The rewrite: a transformer whose blocks hand on fewer tokens.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lithe/graph/graph.h"
#include "lithe/tokens/find_attention.h"
#include "lithe/tokens/schedule.h"

namespace lithe {

/// How sizes grow and weigh when tokens are merged.
enum class TokenSizes {
  Faithful,    // as the authors run their models: cosine times size, plain means
  Consistent,  // as they train: the same, and no size below 1
  Weighted,    // as in ToMe: sizes add up, and weigh the means
};

/// What happens behind the attention of one block.
struct TokenStep {
  enum class Kind { None, Reduce, Tome, Evit };
  Kind kind = Kind::None;
  std::int64_t prune = 0, merge = 0;  // Reduce: tokens after each step, in fact (see `effective`)
  std::int64_t removed = 0;           // Tome: pairs that are merged
  std::int64_t kept = 0;              // Evit: tokens that stay, special ones counted, beside the fused one
};

/// Tokens behind a step that gets `tokens`.
std::int64_t tokens_after(const TokenStep& step, std::int64_t tokens);

struct CompressOptions {
  TokenSizes sizes = TokenSizes::Faithful;
  bool class_rows =
      false;  // the last block computes the rows of special tokens alone; needs TokenTail::Specials
  /// In (0, 1): every image keeps only its most important patches that hold this share of the importance, and
  /// the steps' counts are the most it may keep (Kind::Reduce alone; see kTokenReduceOwn). 0: images keep
  /// exactly these counts.
  double own_mass = 0;
  bool trace = false;  // keep where tokens went, for the engine: see Compressed::assignments
};

struct Compressed {
  Graph graph;
  std::vector<std::int64_t> tokens;  // behind each block; with own_mass at most
  /// For each block with a step Reduce that removes tokens, the value that tells where its tokens went (int64
  /// [b, tokens before], -1: dropped); "" elsewhere. Only with `trace`; stock runtimes do not know them.
  std::vector<std::string> assignments;
  std::vector<std::string> reduced;  // the tokens that each block hands on (behind its step)
};

/// The steps of a schedule.
std::vector<TokenStep> reduce_steps(const TokenSchedule& schedule, std::int64_t tokens);

/// Rewrites `prepared` (see prepare_tokens): Reshapes take sizes over from their inputs, so that the number
/// of tokens stands in no constant; behind the sum that attention joins comes the operator of the block's
/// step; attention in blocks behind the first merge counts a token as often as its size says, by adding its
/// logarithm to the scores; a mean over the tokens is weighted by sizes. With steps that keep everything the
/// graph computes what it did. Throws Error(Input) naming the node whose shape cannot be carried over.
Compressed compress_tokens(const Graph& prepared, const TokenModel& model,
                           const std::vector<TokenStep>& steps, const CompressOptions& options = {});

/// Makes the Reshapes of `graph` that depend on the tokens of `model` take over sizes; `tokens` gives their
/// number by segment (behind block l), as `TokenSegments` numbers them. Where it is not
/// `fixed`, it stands in none of them: throws Error(Input) naming a Reshape that cannot do without.
void free_token_count(Graph& graph, const TokenModel& model, const std::vector<std::int64_t>& tokens,
                      bool class_rows, bool fixed = true);

}  // namespace lithe
