#include "lithe/tokens/node_writer.h"

#include <utility>

namespace lithe {

std::string NodeWriter::op(const std::string& name, const char* type, std::vector<std::string> inputs,
                           std::map<std::string, Attribute, std::less<>> attributes, const char* domain,
                           const std::vector<const char*>& more_outputs) {
  std::string output = graph_.unique_name(name);
  Node node{.name = output,
            .op_type = type,
            .domain = domain,
            .inputs = std::move(inputs),
            .outputs = {output},
            .attributes = std::move(attributes)};
  for (const char* suffix : more_outputs) node.outputs.push_back(graph_.unique_name(output + suffix));
  graph_.nodes.push_back(std::move(node));
  return output;
}

std::string NodeWriter::ints(const std::string& name, std::vector<std::int64_t> values) {
  const auto count = static_cast<std::int64_t>(values.size());
  return graph_.add_constant(name, TensorData::from<std::int64_t>({count}, std::move(values)));
}

}  // namespace lithe
