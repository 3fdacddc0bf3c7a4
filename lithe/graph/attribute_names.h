// Which attributes the standard operators have, so that a misspelt or damaged one is not passed over.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "lithe/graph/graph.h"

namespace lithe {

/// The names of an operator's attributes in any opset of the ONNX specification, separated by spaces; nothing
/// for operators that the table does not hold.
std::optional<std::string_view> known_attributes(std::string_view op_type);

/// The first attribute of the node that its operator has in no opset; "" if there is none. Other domains,
/// operators that are not known, and names of the form __name__, which ONNX leaves to tools, are not judged.
std::string unknown_attribute(const Node& node);

}  // namespace lithe
