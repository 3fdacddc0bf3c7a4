// Which operators of a model Lithe does not run, told without LibTorch.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "lithe/graph/graph.h"

namespace lithe::cli {

/// `unsupported` of docs/inspect.md: an object for each operator that no verb can run.
nlohmann::json unsupported_json(const Graph& graph);
/// The same as lines for people.
std::vector<std::string> unsupported_lines(const nlohmann::json& unsupported);

}  // namespace lithe::cli
