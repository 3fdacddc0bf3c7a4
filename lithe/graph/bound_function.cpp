#include "lithe/graph/bound_function.h"

#include <algorithm>

namespace lithe {
namespace {

constexpr std::int32_t kIntAttribute = 2;  // AttributeProto.AttributeType.INT

Node operation(std::string type, std::vector<std::string> inputs, std::string output) {
  Node node{.op_type = std::move(type), .inputs = std::move(inputs), .outputs = {std::move(output)}};
  node.name = node.outputs[0];
  return node;
}

Node number(std::string output, float value) {
  Node node = operation("Constant", {}, std::move(output));
  node.attributes["value"] = TensorData::scalar(value);
  return node;
}

}  // namespace

void add_bound_function(Graph& graph) {
  ModelHeader& header = graph.header;
  header.opsets["lithe"] = 1;
  const auto there = [](const Function& one) { return one.domain == "lithe" && one.name == "BoundQuantize"; };
  if (std::any_of(header.functions.begin(), header.functions.end(), there)) return;
  header.ir_version = std::max<std::int64_t>(header.ir_version, 8);  // functions came with it
  Function function{.name = "BoundQuantize",
                    .domain = "lithe",
                    .inputs = {"x", "low", "high"},
                    .outputs = {"y"},
                    .attributes = {"levels", "centred"},
                    .opsets = {{"", graph.opset()}},
                    .doc = "Uniform quantisation between two bounds, to [0, 1] or (centred) [-1, 1]."};
  auto& nodes = function.nodes;
  const auto attribute = [&](const char* name) {
    Node constant = operation("Constant", {}, std::string(name) + "_int");
    constant.attributes["value_int"] = AttributeReference{name, kIntAttribute};
    nodes.push_back(std::move(constant));
    Node cast = operation("Cast", {std::string(name) + "_int"}, name);
    cast.attributes["to"] = static_cast<std::int64_t>(DType::Float32);
    nodes.push_back(std::move(cast));
  };
  attribute("levels");
  attribute("centred");
  nodes.push_back(number("least", kSmallestWidth));
  nodes.push_back(number("zero", 0));
  nodes.push_back(number("one", 1));
  nodes.push_back(operation("Sub", {"high", "low"}, "distance"));
  nodes.push_back(operation("Max", {"distance", "least"}, "width"));
  nodes.push_back(operation("Sub", {"x", "low"}, "above"));
  nodes.push_back(operation("Div", {"above", "width"}, "place"));
  nodes.push_back(operation("Clip", {"place", "zero", "one"}, "t"));
  nodes.push_back(operation("Mul", {"t", "levels"}, "steps"));
  nodes.push_back(operation("Round", {"steps"}, "code"));
  // (code (1 + centred) - centred levels) / levels: whole numbers, hence exact, until the division.
  nodes.push_back(operation("Add", {"one", "centred"}, "factor"));
  nodes.push_back(operation("Mul", {"code", "factor"}, "stretched"));
  nodes.push_back(operation("Mul", {"centred", "levels"}, "offset"));
  nodes.push_back(operation("Sub", {"stretched", "offset"}, "whole"));
  nodes.push_back(operation("Div", {"whole", "levels"}, "y"));
  header.functions.push_back(std::move(function));
}

}  // namespace lithe
