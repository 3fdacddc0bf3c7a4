// Small graphs for the tests, written down node by node.
#pragma once

#include <ATen/ATen.h>

#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "lithe/graph/graph.h"

namespace lithe::testing {

inline ValueInfo value(const std::string& name, std::optional<std::vector<std::int64_t>> shape = {},
                       DType dtype = DType::Float32) {
  ValueInfo info{.name = name, .dtype = dtype};
  if (shape) {
    info.shape.emplace();
    for (const std::int64_t size : *shape)
      info.shape->push_back(size < 0 ? Dim{.symbol = "batch"} : Dim{.value = size});
  }
  return info;
}

inline Node node(const std::string& op, std::vector<std::string> inputs, std::vector<std::string> outputs,
                 std::map<std::string, Attribute, std::less<>> attributes = {},
                 const std::string& domain = "") {
  return {.name = outputs.empty() ? op : "make_" + outputs[0],
          .op_type = op,
          .domain = domain,
          .inputs = std::move(inputs),
          .outputs = std::move(outputs),
          .attributes = std::move(attributes)};
}

inline Graph graph(std::vector<ValueInfo> inputs, std::vector<Node> nodes,
                   const std::vector<std::string>& outputs) {
  Graph result;
  result.inputs = std::move(inputs);
  result.nodes = std::move(nodes);
  for (const std::string& name : outputs) result.outputs.push_back(value(name, {}, DType::Undefined));
  return result;
}

inline TensorData vector_of(std::vector<float> values) {
  const auto count = static_cast<std::int64_t>(values.size());
  return TensorData::from<float>({count}, std::move(values));
}

}  // namespace lithe::testing
