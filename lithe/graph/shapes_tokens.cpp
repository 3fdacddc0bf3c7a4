// Shape rules of the operators that learn how many tokens to keep. Those that files hold have functions.
#include "lithe/graph/shape_rules.h"

namespace lithe {
namespace {

/// x, attention, size, mask, two rates: x, sizes and mask keep their length while rates are learnt.
void reduce_soft(ShapeCall& call) {
  call.set(0, call.type(0));
  std::optional<Shape> rows;
  if (const Shape* x = call.shape(0); x && x->size() == 3) rows = Shape{(*x)[0], (*x)[1]};
  call.set(1, call.dtype(0), rows);
  call.set(2, call.dtype(0), rows);
  call.set(3, DType::Float32, Shape{});
  call.set(4, DType::Float32, Shape{});
}

void mean(ShapeCall& call) {
  const Shape* x = call.shape(0);
  if (!x || x->size() != 3) return call.set(0, call.dtype(0));
  const bool keep = call.node.attr("keepdims", std::int64_t{1}) != 0;
  call.set(0, call.dtype(0), keep ? Shape{(*x)[0], Quantity(1), (*x)[2]} : Shape{(*x)[0], (*x)[2]});
}

void macs(ShapeCall& call) {
  call.set(0, DType::Float32, Shape{});
}

}  // namespace

void add_token_rules(ShapeRules& rules) {
  rules["lithe.MaskedSoftmax"] = same_as_first;
  rules["lithe.TokenReduceSoft"] = reduce_soft;
  rules["lithe.TokenMacs"] = macs;
  rules["lithe.TokenMean"] = mean;
}

}  // namespace lithe
