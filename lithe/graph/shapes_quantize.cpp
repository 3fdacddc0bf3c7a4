// Shape rules of quantisation operators.
#include "lithe/graph/shape_rules.h"

namespace lithe {
namespace {

/// A per-channel scale must have as many elements as the axis.
void check_scale(const ShapeCall& call) {
  const Shape *x = call.shape(0), *scale = call.shape(1);
  if (!x || !scale || scale->size() != 1 || x->empty()) return;
  const Quantity& have = scale->front();
  if (have.is_integer() && have.integer() == 1) return;
  const Quantity& want = (*x)[call.axis(call.node.attr("axis", std::int64_t{1}), x->size())];
  if (have.is_integer() && want.is_integer() && have.integer() != want.integer())
    call.contradiction("{} scales are given for {} channels of the input {}", have.integer(), want.integer(),
                       format_shape(*x));
}

void quantize(ShapeCall& call) {
  check_scale(call);
  const std::int64_t given = call.node.attr("output_dtype", std::int64_t{0});
  const DType dtype = call.has(2) ? call.dtype(2) : given != 0 ? static_cast<DType>(given) : DType::UInt8;
  call.set(0, dtype, call.type(0).shape);
}

void dequantize(ShapeCall& call) {
  check_scale(call);
  const std::int64_t given = call.node.attr("output_dtype", std::int64_t{0});
  call.set(0, given != 0 ? static_cast<DType>(given) : call.dtype(1), call.type(0).shape);
}

void dynamic_quantize(ShapeCall& call) {
  call.set(0, DType::UInt8, call.type(0).shape);
  call.set(1, DType::Float32, Shape{});
  call.set(2, DType::UInt8, Shape{});
}

void fake_quantize(ShapeCall& call) {
  call.set(0, call.type(0));
}

void subset_quantize(ShapeCall& call) {
  const Shape *x = call.shape(0), *points = call.shape(1);
  if (x && points && x->size() == 4 && points->size() == 2 && (*x)[1].is_integer() &&
      points->front().is_integer() && (*x)[1].integer() != points->front().integer())
    call.contradiction("{} rows of points are given for {} channels of the input {}",
                       points->front().integer(), (*x)[1].integer(), format_shape(*x));
  call.set(0, call.type(0));
}

}  // namespace

void add_quantize_rules(ShapeRules& rules) {
  rules["QuantizeLinear"] = quantize;
  rules["DequantizeLinear"] = dequantize;
  rules["DynamicQuantizeLinear"] = dynamic_quantize;
  rules["lithe.BoundQuantize"] = fake_quantize;  // shaped like its input too
  rules["lithe.FakeQuantize"] = fake_quantize;
  rules["lithe.SubsetQuantize"] = subset_quantize;
  rules["lithe.DynamicSubsetQuantize"] = subset_quantize;
}

}  // namespace lithe
