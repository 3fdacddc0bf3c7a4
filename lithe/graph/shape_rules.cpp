#include "lithe/graph/shape_rules.h"

#include <algorithm>

namespace lithe {

ShapeCall::ShapeCall(const Node& node, std::int64_t opset, ShapeScope& scope)
    : node(node), opset(opset), scope(scope) {
  types_.reserve(node.inputs.size());
  for (const std::string& name : node.inputs) {
    const ValueType* found = name.empty() ? nullptr : scope.find_type(name);
    types_.push_back(found ? *found : ValueType{});
  }
}

const KnownTensor* ShapeCall::known(std::size_t i) const {
  return has(i) ? scope.find_known(node.inputs[i]) : nullptr;
}

std::optional<std::vector<std::int64_t>> ShapeCall::ints(std::size_t i) const {
  const KnownTensor* tensor = known(i);
  return tensor ? tensor->integers() : std::nullopt;
}

std::optional<std::vector<std::int64_t>> ShapeCall::ints(std::size_t i, std::string_view attribute,
                                                         std::vector<std::int64_t> fallback) const {
  if (has(i)) return ints(i);
  return node.attr(attribute, std::move(fallback));
}

void ShapeCall::set(std::size_t output, DType dtype, std::optional<Shape> shape) {
  set(output, ValueType{dtype, std::move(shape)});
}

void ShapeCall::set(std::size_t output, ValueType type) {
  const std::string& name = node.output(output);
  if (type.shape)
    for (const Quantity& size : *type.shape)
      if (size.is_integer() && (size.integer() < 0 || size.integer() > kLargestSize))
        contradiction("the output would have a dimension of {}", size.integer());
  if (!name.empty()) scope.types[name] = std::move(type);
}

void ShapeCall::set_known(std::size_t output, KnownTensor tensor) {
  const std::string& name = node.output(output);
  if (name.empty()) return;
  scope.known[name] = std::move(tensor);
}

std::size_t ShapeCall::axis(std::int64_t value, std::size_t rank, bool inclusive) const {
  const auto limit = static_cast<std::int64_t>(rank) + (inclusive ? 1 : 0);
  const std::int64_t axis = value < 0 ? value + limit : value;
  if (axis < 0 || axis >= limit) contradiction("axis {} does not exist in a tensor of rank {}", value, rank);
  return static_cast<std::size_t>(axis);
}

void ShapeCall::require_rank(std::size_t input, std::size_t rank) const {
  if (const Shape* s = shape(input); s && s->size() != rank)
    contradiction("input '{}' has shape {}, but {} dimensions are needed", node.input(input),
                  format_shape(*s), rank);
}

const ShapeRules& shape_rules() {
  static const ShapeRules rules = [] {
    ShapeRules all;
    add_elementwise_rules(all);
    add_window_rules(all);
    add_linear_rules(all);
    add_layout_rules(all);
    add_indexing_rules(all);
    add_image_rules(all);
    add_quantize_rules(all);
    add_generator_rules(all);
    add_control_rules(all);
    add_token_rules(all);
    add_point_rules(all);
    return all;
  }();
  return rules;
}

std::optional<Shape> broadcast(const ShapeCall& call, const std::optional<Shape>& a,
                               const std::optional<Shape>& b) {
  if (!a || !b) return std::nullopt;
  const Shape& wide = a->size() >= b->size() ? *a : *b;
  const Shape& narrow = a->size() >= b->size() ? *b : *a;
  Shape result = wide;
  const std::size_t offset = wide.size() - narrow.size();
  for (std::size_t i = 0; i < narrow.size(); ++i) {
    const Quantity& x = wide[offset + i];
    const Quantity& y = narrow[i];
    Quantity& out = result[offset + i];
    if (x.is_integer() && y.is_integer()) {
      if (x.integer() != y.integer() && x.integer() != 1 && y.integer() != 1)
        call.contradiction("shapes {} and {} do not broadcast", format_shape(*a), format_shape(*b));
      out = x.integer() == 1 ? y : x;
    } else if (x.is_integer()) {
      out = x.integer() == 1 ? y : x;
    } else if (y.is_integer()) {
      out = y.integer() == 1 ? x : y;
    } else if (!x.same(y)) {
      out = Quantity();
    }
  }
  return result;
}

ValueType merge_alternatives(const ValueType& a, const ValueType& b) {
  ValueType merged;
  merged.tensor = a.tensor && b.tensor;
  merged.dtype = a.dtype == b.dtype ? a.dtype : DType::Undefined;
  if (!a.shape || !b.shape || a.shape->size() != b.shape->size()) return merged;
  merged.shape = *a.shape;
  for (std::size_t i = 0; i < a.shape->size(); ++i)
    if (!(*a.shape)[i].same((*b.shape)[i])) (*merged.shape)[i] = Quantity();
  return merged;
}

void same_as_first(ShapeCall& call) {
  call.set(0, call.type(0));
}

Quantity product(const Shape& shape, std::size_t begin, std::size_t end) {
  Quantity result(1);
  for (std::size_t i = begin; i < end; ++i) result = result * shape[i];
  return result;
}

}  // namespace lithe
