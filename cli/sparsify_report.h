// What `lithe sparsify` tells: as JSON, as text, as a report.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "lithe/metrics/evaluate.h"
#include "lithe/report/report.h"
#include "lithe/sparsify/sparsify.h"

namespace lithe::cli {

struct SparsifySummary {
  std::string model;
  SparsifyOptions options;
  std::optional<Evaluation> before = {}, after = {};  // nothing without held-out data
  std::int64_t bytes_before = 0, bytes_after = 0;
};

std::string method_name(SparsifyMethod method);
nlohmann::json plan_json(const std::vector<SparseLayer>& layers);
std::string plan_table(const std::vector<SparseLayer>& layers);
nlohmann::json result_json(const Sparsified& result, const SparsifySummary& summary);
std::string layer_table(const Sparsified& result);
std::string summary_table(const Sparsified& result, const SparsifySummary& summary);
Report report_of(const Sparsified& result, const SparsifySummary& summary);

}  // namespace lithe::cli
