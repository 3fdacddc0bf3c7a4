// What the loop over latents needs to go on after an interruption.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace lithe {

struct LatentState {
  std::int64_t next_step = 0;
  at::Tensor x;          // [n, c, h, w]
  at::Tensor x0_before;  // the prediction that the step before went by, or undefined
};

/// Written whole or not at all.
void write_latent_state(const LatentState& state, const std::string& identity,
                        const std::filesystem::path& file);

/// Nothing if the file is not there. Throws Error(Input) if it is no state, or not one of that identity and
/// of latents like `x`, or lies beyond `steps`.
std::optional<LatentState> read_latent_state(const std::filesystem::path& file, const std::string& identity,
                                             const at::Tensor& x, std::int64_t steps);

}  // namespace lithe
