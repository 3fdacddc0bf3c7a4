// Numbers that may be missing, as JSON.
#pragma once

#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

namespace lithe::cli {

/// null where there is no number, or none that JSON can hold.
inline nlohmann::json or_null(const std::optional<double>& value) {
  return value && std::isfinite(*value) ? nlohmann::json(*value) : nlohmann::json(nullptr);
}

}  // namespace lithe::cli
