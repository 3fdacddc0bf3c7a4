// Gather, scatter, and masks to indices.
#include <algorithm>
#include <numeric>

#include "lithe/base/math.h"
#include "lithe/ops/support.h"

namespace lithe {
namespace {

using at::Tensor;
using Ints = std::vector<std::int64_t>;
using Outputs = std::vector<Tensor>;

/// Indices as int64 counted from 0. On the CPU they are checked against [-length, length - 1];
/// on a GPU LibTorch's own kernels check.
Tensor checked_indices(const OpCall& call, const Tensor& indices, std::int64_t length) {
  Tensor out = indices.to(at::kLong);
  if (out.numel() == 0) return out;
  if (out.device().is_cpu()) {
    const std::int64_t least = out.min().item<std::int64_t>(), greatest = out.max().item<std::int64_t>();
    if (least < -length || greatest >= length)
      fail("{}: index {} is outside an axis of {} elements", describe(call.node),
           least < -length ? least : greatest, length);
    if (least >= 0) return out;
  }
  return at::where(out < 0, out + length, out);
}

Outputs gather(const OpCall& call) {
  const Tensor& x = call.input(0);
  const std::int64_t axis = checked_axis(call, call.node.attr("axis", std::int64_t{0}), x.dim());
  const Tensor indices = checked_indices(call, call.input(1), x.size(axis));
  if (indices.dim() == 0 && indices.device().is_cpu()) return {x.select(axis, indices.item<std::int64_t>())};
  const Tensor picked = x.index_select(axis, indices.reshape({-1}));
  if (indices.dim() == 1) return {picked};
  Ints shape = shape_of(x);
  shape.erase(shape.begin() + axis);
  shape.insert(shape.begin() + axis, indices.sizes().begin(), indices.sizes().end());
  return {picked.reshape(shape)};
}

Outputs gather_elements(const OpCall& call) {
  const Tensor& x = call.input(0);
  const std::int64_t axis = checked_axis(call, call.node.attr("axis", std::int64_t{0}), x.dim());
  return {at::gather(x, axis, checked_indices(call, call.input(1), x.size(axis)))};
}

/// Index tuples into the dimensions [first, first + width) of `x` as single numbers, and how many those are.
struct LinearIndices {
  Tensor indices;      // of the shape of the tuples without their last dimension
  std::int64_t total;  // of the dimensions indexed
};

LinearIndices linear_indices(const OpCall& call, const Tensor& x, const Tensor& tuples, std::int64_t first) {
  const std::int64_t width = tuples.dim() > 0 ? tuples.size(-1) : 0;
  if (tuples.dim() == 0 || width > x.dim() - first)
    fail("{}: indices of shape {} do not fit data of shape {}", describe(call.node),
         format_shape(shape_of(tuples)), format_shape(shape_of(x)));
  Ints shape = shape_of(tuples);
  shape.pop_back();
  Tensor linear = at::zeros(shape, tuples.options().dtype(at::kLong));
  std::int64_t total = 1;
  for (std::int64_t i = width - 1; i >= 0; --i) {
    linear = linear + checked_indices(call, tuples.select(-1, i), x.size(first + i)) * total;
    total *= x.size(first + i);
  }
  return {linear, total};
}

Outputs gather_nd(const OpCall& call) {
  const Tensor &x = call.input(0), &tuples = call.input(1);
  const std::int64_t batch_dims = call.node.attr("batch_dims", std::int64_t{0});
  if (batch_dims < 0 || batch_dims >= std::min(x.dim(), tuples.dim()) ||
      x.sizes().slice(0, static_cast<std::size_t>(batch_dims)) !=
          tuples.sizes().slice(0, static_cast<std::size_t>(batch_dims)))
    fail("{}: batch_dims {} does not fit data of shape {} and indices of shape {}", describe(call.node),
         batch_dims, format_shape(shape_of(x)), format_shape(shape_of(tuples)));
  auto [linear, total] = linear_indices(call, x, tuples, batch_dims);
  std::int64_t batches = 1, rest = 1;
  for (std::int64_t i = 0; i < batch_dims; ++i) batches *= x.size(i);
  const std::int64_t tail = batch_dims + tuples.size(-1);
  for (std::int64_t i = tail; i < x.dim(); ++i) rest *= x.size(i);
  Ints shape = shape_of(linear);
  shape.insert(shape.end(), x.sizes().begin() + tail, x.sizes().end());
  if (batches > 1) {
    const Tensor offsets = at::arange(batches, linear.options()) * total;
    linear = linear.reshape({batches, -1}) + offsets.unsqueeze(1);
  }
  return {x.reshape({batches * total, rest}).index_select(0, linear.reshape({-1})).reshape(shape)};
}

/// LibTorch's name for the attribute `reduction`; "" for none.
std::string reduction_name(const OpCall& call) {
  const std::string reduction = call.node.attr("reduction", "none");
  if (reduction == "none") return "";
  if (reduction == "add") return "sum";
  if (reduction == "mul") return "prod";
  if (reduction == "max") return "amax";
  if (reduction == "min") return "amin";
  fail("{}: reduction='{}' is not one of none, add, mul, max, min", describe(call.node), reduction);
}

Tensor scatter(const Tensor& x, std::int64_t axis, const Tensor& indices, const Tensor& updates,
               const std::string& reduction) {
  return in_float(x, updates, [&](const Tensor& data, const Tensor& values) {
    if (reduction.empty()) return at::scatter(data, axis, indices, values);
    if (reduction == "sum") return at::scatter_add(data, axis, indices, values);
    return at::scatter_reduce(data, axis, indices, values, reduction, /*include_self=*/true);
  });
}

Outputs scatter_elements(const OpCall& call) {
  const Tensor &x = call.input(0), &updates = call.input(2);
  const std::int64_t axis = checked_axis(call, call.node.attr("axis", std::int64_t{0}), x.dim());
  const Tensor indices = checked_indices(call, call.input(1), x.size(axis));
  if (indices.sizes() != updates.sizes())
    fail("{}: indices have shape {} but updates {}", describe(call.node), format_shape(shape_of(indices)),
         format_shape(shape_of(updates)));
  return {scatter(x, axis, indices, updates, reduction_name(call))};
}

Outputs scatter_nd(const OpCall& call) {
  const Tensor &x = call.input(0), &updates = call.input(2);
  const auto [linear, total] = linear_indices(call, x, call.input(1), 0);
  const std::int64_t width = call.input(1).size(-1);
  Ints expected = shape_of(linear);
  expected.insert(expected.end(), x.sizes().begin() + width, x.sizes().end());
  if (shape_of(updates) != expected)
    fail("{}: updates have shape {} but data and indices ask for {}", describe(call.node),
         format_shape(shape_of(updates)), format_shape(expected));
  if (updates.numel() == 0) return {x};
  const std::int64_t rest = x.numel() / total;
  const Tensor rows = x.reshape({total, rest}), values = updates.reshape({linear.numel(), rest});
  const Tensor places = linear.reshape({-1, 1}).expand({linear.numel(), rest});
  return {scatter(rows, 0, places, values, reduction_name(call)).reshape(x.sizes())};
}

Outputs nonzero(const OpCall& call) {
  const Tensor& x = call.input(0);
  return {at::nonzero(x.dim() == 0 ? x.reshape({1}) : x).t()};
}

Outputs one_hot(const OpCall& call) {
  const Tensor &indices = call.input(0), &values = call.input(2);
  const Ints given = call.ints(1);
  if (given.size() != 1 || given[0] < 0 || values.numel() != 2)
    fail("{}: the depth must be one number and the values two", describe(call.node));
  const std::int64_t depth = given[0];
  const std::int64_t axis = checked_axis(call, call.node.attr("axis", std::int64_t{-1}), indices.dim() + 1);
  Ints shape(static_cast<std::size_t>(indices.dim()) + 1, 1), full = shape_of(indices);
  shape[static_cast<std::size_t>(axis)] = depth;
  full.insert(full.begin() + axis, depth);
  check_output_shape(call, full);
  const Tensor whole = indices.to(at::kLong);
  const Tensor wrapped = at::where(whole < 0, whole + depth, whole).unsqueeze(axis);
  const Tensor hot = wrapped == at::arange(depth, wrapped.options()).reshape(shape);
  return {at::where(hot, values.select(0, 1), values.select(0, 0))};
}

Outputs compress(const OpCall& call) {
  const bool flat = !call.node.has("axis");
  const Tensor x = flat ? call.input(0).reshape({-1}) : call.input(0);
  const std::int64_t axis = flat ? 0 : checked_axis(call, call.node.attr("axis", std::int64_t{0}), x.dim());
  const Tensor& condition = call.input(1);
  if (condition.dim() != 1 || condition.size(0) > x.size(axis))
    fail("{}: the condition of shape {} does not fit axis {} of {} elements", describe(call.node),
         format_shape(shape_of(condition)), axis, x.size(axis));
  return {x.index_select(axis, at::nonzero(condition).reshape({-1}))};
}

}  // namespace

void register_indexing(OpRegistry& registry) {
  registry.add("Gather", gather);
  registry.add("GatherElements", gather_elements, 11);
  registry.add("GatherND", gather_nd, 11);
  registry.add("Scatter", scatter_elements, 9, 10);
  registry.add("ScatterElements", scatter_elements, 11);
  registry.add("ScatterND", scatter_nd, 11);
  registry.add("NonZero", nonzero, 9);
  registry.add("OneHot", one_hot, 9);
  registry.add("Compress", compress, 9);
}

}  // namespace lithe
