// Schedules that meet a budget of multiply-accumulates, without learning.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "lithe/tokens/account.h"

namespace lithe {

enum class TokenKind { Both, Prune, Merge };
enum class TokenFall {
  Count,     // every block removes as many tokens
  Fraction,  // every block removes the same share of its tokens
};

/// Which blocks may remove tokens, and how many must stay.
struct TokenLimits {
  std::size_t first = 1;   // block
  std::size_t end = 0;     // the block behind the last one
  std::int64_t least = 3;  // tokens
};

/// Block 0 stays whole, as in the paper. The last block joins in where only special tokens are read behind
/// it.
TokenLimits token_limits(const TokenModel& model, bool class_rows, bool first_block = false);

/// ToMe merges in every block, the first and the last included, as its authors do; with class rows alone the
/// last one has nothing to merge.
TokenLimits tome_limits(const TokenModel& model, bool class_rows);

/// A schedule from the tokens that each block hands on, falling by pruning, merging, or half of each.
TokenSchedule split_counts(const std::vector<std::int64_t>& after, std::int64_t tokens, TokenKind kind);

/// The share of dense multiply-accumulates that can be reached: all counts at the least, and nothing removed.
struct TokenRange {
  double least = 0, most = 1;
};
TokenRange reachable(const TokenCost& cost, const TokenLimits& limits, TokenKind kind);
/// The same of the steps of ToMe and EViT.
TokenRange tome_range(const TokenCost& cost, const TokenLimits& limits);
TokenRange evit_range(const TokenCost& cost, const TokenLimits& limits);
/// Throws Error(Input) that prints the range if `share` of the dense cost is below it (above: nothing is to
/// be done). `advice` is what would widen it, if anything.
void check_reachable(double share, const TokenRange& range, const std::string& advice = "");

/// The schedule of a uniform fall whose cost is nearest below `budget` (multiply-accumulates).
TokenSchedule fixed_schedule(const TokenCost& cost, const TokenLimits& limits, std::int64_t budget,
                             TokenKind kind, TokenFall fall);
/// Falling counts drawn at random, brought to the budget.
TokenSchedule random_schedule(const TokenCost& cost, const TokenLimits& limits, std::int64_t budget,
                              TokenKind kind, std::uint64_t seed);
/// ToMe with as many pairs a block as the budget asks for, one more or less in some.
std::vector<TokenStep> tome_steps(const TokenCost& cost, const TokenLimits& limits, std::int64_t budget);
/// EViT: at a quarter, half and three quarters of the depth (blocks 4, 7 and 10 of 12) the same share of
/// tokens stays, which the budget decides, one token more or less in some.
std::vector<TokenStep> evit_steps(const TokenCost& cost, const TokenLimits& limits, std::int64_t budget);
/// The same for a given number of pairs, or share of tokens.
std::vector<TokenStep> tome_steps(const TokenCost& cost, const TokenLimits& limits, double removed);
std::vector<TokenStep> evit_steps_of_share(const TokenCost& cost, const TokenLimits& limits, double share);

/// The loss of the model with a schedule.
using ScheduleLoss = std::function<double(const TokenSchedule&)>;

/// Brings a schedule to the budget. As long as its cost is not within half a percent of it, the growth of the
/// loss for a multiply-accumulate less is measured in each block by taking an eighth of its patches; then
/// tokens go where that is least (or come back where it is most), no more than that eighth in any block,
/// before it is measured anew. What is left goes to `repair_schedule`. The loss is asked for
/// (blocks + 1) times a round.
TokenSchedule fit_schedule(const TokenSchedule& schedule, const TokenCost& cost, const TokenLimits& limits,
                           std::int64_t budget, const ScheduleLoss& loss);

/// Brings a schedule to the budget by single tokens: while it is above, a token is taken where `harm` (by
/// block; the loss for a multiply-accumulate less) is least; then tokens are given back where it is most, as
/// long as the budget holds. Without `harm` blocks take turns. The cost of the result is at most the budget,
/// if the limits allow, and no token more fits. `most` bounds, by block, the tokens that are taken or given.
TokenSchedule repair_schedule(const TokenSchedule& schedule, const TokenCost& cost, const TokenLimits& limits,
                              std::int64_t budget, const std::vector<double>& harm = {},
                              const std::vector<std::int64_t>& most = {});

}  // namespace lithe
