// Shape rules of gathers, reductions and selections.
#include <algorithm>
#include <cmath>

#include "lithe/graph/shape_rules.h"

namespace lithe {
namespace {

void gather(ShapeCall& call) {
  const Shape *x = call.shape(0), *indices = call.shape(1);
  if (!x || !indices) return call.set(0, call.dtype(0));
  const std::size_t axis = call.axis(call.node.attr("axis", std::int64_t{0}), x->size());
  const auto at = static_cast<std::ptrdiff_t>(axis);
  Shape out(x->begin(), x->begin() + at);
  out.insert(out.end(), indices->begin(), indices->end());
  out.insert(out.end(), x->begin() + at + 1, x->end());
  call.set(0, call.dtype(0), std::move(out));
}

void gather_elements(ShapeCall& call) {
  call.set(0, call.dtype(0), call.type(1).shape);
}

void gather_nd(ShapeCall& call) {
  const Shape *x = call.shape(0), *indices = call.shape(1);
  if (!x || !indices || indices->empty() || !indices->back().is_integer()) return call.set(0, call.dtype(0));
  const std::int64_t batch = call.node.attr("batch_dims", std::int64_t{0});
  const std::int64_t fixed = batch >= 0 && batch <= 64 ? batch + indices->back().integer() : -1;
  if (fixed < 0 || fixed > static_cast<std::int64_t>(x->size()))
    call.contradiction("indices {} do not fit the input {}", format_shape(*indices), format_shape(*x));
  Shape out(indices->begin(), indices->end() - 1);
  out.insert(out.end(), x->begin() + fixed, x->end());
  call.set(0, call.dtype(0), std::move(out));
}

void one_hot(ShapeCall& call) {
  const Shape* indices = call.shape(0);
  if (!indices) return call.set(0, call.dtype(2));
  Quantity depth;
  if (const KnownTensor* tensor = call.known(1); tensor && tensor->elements.size() == 1) {
    depth = tensor->elements[0];
    if (depth.is_real() && !(std::abs(depth.number()) < 1e15)) depth = Quantity();
    if (depth.is_real()) depth = static_cast<std::int64_t>(depth.number());
  }
  Shape out = *indices;
  const std::size_t axis = call.axis(call.node.attr("axis", std::int64_t{-1}), out.size(), true);
  out.insert(out.begin() + static_cast<std::ptrdiff_t>(axis), depth);
  call.set(0, call.dtype(2), std::move(out));
}

void non_zero(ShapeCall& call) {
  const Shape* x = call.shape(0);
  const Quantity rank =
      x ? Quantity(static_cast<std::int64_t>(std::max<std::size_t>(1, x->size()))) : Quantity();
  call.set(0, DType::Int64, Shape{rank, Quantity()});
}

void compress(ShapeCall& call) {
  const Shape* x = call.shape(0);
  if (!call.node.has("axis")) return call.set(0, call.dtype(0), Shape(1));
  if (!x) return call.set(0, call.dtype(0));
  Shape out = *x;
  out[call.axis(call.node.attr("axis", std::int64_t{0}), x->size())] = Quantity();
  call.set(0, call.dtype(0), std::move(out));
}

void unique(ShapeCall& call) {
  const Shape* x = call.shape(0);
  std::optional<Shape> out = Shape(1);
  if (call.node.has("axis")) {
    out.reset();
    if (x) {
      out = *x;
      (*out)[call.axis(call.node.attr("axis", std::int64_t{0}), x->size())] = Quantity();
    }
  }
  call.set(0, call.dtype(0), out);
  for (std::size_t i = 1; i < 4; ++i) call.set(i, DType::Int64, Shape(1));
}

std::optional<Shape> reduced(const ShapeCall& call, const std::vector<std::int64_t>& axes, bool keep) {
  const Shape* x = call.shape(0);
  if (!x) return std::nullopt;
  std::vector<bool> gone(x->size(), axes.empty());
  for (const std::int64_t value : axes) gone[call.axis(value, x->size())] = true;
  Shape out;
  for (std::size_t i = 0; i < x->size(); ++i) {
    if (!gone[i])
      out.push_back((*x)[i]);
    else if (keep)
      out.push_back(1);
  }
  return out;
}

void reduce(ShapeCall& call) {
  const bool keep = call.node.attr("keepdims", std::int64_t{1}) != 0;
  const auto axes = call.ints(1, "axes", {});
  if (!axes) {
    const Shape* x = call.shape(0);
    return call.set(0, call.dtype(0), keep && x ? std::optional<Shape>(Shape(x->size())) : std::nullopt);
  }
  if (axes->empty() && call.node.attr("noop_with_empty_axes", std::int64_t{0}) != 0)
    return same_as_first(call);
  call.set(0, call.dtype(0), reduced(call, *axes, keep));
}

void arg_extreme(ShapeCall& call) {
  const bool keep = call.node.attr("keepdims", std::int64_t{1}) != 0;
  call.set(0, DType::Int64, reduced(call, {call.node.attr("axis", std::int64_t{0})}, keep));
}

void top_k(ShapeCall& call) {
  const Shape* x = call.shape(0);
  std::optional<Shape> out;
  if (x) {
    out = *x;
    Quantity k;
    if (!call.has(1) && call.node.has("k")) k = call.node.attr("k", std::int64_t{0});
    if (const KnownTensor* tensor = call.known(1); tensor && tensor->elements.size() == 1)
      k = tensor->elements[0];
    Quantity& size = (*out)[call.axis(call.node.attr("axis", std::int64_t{-1}), x->size())];
    if (k.is_integer() && size.is_integer() && k.integer() > size.integer())
      call.contradiction("the {} largest of {} elements are asked for", k.integer(), size.integer());
    size = k;
  }
  call.set(0, call.dtype(0), out);
  call.set(1, DType::Int64, out);
}

}  // namespace

void add_indexing_rules(ShapeRules& rules) {
  rules["Gather"] = gather;
  rules["GatherElements"] = gather_elements;
  rules["GatherND"] = gather_nd;
  rules["OneHot"] = one_hot;
  rules["NonZero"] = non_zero;
  rules["Compress"] = compress;
  rules["Unique"] = unique;
  for (const char* name : {"ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax",
                           "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare"})
    rules[name] = reduce;
  for (const char* name : {"ArgMax", "ArgMin"}) rules[name] = arg_extreme;
  rules["TopK"] = top_k;
}

}  // namespace lithe
