// What `lithe multibit` tells of the bit-widths of a model: as JSON, as text, as a report.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/verb.h"
#include "lithe/multibit/multibit.h"
#include "lithe/report/report.h"

namespace lithe::cli {

/// One bit-width of a model.
struct BitRow {
  BitPath path;
  BitCost cost;
  std::optional<Evaluation> score;  // nothing without data
  /// Of one image with integer arithmetic, on one thread; nothing if not measured.
  std::optional<double> integer_ms;
};

/// Costs of the bit-widths; scores and times are filled in by whoever has them.
std::vector<BitRow> bit_rows(const Graph& graph, const std::vector<int>& bits);

json bits_json(const std::vector<BitRow>& rows);
json storage_json(const BitStorage& storage);
std::string bits_table(const std::vector<BitRow>& rows);

/// Accuracy, bit operations, multiply-accumulates and time by bit-width, and storage, with the note on what
/// time follows for models of branches.
void add_bits(Report& report, const std::vector<BitRow>& rows, const BitStorage& storage,
              const MultibitInfo& info);

/// What users of integer processors get of a model of branches for these bit-widths.
std::string time_follows_macs(const std::vector<int>& bits);

}  // namespace lithe::cli
