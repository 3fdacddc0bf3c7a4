// The flags of `lithe quantize` for methods that learn roundings.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "lithe/quantize/quantize.h"

namespace lithe::cli {

struct ReconstructFlags {
  std::string effort = "balanced", base, grouping, capacity, scales, fisher, draw;
  std::int64_t steps = 0, batch = 0, survey_steps = -1, polish_steps = 0;
  double rounding_rate = 0, scale_rate = 0, rounding_weight = 0, keep = -1, penalty = -1;
  std::optional<double> stride_factor;
  int merges = -1;
  std::optional<int> max_group;
  bool learn_weight_scales = false, round_eight_bits = false, half_caches = false, extend_backwards = false,
       faithful = false;
  std::string checkpoints;

  void add_to(CLI::App& verb);
};

/// The method of that name, or nothing for those that only choose ranges.
std::optional<ReconstructMethod> parse_reconstruct_method(const std::string& name);

/// The options that method, effort and flags make together. Throws Error(Input) if they contradict each
/// other.
ReconstructOptions reconstruct_options_of(const ReconstructFlags& flags, ReconstructMethod method);
/// Throws Error(Input) naming a flag that was given although `method` learns nothing.
void refuse_reconstruct_flags(const CLI::App& verb, const std::string& method);

}  // namespace lithe::cli
