// What `lithe inspect` finds out about a model.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>

#include "lithe/graph/graph.h"
#include "lithe/graph/shape_inference.h"
#include "lithe/graph/sparsity.h"

namespace lithe::cli {

struct InspectOptions {
  InputShapes shapes;  // of inputs; a free first dimension is 1 where nothing is given
  std::optional<SparsityPattern> sparsity;
};

/// The result as docs/inspect.md describes it. Where a dimension is free and not given, `macs` and
/// `activation_bytes` are null and `note` says what to give. Throws Error(Input) if shapes contradict the
/// model or each other.
nlohmann::json inspect_model(Graph graph, const InspectOptions& options);

}  // namespace lithe::cli
