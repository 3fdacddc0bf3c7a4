// A graph with quantisers as exported files have them, for tests that must see through them.
#pragma once

#include <string>
#include <vector>

#include "lithe/graph/graph.h"

namespace lithe::test {

/// Puts QuantizeLinear and DequantizeLinear behind the data input of every Conv and Gemm, and stores their
/// weights as int8 behind DequantizeLinear. Scales are arbitrary.
inline Graph with_quantizers(Graph graph) {
  graph.constants["test_scale"] = TensorData::scalar<float>(0.05f);
  graph.constants["test_zero"] = TensorData::scalar<std::int8_t>(0);
  std::vector<Node> nodes;
  std::map<std::string, std::string> quantized;
  for (Node node : graph.nodes) {
    if (node.op_type == "Conv" || node.op_type == "Gemm") {
      std::string& value = quantized[node.inputs[0]];
      if (value.empty()) {
        value = node.inputs[0] + "_dq";
        nodes.push_back({.name = value + ".q",
                         .op_type = "QuantizeLinear",
                         .inputs = {node.inputs[0], "test_scale", "test_zero"},
                         .outputs = {value + ".q"}});
        nodes.push_back({.name = value,
                         .op_type = "DequantizeLinear",
                         .inputs = {value + ".q", "test_scale", "test_zero"},
                         .outputs = {value}});
      }
      node.inputs[0] = value;
      const std::string weight = node.inputs[1];
      const TensorData& old = graph.constants.at(weight);
      graph.constants[weight] = TensorData::from<std::int8_t>(
          old.shape(), std::vector<std::int8_t>(static_cast<std::size_t>(old.count()), 1));
      nodes.push_back({.name = weight + ".dq",
                       .op_type = "DequantizeLinear",
                       .inputs = {weight, "test_scale", "test_zero"},
                       .outputs = {weight + ".dq"}});
      node.inputs[1] = weight + ".dq";
    }
    nodes.push_back(std::move(node));
  }
  graph.nodes = std::move(nodes);
  // The shortcut reads the quantised value too.
  for (Node& node : graph.nodes)
    for (std::string& input : node.inputs)
      if (node.op_type != "QuantizeLinear")
        if (const auto found = quantized.find(input); found != quantized.end()) input = found->second;
  graph.sort();
  graph.validate();
  return graph;
}

}  // namespace lithe::test
