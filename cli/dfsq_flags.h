// The flags of `lithe quantize --method dfsq`.
#pragma once

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <string>

#include "lithe/quantize/quantize.h"

namespace lithe::cli {

struct DfsqFlags {
  std::string statistics = "static", points = "exact", weights = "mse", reconstruct;
  int restarts = 5;

  void add_to(CLI::App& verb);
};

DfsqOptions dfsq_options_of(const DfsqFlags& flags, std::uint64_t seed, std::int64_t memory);
/// Throws Error(Input) naming a flag of DFSQ that was given although `method` is another.
void refuse_dfsq_flags(const CLI::App& verb, const std::string& method);
/// Throws Error(Input) naming a flag that means nothing to DFSQ.
void refuse_range_flags(const CLI::App& verb);

/// Throws Error(Input) naming a flag of DFSQ that changes nothing beside the others, and what it needs.
/// `options` hold those of DFSQ.
void refuse_idle_dfsq_flags(const CLI::App& verb, const QuantizeOptions& options);

/// "static statistics, exact points, ...", and a table of the layers.
std::string dfsq_text(const DfsqReport& report);
nlohmann::json dfsq_json(const DfsqReport& report);

}  // namespace lithe::cli
