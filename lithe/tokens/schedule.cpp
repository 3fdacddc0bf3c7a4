#include "lithe/tokens/schedule.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/base/json.h"

namespace lithe {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr const char *kPrune = "prune_kept_num", *kMerge = "merge_kept_num", *kMethod = "method";
constexpr std::int64_t kLargestCount = std::int64_t{1} << 31;
constexpr std::uint64_t kLargestFile = 64 << 20;
constexpr std::size_t kMostBlocks = 10000, kMostNamed = 10;

std::string shortened(const std::string& text) {
  constexpr std::size_t kLongest = 40;
  return text.size() <= kLongest ? text : text.substr(0, kLongest) + "...";
}

std::vector<std::int64_t> counts_of(const json& object, const char* key, const std::string& origin) {
  const json& given = object.at(key);
  const json parsed = given.is_string() ? parse_json(given.get_ref<const std::string&>(),
                                                     fmt::format("{}: '{}'", origin, key))
                                        : json();
  const json& list = given.is_string() ? parsed : given;
  if (!list.is_array()) fail("{}: '{}' must be a list of whole numbers", origin, key);
  if (list.size() > kMostBlocks)
    fail("{}: '{}' holds {} numbers; no model is as deep", origin, key, list.size());
  std::vector<std::int64_t> counts;
  for (const json& one : list) {
    const std::int64_t count = one.is_number_integer() ? one.get<std::int64_t>() : -1;
    if (count < 0 || count > kLargestCount)
      fail("{}: '{}' holds {}, which is no number of tokens", origin, key, shortened(one.dump()));
    counts.push_back(count);
  }
  return counts;
}

TokenOperators operators_of(const json& entry, const std::string& origin) {
  if (!entry.contains(kMethod)) return TokenOperators::Reduce;
  const json& method = entry.at(kMethod);
  if (method == "tome") return TokenOperators::Tome;
  if (method == "evit") return TokenOperators::Evit;
  fail("{}: '{}' is {}; leave it out, or give \"tome\" or \"evit\"", origin, kMethod,
       shortened(method.dump()));
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

std::optional<std::size_t> check_schedule(const TokenSchedule& schedule, std::size_t blocks,
                                          std::int64_t tokens, std::int64_t specials) {
  for (const auto* list : {&schedule.prune, &schedule.merge})
    if (list->size() != blocks)
      fail("the schedule has counts for {} blocks, but the model has {} blocks with attention", list->size(),
           blocks);
  for (std::size_t l = 0; l < blocks; ++l)
    for (const auto* list : {&schedule.prune, &schedule.merge}) {
      const std::int64_t count = (*list)[l];
      if (count == kEveryToken) continue;
      if (count > tokens)
        fail("the schedule keeps {} tokens in block {}, but the model has {}; is it of another model?", count,
             l + 1, tokens);
      if (count <= specials)
        fail("the schedule keeps {} tokens in block {}; at least {} must stay: {} special ones and one more",
             count, l + 1, specials + 1, specials);
    }
  const TokenSchedule real = effective(schedule, tokens);
  const auto differs = [](std::int64_t given, std::int64_t left) {
    return given != kEveryToken && given != left;
  };
  for (std::size_t l = 0; l < blocks; ++l)
    if (differs(schedule.prune[l], real.prune[l]) || differs(schedule.merge[l], real.merge[l])) return l;
  return std::nullopt;
}

TokenSchedule read_schedule(const std::string& spec) {
  std::string path = spec, wanted;
  if (const auto hash = spec.rfind('#'); hash != std::string::npos && !fs::exists(spec)) {
    path = spec.substr(0, hash);
    wanted = spec.substr(hash + 1);
  }
  const json file = parse_json(read_text_file(path, kLargestFile), path);
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
  if (found == entries.end()) {
    std::vector<std::string> some;
    for (const std::string& name : names)
      if (some.size() < kMostNamed) some.push_back(shortened(name));
    fail("{}: {}; there are {}{}", path,
         wanted.empty() ? fmt::format("holds several schedules, name one as {}#NAME", path)
                        : fmt::format("has no schedule '{}'", shortened(wanted)),
         fmt::join(some, ", "),
         names.size() > kMostNamed ? fmt::format(" and {} more", names.size() - kMostNamed) : "");
  }
  const std::string origin = found->first.empty() ? path : path + "#" + shortened(found->first);
  TokenSchedule schedule;
  const json& entry = *found->second;
  if (entry.contains(kPrune)) schedule.prune = counts_of(entry, kPrune, origin);
  if (entry.contains(kMerge)) schedule.merge = counts_of(entry, kMerge, origin);
  if (!entry.contains(kPrune)) schedule.prune.assign(schedule.merge.size(), kEveryToken);
  if (!entry.contains(kMerge)) schedule.merge.assign(schedule.prune.size(), kEveryToken);
  schedule.operators = operators_of(entry, origin);
  if (schedule.prune.size() != schedule.merge.size())
    fail("{}: '{}' has {} numbers, '{}' {}", origin, kPrune, schedule.prune.size(), kMerge,
         schedule.merge.size());
  if (schedule.prune.empty()) fail("{}: the schedule is empty", origin);
  return schedule;
}

std::string schedule_text(const std::string& model, const std::string& target,
                          const TokenSchedule& schedule) {
  json entry{{kPrune, json(schedule.prune).dump()}, {kMerge, json(schedule.merge).dump()}};
  if (schedule.operators != TokenOperators::Reduce)
    entry[kMethod] = schedule.operators == TokenOperators::Tome ? "tome" : "evit";
  return json{{model, {{target, entry}}}}.dump(2) + "\n";
}

}  // namespace lithe
