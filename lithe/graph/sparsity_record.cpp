#include "lithe/graph/sparsity_record.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "lithe/base/error.h"
#include "lithe/base/hash.h"
#include "lithe/base/json.h"

namespace lithe {
namespace {

using nlohmann::json;

constexpr const char* kKey = "lithe.sparsity";

SparsityRecord read_record(const json& one) {
  return {.layer = one.at("layer").get<std::string>(),
          .weight = one.at("weight").get<std::string>(),
          .pattern = parse_sparsity(one.at("pattern").get<std::string>()),
          .axis = one.at("axis").get<std::size_t>(),
          .checksum = one.at("checksum").get<std::string>()};
}

const SparsityCheck* find_check(const std::vector<SparsityCheck>& checks, const SparsityRecord& record) {
  const auto named = std::find_if(checks.begin(), checks.end(),
                                  [&](const SparsityCheck& check) { return check.node == record.layer; });
  if (named != checks.end()) return &*named;
  const auto weighed = std::find_if(checks.begin(), checks.end(), [&](const SparsityCheck& check) {
    return check.tensor == record.weight;
  });
  return weighed == checks.end() ? nullptr : &*weighed;
}

}  // namespace

std::string weight_checksum(const TensorData& data) {
  return fmt::format("{:016x}", fnv1a(data.bytes()));
}

std::vector<SparsityRecord> sparsity_records(const Graph& graph) {
  const auto found = graph.header.metadata.find(kKey);
  if (found == graph.header.metadata.end()) return {};
  std::vector<SparsityRecord> records;
  const auto list = try_parse_json(found->second);
  bool readable = list.has_value();
  try {
    if (list)
      for (const json& one : *list) records.push_back(read_record(one));
  } catch (const json::exception&) {
    readable = false;
  }
  if (!readable)
    fail("the metadata entry '{}' of the model is not as lithe sparsify writes it; remove it", kKey);
  return records;
}

void keep_sparsity_records(Graph& graph, const std::vector<SparsityRecord>& records) {
  json list = json::array();
  for (const SparsityRecord& one : records)
    list.push_back({{"layer", one.layer},
                    {"weight", one.weight},
                    {"pattern", format_sparsity(one.pattern)},
                    {"axis", one.axis},
                    {"checksum", one.checksum}});
  if (records.empty())
    graph.header.metadata.erase(kKey);
  else
    graph.header.metadata[kKey] = list.dump();
}

std::vector<RecordState> check_sparsity_records(const Graph& graph) {
  std::map<std::pair<std::int64_t, std::int64_t>, std::vector<SparsityCheck>> by_pattern;
  std::vector<RecordState> states;
  for (SparsityRecord& record : sparsity_records(graph)) {
    auto& checks = by_pattern[{record.pattern.kept, record.pattern.group}];
    if (checks.empty()) checks = check_sparsity(graph, record.pattern);
    RecordState state{.record = std::move(record)};
    const SparsityCheck* check = find_check(checks, state.record);
    if (!check)
      state.problem = "has no weight any more";
    else if (check->groups == 0)
      state.problem = check->skipped;
    else if (check->violations > 0)
      state.problem = fmt::format("breaks {} in {} of {} groups", format_sparsity(state.record.pattern),
                                  check->violations, check->groups);
    const TensorData* weight = check ? graph.constant(check->tensor) : nullptr;
    state.changed = !weight || weight_checksum(*weight) != state.record.checksum;
    states.push_back(std::move(state));
  }
  return states;
}

std::vector<RecordState> update_sparsity_records(Graph& graph) {
  std::vector<RecordState> broken;
  std::vector<SparsityRecord> kept;
  for (RecordState& state : check_sparsity_records(graph)) {
    if (!state.problem.empty()) {
      broken.push_back(std::move(state));
      continue;
    }
    const auto checks = check_sparsity(graph, state.record.pattern);
    state.record.weight = find_check(checks, state.record)->tensor;
    state.record.checksum = weight_checksum(*graph.constant(state.record.weight));
    kept.push_back(std::move(state.record));
  }
  keep_sparsity_records(graph, kept);
  return broken;
}

}  // namespace lithe
