// How many tokens each block of a transformer keeps.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace lithe {

/// Tokens after pruning and after merging in each block, special tokens counted.
struct TokenSchedule {
  std::vector<std::int64_t> prune, merge;

  std::size_t blocks() const { return prune.size(); }
  bool operator==(const TokenSchedule&) const = default;
};

/// Everything kept.
TokenSchedule dense_schedule(std::size_t blocks, std::int64_t tokens);

/// What remains in fact: running minima, so that merge[l] <= prune[l] <= merge[l - 1] <= tokens.
TokenSchedule effective(const TokenSchedule& schedule, std::int64_t tokens);

/// Throws Error(Input) if the lists do not have one number for each of `blocks` blocks, if a block would keep
/// more tokens than the model has, or fewer than one beside the special ones. Returns whether a count grows
/// from one block to the next, where the running minimum counts.
bool check_schedule(const TokenSchedule& schedule, std::size_t blocks, std::int64_t tokens,
                    std::int64_t specials);

/// A schedule of a file {model: {target: {"prune_kept_num": ..., "merge_kept_num": ...}}}, whose lists are
/// arrays or strings of them, as the authors of DiffRate publish them, or of one such innermost object.
/// `spec` is the file, and behind a '#' the model and the target, "file.json#ViT-S-DeiT/2.9", where there are
/// several. Throws Error(Input) naming the file and what is wrong, or the schedules that there are.
TokenSchedule read_schedule(const std::string& spec);

/// Writes such a file with one schedule, whole or not at all.
void write_schedule(const std::filesystem::path& path, const std::string& model, const std::string& target,
                    const TokenSchedule& schedule);

}  // namespace lithe
