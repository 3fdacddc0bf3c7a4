// What `lithe quantize --budget` tells.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "lithe/quantize/mixed_precision.h"
#include "lithe/report/report.h"

namespace lithe::cli {

/// asked, achieved, curve, layers with what each number of bits would lose.
nlohmann::json budget_json(const MixedPrecision& precision, const BitBudget& asked);
/// What was asked for and reached, in one line.
std::string budget_line(const MixedPrecision& precision, const BitBudget& asked);
/// The trade-off with the choice in it, and the bits of each layer.
void add_budget(Report& report, const MixedPrecision& precision, const BitBudget& asked);

}  // namespace lithe::cli
