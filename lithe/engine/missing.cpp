#include "lithe/engine/executor.h"
#include "lithe/engine/program.h"
#include "lithe/graph/missing_operators.h"

namespace lithe {

std::vector<std::string> missing_operators(const Graph& graph) {
  std::vector<std::string> lines;
  for (const MissingOperator& missing : find_missing_operators(graph, native_entry))
    lines.push_back(describe(missing));
  return lines;
}

}  // namespace lithe
