// How many tokens each block of a transformer keeps.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace lithe {

/// What reduces tokens: TokenReduce and TokenPrune, or the operators of ToMe and EViT.
enum class TokenOperators { Reduce, Tome, Evit };

/// In a count of a schedule: nothing is removed there, however many tokens come.
inline constexpr std::int64_t kEveryToken = std::numeric_limits<std::int64_t>::max();

/// Tokens after pruning and after merging in each block, special tokens counted.
struct TokenSchedule {
  std::vector<std::int64_t> prune, merge;
  TokenOperators operators = TokenOperators::Reduce;

  std::size_t blocks() const { return prune.size(); }
  bool operator==(const TokenSchedule&) const = default;
};

/// Everything kept.
TokenSchedule dense_schedule(std::size_t blocks, std::int64_t tokens);

/// What remains in fact: running minima, so that merge[l] <= prune[l] <= merge[l - 1] <= tokens.
TokenSchedule effective(const TokenSchedule& schedule, std::int64_t tokens);

/// Throws Error(Input) if the lists do not have one number for each of `blocks` blocks, if a block would keep
/// more tokens than the model has, or fewer than one beside the special ones. Returns the first block (from
/// 0) whose counts are not those that remain in fact, because fewer tokens come; nothing if there is none.
std::optional<std::size_t> check_schedule(const TokenSchedule& schedule, std::size_t blocks,
                                          std::int64_t tokens, std::int64_t specials);

/// A schedule of a file {model: {target: {"prune_kept_num": ..., "merge_kept_num": ...}}}, whose lists are
/// arrays or strings of them, as the authors of DiffRate publish them, or of one such innermost object.
/// Without pruned counts nothing is pruned, without merged ones nothing is merged. Beside them may stand
/// "method": "tome" or "evit", for counts of these operators.
/// `spec` is the file, and behind a '#' the model and the target, "file.json#ViT-S-DeiT/2.9", where there are
/// several. Throws Error(Input) naming the file and what is wrong, or the schedules that there are.
TokenSchedule read_schedule(const std::string& spec);

/// Such a file with one schedule.
std::string schedule_text(const std::string& model, const std::string& target, const TokenSchedule& schedule);

}  // namespace lithe
