// New nodes for a graph that is being rewritten.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "lithe/graph/graph.h"

namespace lithe {

/// Appends to the graph's nodes, in no order; references to them do not outlive a call. Names are made
/// unique.
class NodeWriter {
 public:
  explicit NodeWriter(Graph& graph) : graph_(graph) {}

  /// Returns the name of the first output; the others have it with a suffix.
  std::string op(const std::string& name, const char* type, std::vector<std::string> inputs,
                 std::map<std::string, Attribute, std::less<>> attributes = {}, const char* domain = "",
                 const std::vector<const char*>& more_outputs = {});
  /// A constant, int64 [n].
  std::string ints(const std::string& name, std::vector<std::int64_t> values);

 private:
  Graph& graph_;
};

}  // namespace lithe
