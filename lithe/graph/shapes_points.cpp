// Shape rules of the operators that search among points.
#include "lithe/graph/shape_rules.h"

namespace lithe {
namespace {

/// An attribute that is a length; unknown where it is missing.
Quantity length_of(const ShapeCall& call, const char* attribute) {
  const auto* value = call.node.find<std::int64_t>(attribute);
  if (!value) return {};
  if (*value < 1 || *value > kLargestSize) call.contradiction("'{}' is {}", attribute, *value);
  return Quantity(*value);
}

std::optional<Shape> rows_of(ShapeCall& call, std::size_t input) {
  call.require_rank(input, 3);
  if (const Shape* shape = call.shape(input)) return Shape{(*shape)[0], (*shape)[1]};
  return std::nullopt;
}

void farthest(ShapeCall& call) {
  std::optional<Shape> shape = rows_of(call, 0);
  if (shape) (*shape)[1] = length_of(call, "count");
  call.set(0, DType::Int64, shape);
}

void ball(ShapeCall& call) {
  rows_of(call, 0);
  std::optional<Shape> shape = rows_of(call, 1);
  if (shape) shape->push_back(length_of(call, "samples"));
  call.set(0, DType::Int64, shape);
}

void nearest(ShapeCall& call) {
  rows_of(call, 0);
  std::optional<Shape> shape = rows_of(call, 1);
  if (shape) shape->push_back(length_of(call, "k"));
  call.set(0, DType::Int64, shape);
  call.set(1, call.dtype(1), shape);
}

void centres(ShapeCall& call) {
  std::optional<Shape> shape = rows_of(call, 0);
  if (shape) *shape = {(*shape)[0], Quantity(), Quantity(3)};
  call.set(0, call.dtype(0), shape);
}

}  // namespace

void add_point_rules(ShapeRules& rules) {
  rules["lithe.FarthestPointSample"] = farthest;
  rules["lithe.BallQuery"] = ball;
  rules["lithe.NearestPoints"] = nearest;
  rules["lithe.SuperpointCentres"] = centres;
  rules["lithe.StopGradient"] = same_as_first;
}

}  // namespace lithe
