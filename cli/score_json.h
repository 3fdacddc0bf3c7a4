// A measured score as JSON, the same in every verb's result.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "lithe/metrics/evaluate.h"

namespace lithe::cli {

/// The number of samples and what was measured on them; null where nothing was measured.
nlohmann::json score_json(const std::optional<Evaluation>& score);

/// What the means over images leave out, a line each.
std::vector<std::string> notes_on_scores(const Evaluation& score);

}  // namespace lithe::cli
