// A measured score as JSON, the same in every verb's result.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>

#include "lithe/metrics/evaluate.h"

namespace lithe::cli {

/// The number of samples and what was measured on them; null where nothing was measured.
nlohmann::json score_json(const std::optional<Evaluation>& score);

}  // namespace lithe::cli
