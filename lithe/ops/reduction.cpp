// Reductions, positions of extremes, running sums, sorting.
#include <limits>
#include <numeric>

#include "lithe/ops/support.h"

namespace lithe {
namespace {

using at::Tensor;
using Outputs = std::vector<Tensor>;

/// What a reduction reduces. `axes` is empty where nothing is to be reduced.
struct Reduction {
  std::vector<std::int64_t> axes;
  bool keep_dims;
};

/// Axes are an attribute up to opset 17 (ReduceSum: 12) and an input after it. With noop_with_empty_axes, no
/// axes mean none; else they mean all.
Reduction reduction_of(const OpCall& call) {
  const std::int64_t rank = call.input(0).dim();
  std::vector<std::int64_t> axes = call.ints(1, "axes");
  if (axes.empty() && call.node.attr("noop_with_empty_axes", std::int64_t{0}) == 0) {
    axes.resize(static_cast<std::size_t>(rank));
    std::iota(axes.begin(), axes.end(), 0);
  }
  return {checked_axes(call, std::move(axes), rank), call.node.attr("keepdims", std::int64_t{1}) != 0};
}

Tensor sum(const Tensor& x, const Reduction& r) {
  return r.axes.empty() ? x : at::sum(x, r.axes, r.keep_dims, x.scalar_type());
}

Tensor mean(const Tensor& x, const Reduction& r) {
  if (r.axes.empty()) return x;
  if (is_floating(x)) return at::mean(x, r.axes, r.keep_dims);
  std::int64_t count = 1;
  for (const std::int64_t axis : r.axes) count *= x.size(axis);
  if (count == 0) fail("the mean of no integers is undefined");
  return at::div(at::sum(x, r.axes, r.keep_dims, at::kLong), count, "trunc").to(x.scalar_type());
}

/// The least (or greatest) value of a type: the extreme of no values.
at::Scalar bound_of(at::ScalarType type, bool greatest) {
  const auto limits = [&](auto zero) -> at::Scalar {
    using Limits = std::numeric_limits<decltype(zero)>;
    return greatest ? Limits::max() : Limits::lowest();
  };
  switch (type) {
    case at::kBool:
      return greatest;
    case at::kByte:
      return limits(std::uint8_t{});
    case at::kChar:
      return limits(std::int8_t{});
    case at::kShort:
      return limits(std::int16_t{});
    case at::kInt:
      return limits(std::int32_t{});
    case at::kLong:
      return limits(std::int64_t{});
    default:
      return greatest ? std::numeric_limits<double>::infinity() : -std::numeric_limits<double>::infinity();
  }
}

template <bool kMax>
Tensor extreme(const Tensor& x, const Reduction& r) {
  if (r.axes.empty()) return x;
  for (const std::int64_t axis : r.axes)
    if (x.size(axis) == 0)
      return at::full_like(at::sum(x, r.axes, r.keep_dims, x.scalar_type()),
                           bound_of(x.scalar_type(), !kMax));
  return kMax ? at::amax(x, r.axes, r.keep_dims) : at::amin(x, r.axes, r.keep_dims);
}

Tensor product(const Tensor& x, const Reduction& r) {
  Tensor out = x;
  for (const std::int64_t axis : r.axes) out = at::prod(out, axis, /*keepdim=*/true, x.scalar_type());
  if (r.keep_dims || r.axes.empty()) return out;
  std::vector<bool> reduced(static_cast<std::size_t>(x.dim()));
  for (const std::int64_t axis : r.axes) reduced[static_cast<std::size_t>(axis)] = true;
  std::vector<std::int64_t> kept;
  for (std::int64_t axis = 0; axis < x.dim(); ++axis)
    if (!reduced[static_cast<std::size_t>(axis)]) kept.push_back(x.size(axis));
  return out.reshape(kept);
}

Tensor sum_of_absolutes(const Tensor& x, const Reduction& r) {
  return sum(at::abs(x), r);
}
Tensor sum_of_squares(const Tensor& x, const Reduction& r) {
  return sum(x * x, r);
}

/// A function of floats, for any type: integers go through float64 and are truncated.
template <typename Function>
Tensor through_double(const Tensor& x, Function&& function) {
  return is_floating(x) ? function(x) : function(x.to(at::kDouble)).to(x.scalar_type());
}

Tensor euclidean_norm(const Tensor& x, const Reduction& r) {
  if (r.axes.empty()) return at::abs(x);
  // at::norm, unlike the root of a sum, has a gradient (0) at the origin.
  return through_double(x, [&](const Tensor& y) { return at::norm(y, 2, r.axes, r.keep_dims); });
}

Tensor log_of_sum(const Tensor& x, const Reduction& r) {
  return through_double(x, [&](const Tensor& y) { return at::log(sum(y, r)); });
}

Tensor log_of_sum_of_exponentials(const Tensor& x, const Reduction& r) {
  if (r.axes.empty()) return x;
  return through_double(x, [&](const Tensor& y) { return at::logsumexp(y, r.axes, r.keep_dims); });
}

template <Tensor (*kFunction)(const Tensor&, const Reduction&)>
Outputs reduce(const OpCall& call) {
  const Reduction r = reduction_of(call);
  return {in_float(call.input(0), [&](const Tensor& x) { return kFunction(x, r); })};
}

template <bool kMax>
Outputs position_of_extreme(const OpCall& call) {
  Tensor x = call.input(0);
  if (is_half(x)) x = x.to(at::kFloat);
  const std::int64_t axis = checked_axis(call, call.node.attr("axis", std::int64_t{0}), x.dim());
  const bool keep_dims = call.node.attr("keepdims", std::int64_t{1}) != 0;
  const bool last = call.node.attr("select_last_index", std::int64_t{0}) != 0;
  if (x.size(axis) == 0) fail("{}: axis {} of the input is empty", describe(call.node), axis);
  if (last) x = at::flip(x, {axis});
  const Tensor position = kMax ? at::argmax(x, axis, keep_dims) : at::argmin(x, axis, keep_dims);
  return {last ? at::rsub(position, x.size(axis) - 1) : position};
}

Outputs cumulative_sum(const OpCall& call) {
  const Tensor& x = call.input(0);
  const std::vector<std::int64_t> given = call.ints(1);
  if (given.size() != 1) fail("{}: the axis must be one number", describe(call.node));
  const std::int64_t axis = checked_axis(call, given[0], x.dim());
  const bool exclusive = call.node.attr("exclusive", std::int64_t{0}) != 0;
  const bool reverse = call.node.attr("reverse", std::int64_t{0}) != 0;
  return {in_float(x, [&](Tensor y) {
    if (reverse) y = at::flip(y, {axis});
    if (exclusive && y.size(axis) > 0) {
      const Tensor first = at::zeros_like(y.narrow(axis, 0, 1));
      y = at::cat({first, y.narrow(axis, 0, y.size(axis) - 1)}, axis);
    }
    y = at::cumsum(y, axis, y.scalar_type());
    return reverse ? at::flip(y, {axis}) : y;
  })};
}

/// Equal elements come in the order of their indices, which a stable sort gives and at::topk does not.
/// The number is an attribute up to opset 9, an input from 10.
Outputs top_k(const OpCall& call) {
  const Tensor& x = call.input(0);
  const std::int64_t axis = checked_axis(call, call.node.attr("axis", std::int64_t{-1}), x.dim());
  const bool largest = call.node.attr("largest", std::int64_t{1}) != 0;
  std::int64_t k = call.node.attr("k", std::int64_t{0});
  if (call.opset >= 10) {
    const std::vector<std::int64_t> given = call.ints(1);
    if (given.size() != 1) fail("{}: k must be one number", describe(call.node));
    k = given[0];
  }
  if (k < 0 || k > x.size(axis))
    fail("{}: k = {} but axis {} has {} elements", describe(call.node), k, axis, x.size(axis));
  const bool on_half_cpu = is_half(x) && x.device().is_cpu();
  const auto [values, indices] = at::sort(on_half_cpu ? x.to(at::kFloat) : x, /*stable=*/true, axis, largest);
  return {values.narrow(axis, 0, k).to(x.scalar_type()), indices.narrow(axis, 0, k)};
}

/// Outputs: the unique slices, the index of each one's first occurrence, for each input slice its place among
/// the unique ones, and how often each occurs. Without `sorted` they keep the order of first occurrence.
Outputs unique(const OpCall& call) {
  const Tensor& x = call.input(0);
  const bool flat = !call.node.has("axis");
  const std::int64_t axis = flat ? 0 : checked_axis(call, call.node.attr("axis", std::int64_t{0}), x.dim());
  const Tensor slices = flat ? x.reshape({-1}) : x;
  auto [values, inverse, counts] = at::unique_dim(slices, axis, /*sorted=*/true, /*return_inverse=*/true,
                                                  /*return_counts=*/true);
  const Tensor places = inverse.to(at::kCPU).contiguous();
  const std::int64_t total = places.numel();
  Tensor first = at::zeros({values.size(axis)}, at::kLong);
  for (std::int64_t i = total - 1; i >= 0; --i)
    first.data_ptr<std::int64_t>()[places.data_ptr<std::int64_t>()[i]] = i;
  first = first.to(x.device());
  if (call.node.attr("sorted", std::int64_t{1}) == 0) {
    const Tensor order = at::argsort(first);
    values = values.index_select(axis, order);
    counts = counts.index_select(0, order);
    first = first.index_select(0, order);
    inverse = at::argsort(order).index_select(0, inverse);
  }
  return {values, first, inverse, counts};
}

}  // namespace

void register_reduction(OpRegistry& registry) {
  registry.add("ReduceSum", reduce<sum>);
  registry.add("ReduceMean", reduce<mean>);
  registry.add("ReduceMax", reduce<extreme<true>>);
  registry.add("ReduceMin", reduce<extreme<false>>);
  registry.add("ReduceProd", reduce<product>);
  registry.add("ReduceL1", reduce<sum_of_absolutes>);
  registry.add("ReduceL2", reduce<euclidean_norm>);
  registry.add("ReduceSumSquare", reduce<sum_of_squares>);
  registry.add("ReduceLogSum", reduce<log_of_sum>);
  registry.add("ReduceLogSumExp", reduce<log_of_sum_of_exponentials>);
  registry.add("ArgMax", position_of_extreme<true>);
  registry.add("ArgMin", position_of_extreme<false>);
  registry.add("CumSum", cumulative_sum, 11);
  registry.add("TopK", top_k);
  registry.add("Unique", unique, 11);
}

}  // namespace lithe
