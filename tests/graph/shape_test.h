// Helpers of the tests of shape inference.
#pragma once

#include <filesystem>
#include <string>

#include "lithe/graph/graph.h"
#include "lithe/graph/shape_inference.h"

namespace lithe::test {

inline std::string type_of(const Graph& graph, const std::string& value) {
  const ValueInfo* info = graph.info(value);
  return info ? format_type(*info) : "nothing";
}

/// The ONNX project's node tests, where Debian's libonnx-testdata puts them.
inline std::filesystem::path node_test_folder() {
  return "/usr/share/libonnx-testdata/data/node";
}

}  // namespace lithe::test
