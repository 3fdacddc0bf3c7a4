// Shape rules of operators that make tensors from nothing or from sizes.
#include <algorithm>
#include <cmath>

#include "lithe/graph/shape_rules.h"

namespace lithe {
namespace {

template <typename T>
TensorData list_tensor(const std::vector<T>& values) {
  return TensorData::from<T>({static_cast<std::int64_t>(values.size())}, values);
}

std::optional<TensorData> constant_value(const Node& node) {
  if (const auto* tensor = node.find<TensorData>("value")) return *tensor;
  if (const auto* value = node.find<std::int64_t>("value_int"))
    return TensorData::scalar<std::int64_t>(*value);
  if (const auto* value = node.find<float>("value_float")) return TensorData::scalar<float>(*value);
  if (const auto* values = node.find<std::vector<std::int64_t>>("value_ints")) return list_tensor(*values);
  if (const auto* values = node.find<std::vector<float>>("value_floats")) return list_tensor(*values);
  return std::nullopt;
}

void constant(ShapeCall& call) {
  if (call.node.has("value_string")) return call.set(0, DType::String, Shape{});
  if (const auto* strings = call.node.find<std::vector<std::string>>("value_strings"))
    return call.set(0, DType::String, Shape{static_cast<std::int64_t>(strings->size())});
  const auto value = constant_value(call.node);
  if (!value) return;
  call.set(0, value->dtype(), Shape(value->shape().begin(), value->shape().end()));
  if (auto tensor = known_tensor(*value)) call.set_known(0, std::move(*tensor));
}

void constant_of_shape(ShapeCall& call) {
  DType dtype = DType::Float32;
  if (const auto* value = call.node.find<TensorData>("value")) dtype = value->dtype();
  const KnownTensor* sizes = call.known(0);
  if (!sizes) {
    const Shape* rank = call.shape(0);
    const bool known_rank =
        rank && rank->size() == 1 && rank->front().is_integer() && rank->front().integer() <= 64;
    return call.set(0, dtype,
                    known_rank
                        ? std::optional<Shape>(Shape(static_cast<std::size_t>(rank->front().integer())))
                        : std::nullopt);
  }
  for (const Quantity& size : sizes->elements)
    if (size.is_integer() && size.integer() < 0) call.contradiction("a size is {}", size.integer());
  call.set(0, dtype, Shape(sizes->elements));
}

void shape(ShapeCall& call) {
  const Shape* x = call.shape(0);
  if (!x) return call.set(0, DType::Int64, Shape(1));
  const auto rank = static_cast<std::int64_t>(x->size());
  const auto clip = [&](std::int64_t at) {
    return std::clamp<std::int64_t>(at < 0 ? at + rank : at, 0, rank);
  };
  const std::int64_t start = clip(call.node.attr("start", std::int64_t{0}));
  const std::int64_t end = std::max(start, clip(call.node.attr("end", rank)));
  call.set(0, DType::Int64, Shape{end - start});
  call.set_known(0, {{end - start}, {x->begin() + start, x->begin() + end}});
}

void size(ShapeCall& call) {
  call.set(0, DType::Int64, Shape{});
  if (const Shape* x = call.shape(0)) call.set_known(0, {{}, {product(*x, 0, x->size())}});
}

void range(ShapeCall& call) {
  const KnownTensor *start = call.known(0), *limit = call.known(1), *delta = call.known(2);
  const bool scalars = start && limit && delta && start->elements.size() == 1 &&
                       limit->elements.size() == 1 && delta->elements.size() == 1;
  Quantity count;
  if (scalars) {
    const Quantity &a = start->elements[0], &b = limit->elements[0], &d = delta->elements[0];
    if (a.is_number() && b.is_number() && d.is_number()) {
      if (d.number() == 0) call.contradiction("the step is 0");
      const double steps = std::ceil((b.number() - a.number()) / d.number());
      if (steps < 9e15) count = static_cast<std::int64_t>(std::max(0.0, steps));
    } else if (a.is_integer() && a.integer() == 0 && d.is_integer() && d.integer() == 1) {
      count = b;
    }
  }
  call.set(0, call.dtype(0), Shape{count});
}

void random(ShapeCall& call) {
  const auto sizes = call.node.attr("shape", std::vector<std::int64_t>{});
  call.set(0, static_cast<DType>(call.node.attr("dtype", std::int64_t{1})),
           Shape(sizes.begin(), sizes.end()));
}

void multinomial(ShapeCall& call) {
  const Shape* x = call.shape(0);
  call.set(0, static_cast<DType>(call.node.attr("dtype", static_cast<std::int64_t>(DType::Int32))),
           Shape{x && !x->empty() ? x->front() : Quantity(), call.node.attr("sample_size", std::int64_t{1})});
}

void window_function(ShapeCall& call) {
  const KnownTensor* length = call.known(0);
  const bool known = length && length->elements.size() == 1;
  call.set(0, static_cast<DType>(call.node.attr("output_datatype", std::int64_t{1})),
           Shape{known ? length->elements[0] : Quantity()});
}

}  // namespace

void add_generator_rules(ShapeRules& rules) {
  rules["Constant"] = constant;
  rules["ConstantOfShape"] = constant_of_shape;
  rules["Shape"] = shape;
  rules["Size"] = size;
  rules["Range"] = range;
  for (const char* name : {"RandomNormal", "RandomUniform"}) rules[name] = random;
  rules["Multinomial"] = multinomial;
  for (const char* name : {"BlackmanWindow", "HannWindow", "HammingWindow"}) rules[name] = window_function;
}

}  // namespace lithe
