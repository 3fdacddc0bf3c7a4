#include "lithe/graph/function.h"

namespace lithe {
namespace {

const Attribute* resolve(const Function& function, const Node& call, const std::string& name) {
  if (const auto given = call.attributes.find(name); given != call.attributes.end()) return &given->second;
  const auto fallback = function.default_attributes.find(name);
  return fallback == function.default_attributes.end() ? nullptr : &fallback->second;
}

}  // namespace

std::vector<Node> instantiate(const Function& function, const Node& call) {
  std::vector<Node> nodes = function.nodes;
  for (Node& node : nodes)
    for (auto attribute = node.attributes.begin(); attribute != node.attributes.end();) {
      const auto* reference = std::get_if<AttributeReference>(&attribute->second);
      if (!reference) {
        ++attribute;
        continue;
      }
      if (const Attribute* value = resolve(function, call, reference->name)) {
        Attribute copy = *value;  // assigning destroys the reference
        attribute->second = std::move(copy);
        ++attribute;
      } else {
        attribute = node.attributes.erase(attribute);
      }
    }
  return nodes;
}

}  // namespace lithe
