#include <algorithm>
#include <cmath>

#include "lithe/base/error.h"
#include "lithe/graph/adopt_constants.h"
#include "lithe/graph/shape_inference.h"
#include "lithe/tokens/find_attention.h"

namespace lithe {
namespace {

using Ints = std::vector<std::int64_t>;

void require_plain(const Node& node) {
  for (std::size_t i = 3; i < node.inputs.size(); ++i)
    if (!node.inputs[i].empty())
      fail("{}: has a mask or a cache; only plain self-attention is thinned out", describe(node));
  for (std::size_t i = 1; i < node.outputs.size(); ++i)
    if (!node.outputs[i].empty())
      fail("{}: puts out more than its result; export the model without", describe(node));
  if (node.attr("is_causal", std::int64_t{0}) != 0)
    fail("{}: is causal; tokens of such a model have an order that must stay", describe(node));
  if (node.attr("softcap", 0.0f) != 0)
    fail("{}: caps its scores; only plain self-attention is thinned out", describe(node));
  if (node.attr("q_num_heads", std::int64_t{0}) != node.attr("kv_num_heads", std::int64_t{0}))
    fail("{}: has fewer heads of keys than of queries; only plain self-attention is thinned out",
         describe(node));
}

/// The operator in MatMul, Mul and Softmax.
std::vector<Node> written_out(Graph& graph, const Node& node) {
  require_plain(node);
  const ValueInfo* q = graph.info(node.input(0));
  if (!q || !q->shape || (q->shape->size() != 3 && q->shape->size() != 4) || !q->shape->back().known())
    fail("{}: the sizes of its queries are not known", describe(node));
  const bool joined = q->shape->size() == 3;
  const std::int64_t heads = node.attr("q_num_heads", std::int64_t{0});
  if (joined && (heads < 1 || q->shape->back().value % heads != 0))
    fail("{}: {} channels cannot be divided into {} heads", describe(node), q->shape->back().value, heads);
  const std::int64_t size = joined ? q->shape->back().value / heads : q->shape->back().value;
  const std::string name = node.output(0);
  std::vector<Node> nodes;
  const auto op = [&](const std::string& suffix, const char* type, std::vector<std::string> inputs,
                      std::map<std::string, Attribute, std::less<>> attributes = {}) {
    std::string output = suffix.empty() ? name : graph.unique_name(name + suffix);
    nodes.push_back({.name = output,
                     .op_type = type,
                     .inputs = std::move(inputs),
                     .outputs = {output},
                     .attributes = std::move(attributes)});
    return output;
  };
  const auto ints = [&](const std::string& suffix, Ints values) {
    const auto count = static_cast<std::int64_t>(values.size());
    return graph.add_constant(name + suffix, TensorData::from<std::int64_t>({count}, std::move(values)));
  };
  const auto part = [&](std::size_t input, const std::string& letter) {
    if (!joined) return node.input(input);
    const std::string split = op("." + letter + "_heads", "Reshape",
                                 {node.input(input), ints("." + letter + "_shape", {0, 0, heads, -1})});
    return op("." + letter, "Transpose", {split}, {{"perm", Ints{0, 2, 1, 3}}});
  };
  const std::string queries = part(0, "q"), keys = part(1, "k"), values = part(2, "v");
  const std::string scores = op(
      ".scores", "MatMul", {queries, op(".k_transposed", "Transpose", {keys}, {{"perm", Ints{0, 1, 3, 2}}})});
  const float scale = node.has("scale") ? node.attr("scale", 1.0f) : 1 / std::sqrt(static_cast<float>(size));
  const std::string scaled =
      op(".scaled", "Mul", {scores, graph.add_constant(name + ".scale", TensorData::scalar(scale))});
  const std::string weights = op(".softmax", "Softmax", {scaled}, {{"axis", std::int64_t{-1}}});
  if (!joined) {
    op("", "MatMul", {weights, values});
    return nodes;
  }
  const std::string mixed = op(".mixed", "MatMul", {weights, values});
  op("", "Reshape",
     {op(".merged", "Transpose", {mixed}, {{"perm", Ints{0, 2, 1, 3}}}), ints(".shape", {0, 0, -1})});
  return nodes;
}

}  // namespace

void fix_input_sizes(Graph& graph, const InputShapes& shapes) {
  for (const auto& [name, sizes] : shapes)
    if (std::none_of(graph.inputs.begin(), graph.inputs.end(),
                     [&name = name](const ValueInfo& input) { return input.name == name; }))
      fail("the model '{}' has no input '{}', for which a shape is given", graph.name, name);
  if (shapes.empty()) return;
  for (const auto& [name, sizes] : concrete_input_shapes(graph, shapes)) {
    if (!shapes.contains(name)) continue;
    for (ValueInfo& input : graph.inputs) {
      if (input.name != name) continue;
      if (!input.shape) input.shape = DimVector(sizes.size());
      if (input.shape->size() != sizes.size())
        fail("input '{}' has {} axes, but {} sizes are given for it", name, input.shape->size(),
             sizes.size());
      for (std::size_t i = 0; i < sizes.size(); ++i) {
        Dim& dim = (*input.shape)[i];
        if (dim.known() && dim.value != sizes[i])
          fail("input '{}' has {} on axis {}, but {} is given for it", name, dim.value, i, sizes[i]);
        if (i > 0) dim = Dim{.value = sizes[i]};
      }
    }
  }
}

Graph prepare_tokens(const Graph& model) {
  Graph graph = model;
  adopt_constants(graph);
  bool any = false;
  for (const Node& node : graph.nodes) {
    any = any || node.is("Attention");
    if (node.domain == "com.microsoft" && node.op_type.find("Attention") != std::string::npos)
      fail("{}: is ONNX Runtime's fused operator {}; give the model as it was before that optimisation",
           describe(node), node.op_type);
  }
  if (!any) return graph;
  infer_shapes(graph);
  std::vector<Node> nodes;
  for (const Node& node : std::vector<Node>(graph.nodes)) {
    if (!node.is("Attention")) {
      nodes.push_back(node);
      continue;
    }
    for (Node& one : written_out(graph, node)) nodes.push_back(std::move(one));
  }
  graph.nodes = std::move(nodes);
  graph.validate();
  return graph;
}

}  // namespace lithe
