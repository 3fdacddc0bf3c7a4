#include "lithe/graph/shape_inference.h"

#include <algorithm>

#include "lithe/graph/function.h"
#include "lithe/graph/shape_rules.h"

namespace lithe {
namespace {

constexpr int kMaxDepth = 32;  // of nested sub-graphs

ValueType type_of(const ValueInfo& info) {
  ValueType type{info.dtype, std::nullopt, info.other_type.empty()};
  if (!type.tensor || !info.shape) return type;
  for (const Dim& dim : *info.shape)
    if (dim.value > kLargestSize) fail("'{}' declares a dimension of {}", info.name, dim.value);
  type.shape = to_shape(*info.shape);
  return type;
}

/// What the file declares fills the gaps of what was inferred.
void fill_gaps(ValueType& type, const ValueInfo& declared, bool with_sizes) {
  const ValueType wanted = type_of(declared);
  if (!type.tensor || !wanted.tensor) return;
  if (type.dtype == DType::Undefined) type.dtype = wanted.dtype;
  if (!with_sizes || !wanted.shape) return;
  if (!type.shape) {
    type.shape = wanted.shape;
    return;
  }
  if (type.shape->size() != wanted.shape->size()) return;
  for (std::size_t i = 0; i < type.shape->size(); ++i)
    if (!(*type.shape)[i].known()) (*type.shape)[i] = (*wanted.shape)[i];
}

void store(const ValueType& type, ValueInfo& info) {
  if (!type.tensor) return;
  if (type.dtype != DType::Undefined) info.dtype = type.dtype;
  if (type.shape) info.shape = to_dims(*type.shape);
}

void apply_shapes(Graph& graph, const InputShapes& shapes) {
  for (const auto& [name, sizes] : shapes) {
    const auto input = std::find_if(graph.inputs.begin(), graph.inputs.end(),
                                    [&name = name](const ValueInfo& one) { return one.name == name; });
    if (input == graph.inputs.end()) {
      std::string names;
      for (const ValueInfo* one : graph.required_inputs()) names += (names.empty() ? "" : ", ") + one->name;
      fail("the model has no input '{}'; it has: {}", name, names);
    }
    if (input->shape) {
      if (input->shape->size() != sizes.size())
        fail("input '{}': the shape {} has {} dimensions, the model declares {}", name, format_shape(sizes),
             sizes.size(), format_type(*input));
    }
    DimVector dims;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      if (sizes[i] < 0) fail("input '{}': the shape {} has a negative dimension", name, format_shape(sizes));
      if (input->shape && (*input->shape)[i].known() && (*input->shape)[i].value != sizes[i])
        fail("input '{}': the shape {} does not fit {}; the model fixes dimension {}", name,
             format_shape(sizes), format_type(*input), i);
      dims.push_back({sizes[i], ""});
    }
    input->shape = std::move(dims);
  }
}

/// Infers the whole graph; the scope knows every value afterwards.
void run_graph(Graph& graph, const InputShapes& shapes, ShapeScope& scope) {
  check_function_sizes(graph);
  apply_shapes(graph, shapes);
  scope.opsets = &graph.header.opsets;
  for (const ValueInfo& input : graph.inputs) scope.types[input.name] = type_of(input);
  scope.add_constants(graph);
  // Declared sizes of inner values may belong to the old input shapes.
  const bool trust_sizes = shapes.empty();
  const auto declared_output = [&](const std::string& name) -> const ValueInfo* {
    for (const ValueInfo& output : graph.outputs)
      if (output.name == name) return &output;
    return nullptr;
  };
  for (const Node& node : graph.nodes) {
    scope.run(node);
    for (const std::string& name : node.outputs) {
      if (name.empty()) continue;
      ValueType& type = scope.types[name];
      if (const auto found = graph.values.find(name); found != graph.values.end())
        fill_gaps(type, found->second, trust_sizes);
      if (const ValueInfo* output = declared_output(name)) fill_gaps(type, *output, trust_sizes);
    }
  }
}

}  // namespace

// --- scope -----------------------------------------------------------------------------------------------

const ValueType* ShapeScope::find_type(const std::string& name) const {
  for (const ShapeScope* scope = this; scope; scope = scope->parent)
    if (const auto found = scope->types.find(name); found != scope->types.end()) return &found->second;
  return nullptr;
}

const KnownTensor* ShapeScope::find_known(const std::string& name) const {
  for (const ShapeScope* scope = this; scope; scope = scope->parent) {
    if (const auto found = scope->known.find(name); found != scope->known.end()) return &found->second;
    if (scope->types.contains(name)) return nullptr;  // hides outer values of the same name
  }
  return nullptr;
}

std::int64_t ShapeScope::opset(std::string_view domain) const {
  for (const ShapeScope* scope = this; scope; scope = scope->parent)
    if (scope->opsets) {
      const auto found = scope->opsets->find(domain);
      return found == scope->opsets->end() ? 0 : found->second;
    }
  return 0;
}

void ShapeScope::add_constants(const Graph& graph) {
  for (const auto& [name, data] : graph.constants) {
    Shape shape(data.shape().begin(), data.shape().end());
    types[name] = {data.dtype(), std::move(shape)};
    // An input of the same name may override the constant: its elements are then not certain.
    const bool overridable =
        std::any_of(graph.inputs.begin(), graph.inputs.end(),
                    [&name = name](const ValueInfo& input) { return input.name == name; });
    if (overridable && data.count() > 64) continue;
    if (auto tensor = known_tensor(data)) known[name] = std::move(*tensor);
  }
}

void ShapeScope::run(const Node& node) {
  const Function* function = model.function_of(node);
  const auto rule = shape_rules().find(node.domain.empty() ? node.op_type : node.domain + "." + node.op_type);
  if (rule != shape_rules().end()) {
    ShapeCall call(node, opset(node.domain), *this);
    rule->second(call);
    propagate_known(call);
  } else if (function) {
    run_function(*function, node);
  }
  for (const std::string& name : node.outputs)
    if (!name.empty()) types.try_emplace(name);
}

void ShapeScope::run_function(const Function& function, const Node& node) {
  ShapeScope inner(model, nullptr, depth + 1);
  inner.opsets = &function.opsets;
  for (std::size_t i = 0; i < function.inputs.size(); ++i) {
    const std::string& name = node.input(i);
    inner.types[function.inputs[i]] = ValueType{};
    if (name.empty()) continue;
    if (const ValueType* type = find_type(name)) inner.types[function.inputs[i]] = *type;
    if (const KnownTensor* tensor = find_known(name)) inner.known[function.inputs[i]] = *tensor;
  }
  for (const Node& body_node : instantiate(function, node)) inner.run(body_node);
  for (std::size_t i = 0; i < function.outputs.size() && i < node.outputs.size(); ++i) {
    if (node.outputs[i].empty()) continue;
    if (const ValueType* type = inner.find_type(function.outputs[i])) types[node.outputs[i]] = *type;
    if (const KnownTensor* tensor = inner.find_known(function.outputs[i])) known[node.outputs[i]] = *tensor;
  }
}

std::vector<std::pair<ValueType, std::optional<KnownTensor>>> ShapeScope::run_subgraph(
    const Graph& graph, const std::vector<ValueType>& inputs) const {
  if (depth >= kMaxDepth) fail("sub-graph '{}' is nested more than {} deep", graph.name, kMaxDepth);
  ShapeScope inner(model, this, depth + 1);
  for (std::size_t i = 0; i < graph.inputs.size(); ++i) {
    ValueType type = i < inputs.size() ? inputs[i] : ValueType{};
    fill_gaps(type, graph.inputs[i], true);
    inner.types[graph.inputs[i].name] = type;
  }
  inner.add_constants(graph);
  for (const Node& node : graph.nodes) inner.run(node);
  std::vector<std::pair<ValueType, std::optional<KnownTensor>>> results;
  for (const ValueInfo& output : graph.outputs) {
    const ValueType* found = inner.find_type(output.name);
    ValueType type = found ? *found : ValueType{};
    fill_gaps(type, output, true);
    const KnownTensor* tensor = inner.find_known(output.name);
    results.emplace_back(type, tensor ? std::optional<KnownTensor>(*tensor) : std::nullopt);
  }
  return results;
}

// --- public ----------------------------------------------------------------------------------------------

void infer_shapes(Graph& graph, const InputShapes& shapes) {
  ShapeScope scope(graph, nullptr, 0);
  run_graph(graph, shapes, scope);
  for (ValueInfo& output : graph.outputs)
    if (const ValueType* type = scope.find_type(output.name)) store(*type, output);
  for (const Node& node : graph.nodes)
    for (const std::string& name : node.outputs) {
      if (name.empty()) continue;
      const ValueType& type = scope.types[name];
      if (!type.tensor || (type.dtype == DType::Undefined && !type.shape)) continue;
      ValueInfo& info = graph.values[name];
      info.name = name;
      info.shape.reset();
      store(type, info);
    }
}

InputShapes concrete_input_shapes(const Graph& graph, const InputShapes& given, std::int64_t batch) {
  InputShapes shapes = given;
  for (const ValueInfo* input : graph.required_inputs()) {
    if (shapes.contains(input->name)) continue;
    const std::string advice =
        fmt::format("give it as --shape {}=1,3,224,224 (with the model's own numbers)", input->name);
    if (!input->other_type.empty()) continue;
    if (!input->shape) fail("input '{}' declares no shape; {}", input->name, advice);
    std::vector<std::int64_t> sizes;
    for (std::size_t i = 0; i < input->shape->size(); ++i) {
      const Dim& dim = (*input->shape)[i];
      if (!dim.known() && i > 0) fail("input '{}' is {}: {}", input->name, format_type(*input), advice);
      sizes.push_back(dim.known() ? dim.value : batch);
    }
    shapes[input->name] = std::move(sizes);
  }
  return shapes;
}

int fold_shape_constants(Graph& graph, const InputShapes& shapes) {
  infer_shapes(graph, shapes);
  ShapeScope scope(graph, nullptr, 0);
  run_graph(graph, {}, scope);
  int folded = 0;
  std::vector<Node> kept;
  for (Node& node : graph.nodes) {
    const bool one = node.outputs.size() == 1 && !node.is("Constant");
    const auto found = one ? scope.known.find(node.outputs[0]) : scope.known.end();
    const bool output = std::any_of(graph.outputs.begin(), graph.outputs.end(), [&](const ValueInfo& value) {
      return one && value.name == node.outputs[0];
    });
    if (found != scope.known.end() && !output) {
      if (auto constant = to_constant(found->second, scope.types[node.outputs[0]].dtype)) {
        graph.values.erase(node.outputs[0]);
        graph.constants.insert_or_assign(node.outputs[0], std::move(*constant));
        ++folded;
        continue;
      }
    }
    kept.push_back(std::move(node));
  }
  graph.nodes = std::move(kept);
  graph.remove_dead();
  return folded;
}

}  // namespace lithe
