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
  std::string model, method;
  QuantizeOptions options;
  std::optional<Evaluation> before = {};  // nothing without labelled data
  std::optional<Evaluation> after = {};   // nothing without any data
  std::int64_t bytes_before = 0, bytes_after = 0;
  std::vector<std::pair<int, Evaluation>> sweep = {};  // by bits
  std::vector<std::string> warnings = {};
};

/// What the user should know before using the file: that most of the accuracy is lost, and what may help.
std::vector<std::string> warnings_about(const Quantized& quantized, const QuantizeSummary& summary);

nlohmann::json result_json(const Quantized& quantized, const QuantizeSummary& summary);
/// profile, placement and reduce_range as their flags name them.
nlohmann::json choices_json(Profile profile, PlacementStyle placement, ReduceRange reduce_range);
/// The column of SQNR is left out where there is none.
std::string layer_table(const std::vector<LayerResult>& layers);
std::string summary_table(const Quantized& quantized, const QuantizeSummary& summary);
Report report_of(const Quantized& quantized, const QuantizeSummary& summary);

}  // namespace lithe::cli
