#include "lithe/tokens/schedule.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "lithe/base/error.h"
#include "lithe/base/file.h"

namespace lithe {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr const char *kPrune = "prune_kept_num", *kMerge = "merge_kept_num";
constexpr std::int64_t kLargestCount = std::int64_t{1} << 31;
constexpr std::uint64_t kLargestFile = 64 << 20;

json parsed(const std::string& text, const std::string& origin) {
  json value = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (value.is_discarded()) fail("{}: is not valid JSON", origin);
  return value;
}

std::vector<std::int64_t> counts_of(const json& object, const char* key, const std::string& origin) {
  if (!object.contains(key)) fail("{}: has no '{}'", origin, key);
  json list = object.at(key);
  if (list.is_string()) list = parsed(list.get<std::string>(), fmt::format("{}: '{}'", origin, key));
  if (!list.is_array()) fail("{}: '{}' must be a list of whole numbers", origin, key);
  std::vector<std::int64_t> counts;
  for (const json& one : list) {
    const std::int64_t count = one.is_number_integer() ? one.get<std::int64_t>() : -1;
    if (count < 0 || count > kLargestCount)
      fail("{}: '{}' holds {}, which is no number of tokens", origin, key, one.dump());
    counts.push_back(count);
  }
  return counts;
}

bool is_entry(const json& value) {
  return value.is_object() && (value.contains(kPrune) || value.contains(kMerge));
}

}  // namespace

TokenSchedule dense_schedule(std::size_t blocks, std::int64_t tokens) {
  return {std::vector<std::int64_t>(blocks, tokens), std::vector<std::int64_t>(blocks, tokens)};
}

TokenSchedule effective(const TokenSchedule& schedule, std::int64_t tokens) {
  TokenSchedule result = schedule;
  for (std::size_t l = 0; l < schedule.blocks(); ++l) {
    result.prune[l] = tokens = std::min(tokens, schedule.prune[l]);
    result.merge[l] = tokens = std::min(tokens, schedule.merge[l]);
  }
  return result;
}

bool check_schedule(const TokenSchedule& schedule, std::size_t blocks, std::int64_t tokens,
                    std::int64_t specials) {
  for (const auto* list : {&schedule.prune, &schedule.merge})
    if (list->size() != blocks)
      fail("the schedule has counts for {} blocks, but the model has {} blocks with attention", list->size(),
           blocks);
  bool grows = false;
  for (std::size_t l = 0; l < blocks; ++l)
    for (const auto* list : {&schedule.prune, &schedule.merge}) {
      const std::int64_t count = (*list)[l];
      if (count > tokens)
        fail("the schedule keeps {} tokens in block {}, but the model has {}; is it of another model?", count,
             l + 1, tokens);
      if (count <= specials)
        fail("the schedule keeps {} tokens in block {}; at least {} must stay: {} special ones and one more",
             count, l + 1, specials + 1, specials);
      grows = grows || (l > 0 && count > (*list)[l - 1]);
    }
  return grows;
}

TokenSchedule read_schedule(const std::string& spec) {
  std::string path = spec, wanted;
  if (const auto hash = spec.rfind('#'); hash != std::string::npos && !fs::exists(spec)) {
    path = spec.substr(0, hash);
    wanted = spec.substr(hash + 1);
  }
  const json file = parsed(read_text_file(path, kLargestFile), path);
  std::vector<std::pair<std::string, const json*>> entries;
  if (is_entry(file)) entries.emplace_back("", &file);
  if (file.is_object())
    for (const auto& [model, targets] : file.items()) {
      if (is_entry(targets)) entries.emplace_back(model, &targets);
      if (!targets.is_object()) continue;
      for (const auto& [target, entry] : targets.items())
        if (is_entry(entry)) entries.emplace_back(model + "/" + target, &entry);
    }
  if (entries.empty()) fail("{}: holds no schedule, an object with '{}' and '{}'", path, kPrune, kMerge);
  std::vector<std::string> names;
  for (const auto& [name, entry] : entries) names.push_back(name);
  const auto found = wanted.empty() && entries.size() == 1
                         ? entries.begin()
                         : std::find_if(entries.begin(), entries.end(),
                                        [&](const auto& entry) { return entry.first == wanted; });
  if (found == entries.end())
    fail("{}: {}; there are {}", path,
         wanted.empty() ? fmt::format("holds several schedules, name one as {}#NAME", path)
                        : fmt::format("has no schedule '{}'", wanted),
         fmt::join(names, ", "));
  const std::string origin = found->first.empty() ? path : path + "#" + found->first;
  TokenSchedule schedule;
  const json& entry = *found->second;
  schedule.merge = counts_of(entry, entry.contains(kMerge) ? kMerge : kPrune, origin);
  schedule.prune = counts_of(entry, entry.contains(kPrune) ? kPrune : kMerge, origin);
  if (!entry.contains(kPrune)) {  // merging alone: nothing is pruned before
    for (std::size_t l = schedule.prune.size(); l-- > 1;) schedule.prune[l] = schedule.merge[l - 1];
  }
  if (schedule.prune.size() != schedule.merge.size())
    fail("{}: '{}' has {} numbers, '{}' {}", origin, kPrune, schedule.prune.size(), kMerge,
         schedule.merge.size());
  if (schedule.prune.empty()) fail("{}: the schedule is empty", origin);
  return schedule;
}

void write_schedule(const fs::path& path, const std::string& model, const std::string& target,
                    const TokenSchedule& schedule) {
  const json entry{{kPrune, json(schedule.prune).dump()}, {kMerge, json(schedule.merge).dump()}};
  write_file(path, json{{model, {{target, entry}}}}.dump(2) + "\n");
}

}  // namespace lithe
