// Rewrites that make inference faster and change nothing else: constant parts are evaluated once, chains of
// nodes become one kernel. Used by the Executor where no gradient is asked for and nothing observes.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "lithe/engine/program.h"
#include "lithe/graph/graph.h"
#include "lithe/ops/registry.h"

namespace lithe {

/// Domain of the nodes that fusion makes; they exist inside the engine only.
inline constexpr const char* kFusedDomain = "lithe.fused";

/// The kernels behind those nodes.
const OpRegistry& fused_ops();

/// Whether a node of a fused graph also takes tensors in oneDNN's blocked layout; others need them plain.
bool takes_blocked(const Node& node);

/// `describe` for messages: a fused node is named after the operator whose place it takes.
std::string describe_fused(const Node& node);

struct Fused {
  std::deque<Node> nodes;
  std::map<std::string, at::Tensor> constants;  // computed here, in addition to the graph's
};

struct FuseOptions {
  bool channels_last = true;
};

/// `source.nodes` in topological order; `source.outputs` and `source.inputs` stay as they are.
Fused fuse(const Program::Source& source, const Scope& scope, const FuseOptions& options);

}  // namespace lithe
