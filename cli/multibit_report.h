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
  std::optional<double>
      integer_ms;  // of one image with integer arithmetic, one thread; nothing if not measured
};

/// Costs of the bit-widths; scores and times are filled in by whoever has them.
std::vector<BitRow> bit_rows(const Graph& graph, const std::vector<int>& bits);

json bits_json(const std::vector<BitRow>& rows);
json storage_json(const BitStorage& storage);
std::string bits_table(const std::vector<BitRow>& rows);

/// Accuracy, bit operations, multiply-accumulates and time by bit-width, and storage, with the note on what
/// time follows.
void add_bits(Report& report, const std::vector<BitRow>& rows, const BitStorage& storage, bool branches);

/// What users of integer processors get.
extern const char* const kTimeFollowsMacs;

}  // namespace lithe::cli
