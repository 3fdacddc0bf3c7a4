// What `lithe quantize` tells: as JSON, as text, as a report.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "lithe/metrics/evaluate.h"
#include "lithe/quantize/quantize.h"
#include "lithe/report/report.h"

namespace lithe::cli {

struct QuantizeSummary {
  std::string model;
  QuantizeOptions options;
  std::optional<Evaluation> before = {};  // nothing without labelled data
  Evaluation after = {};
  std::int64_t bytes_before = 0, bytes_after = 0;
  std::vector<std::pair<int, Evaluation>> sweep = {};  // by bits
};

nlohmann::json result_json(const Quantized& quantized, const QuantizeSummary& summary);
std::string layer_table(const Quantized& quantized);
std::string summary_table(const Quantized& quantized, const QuantizeSummary& summary);
Report report_of(const Quantized& quantized, const QuantizeSummary& summary);

}  // namespace lithe::cli
