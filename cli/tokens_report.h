// What `lithe tokens` tells: as JSON, as text, as a report.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/verb.h"
#include "lithe/metrics/evaluate.h"
#include "lithe/report/report.h"
#include "lithe/tokens/own_counts.h"
#include "lithe/tokens/tokens.h"

namespace lithe::cli {

/// One method at one budget, for the comparison.
struct TokenScore {
  std::string method;
  double macs_ratio = 1;
  double top1 = 0;
};

struct TokensSummary {
  std::string model, method;
  TokensOptions options;
  std::optional<Evaluation> before = {}, after = {};    // nothing without held-out data
  std::optional<double> ms_before = {}, ms_after = {};  // of one image in the engine
  std::int64_t bytes_before = 0, bytes_after = 0;
  std::vector<TokenScore> compared = {};
  std::vector<Picture> pictures = {};
  std::vector<std::vector<std::int64_t>> fates =
      {};                             // of their tokens behind the last block: see trace_tokens
  std::optional<OwnCounts> own = {};  // of images that keep counts of their own
  std::string searched = {};          // what the counts were learnt from, for people
};

const char* token_tail_name(TokenTail tail);
const char* token_kind_name(TokenKind kind);
const char* token_sizes_name(TokenSizes sizes);

json tokens_plan_json(const TokensPlan& plan);
std::string tokens_plan_table(const TokensPlan& plan);
json tokens_json(const TokensResult& result, const TokensSummary& summary);
std::string tokens_table(const TokensResult& result);
std::string tokens_summary_table(const TokensResult& result, const TokensSummary& summary);
Report tokens_report(const TokensResult& result, const TokensSummary& summary);

}  // namespace lithe::cli
