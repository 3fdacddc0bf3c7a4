#include "lithe/quantize/dfsq/subset_quantizer.h"

#include "lithe/graph/subset_function.h"

namespace lithe {

Node subset_node(Graph& graph, const SubsetQuantizer& quantizer, const std::string& name,
                 const std::string& input, const std::string& output, bool restore, const std::string& drop) {
  Node node{.name = name,
            .op_type = quantizer.dynamic ? kDynamicSubsetQuantize : kSubsetQuantize,
            .domain = "lithe",
            .outputs = {output}};
  node.inputs = {input, graph.add_constant(name + "/points", quantizer.points)};
  if (quantizer.dynamic) {
    node.inputs.push_back(
        graph.add_constant(name + "/centre", TensorData::scalar(quantizer.centre ? 1.0f : 0.0f)));
  } else {
    node.inputs.push_back(graph.add_constant(name + "/mean", quantizer.mean));
    node.inputs.push_back(graph.add_constant(name + "/scale", quantizer.scale));
    if (restore) node.attributes["restore"] = std::int64_t{1};
  }
  if (!drop.empty()) node.inputs.push_back(drop);
  graph.header.opsets.emplace("lithe", 1);
  return node;
}

}  // namespace lithe
