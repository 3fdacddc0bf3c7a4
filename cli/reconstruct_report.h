// What `lithe quantize` tells of learnt roundings.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "lithe/quantize/reconstruct/reconstruct.h"
#include "lithe/report/report.h"

namespace lithe::cli {

/// units, groups, losses by slice, oscillation before and after grouping.
nlohmann::json reconstruction_json(const Reconstruction& reconstruction);
/// A line a slice.
std::string reconstruction_table(const Reconstruction& reconstruction);
/// Whether and where the losses oscillate, before and after grouping.
std::string oscillation_text(const Reconstruction& reconstruction);
void add_reconstruction(Report& report, const Reconstruction& reconstruction);

}  // namespace lithe::cli
