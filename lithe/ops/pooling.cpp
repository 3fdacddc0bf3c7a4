// Max, average and Lp pooling, local and global, and MaxUnpool.
#include <algorithm>
#include <limits>

#include "lithe/ops/support.h"
#include "lithe/ops/window.h"

namespace lithe {
namespace {

using Ints = std::vector<std::int64_t>;

Ints spatial(const OpCall& call, const at::Tensor& x) {
  if (x.dim() < 3)
    fail("{}: the input has shape {}; it needs batch, channels and at least one spatial axis",
         describe(call.node), format_shape(shape_of(x)));
  return Ints(x.sizes().begin() + 2, x.sizes().end());
}

struct Pool {
  Window window;
  Ints sizes, outputs;
  Ints extra;  // room that ceil_mode asks for behind the padded input, per axis
};

Pool read_pool(const OpCall& call, const at::Tensor& x) {
  const bool ceil_mode = call.node.attr("ceil_mode", std::int64_t{0}) != 0;
  Pool pool;
  pool.sizes = spatial(call, x);
  pool.window =
      read_window(call, spatial_attr(call, "kernel_shape", pool.sizes.size(), 1), pool.sizes, ceil_mode);
  Ints shape{x.size(0), x.size(1)};
  for (std::size_t i = 0; i < pool.sizes.size(); ++i) {
    const Window& w = pool.window;
    pool.outputs.push_back(w.output(i, pool.sizes[i], ceil_mode));
    shape.push_back(pool.outputs[i]);
    if (pool.outputs[i] < 1 || w.pads_begin[i] < 0 || w.pads_end[i] < 0)
      fail("{}: the window {} with pads {} {} does not fit the input {}", describe(call.node),
           format_shape(w.kernel), format_shape(w.pads_begin), format_shape(w.pads_end),
           format_shape(shape_of(x)));
    const std::int64_t reach = (pool.outputs[i] - 1) * w.strides[i] + w.extent(i);
    pool.extra.push_back(std::max<std::int64_t>(0, reach - pool.sizes[i] - w.pads_begin[i] - w.pads_end[i]));
  }
  check_output_shape(call, shape);
  return pool;
}

/// Adds unit spatial axes until there are `rank`, or takes them away.
at::Tensor with_spatial_rank(const at::Tensor& x, std::int64_t rank) {
  if (x.dim() == rank + 2) return x;  // a reshape would lose the channels-last layout of a single image
  Ints shape = shape_of(x);
  while (static_cast<std::int64_t>(shape.size()) < rank + 2) shape.insert(shape.begin() + 2, 1);
  return x.reshape(shape);
}

/// All windows of the padded input: [N, C, outputs..., kernel...].
at::Tensor windows_of(const Pool& pool, const at::Tensor& padded) {
  at::Tensor view = padded;
  const Window& w = pool.window;
  for (std::size_t i = 0; i < w.rank(); ++i) {
    view = view.unfold(static_cast<std::int64_t>(i) + 2, w.extent(i), w.strides[i]);
    view = view.narrow(static_cast<std::int64_t>(i) + 2, 0, pool.outputs[i]);
  }
  for (std::size_t i = 0; i < w.rank(); ++i)
    view = view.slice(static_cast<std::int64_t>(2 + w.rank() + i), 0, w.extent(i), w.dilations[i]);
  return view;
}

at::Scalar lowest(const at::Tensor& x) {
  switch (x.scalar_type()) {
    case at::kChar:
      return std::numeric_limits<std::int8_t>::min();
    case at::kByte:
      return 0;
    case at::kShort:
      return std::numeric_limits<std::int16_t>::min();
    case at::kInt:
      return std::numeric_limits<std::int32_t>::min();
    case at::kLong:
      return std::numeric_limits<std::int64_t>::min();
    default:
      return -std::numeric_limits<double>::infinity();
  }
}

/// Numbers positions of the input: row-major over (N, C, spatial), or column-major in the spatial axes.
at::Tensor flat_indices(const Pool& pool, const at::Tensor& spatial_index, const at::Tensor& x,
                        bool column_major) {
  std::int64_t plane = 1;
  for (const std::int64_t size : pool.sizes) plane *= size;
  at::Tensor index = spatial_index;
  if (column_major) {
    at::Tensor rest = index, transposed = at::zeros_like(index);
    Ints weight(pool.sizes.size(), 1);
    for (std::size_t i = 1; i < weight.size(); ++i) weight[i] = weight[i - 1] * pool.sizes[i - 1];
    for (std::size_t i = pool.sizes.size(); i-- > 0;) {
      transposed = transposed + at::remainder(rest, pool.sizes[i]) * weight[i];
      rest = at::div(rest, pool.sizes[i], "floor");
    }
    index = transposed;
  }
  Ints shape(static_cast<std::size_t>(x.dim()), 1);
  shape[0] = x.size(0);
  shape[1] = x.size(1);
  return index + at::arange(x.size(0) * x.size(1), index.options()).view(shape) * plane;
}

std::vector<at::Tensor> max_pool_general(const OpCall& call, const Pool& pool, const at::Tensor& x,
                                         bool with_indices) {
  const Window& w = pool.window;
  const at::Tensor padded = at::constant_pad_nd(x, torch_pads(w, pool.extra), lowest(x));
  const std::int64_t rank = static_cast<std::int64_t>(w.rank());
  const auto flattened = windows_of(pool, padded).flatten(2 + rank, -1);
  if (!with_indices) return {flattened.amax(-1)};
  auto [values, winners] = flattened.max(-1);
  // Where in the input a window's winner lies: window start plus place in the kernel, axis by axis.
  at::Tensor rest = winners, index = at::zeros_like(winners);
  std::int64_t weight = 1;
  for (std::size_t i = w.rank(); i-- > 0;) {
    Ints shape(static_cast<std::size_t>(x.dim()), 1);
    shape[i + 2] = pool.outputs[i];
    const at::Tensor start = at::arange(pool.outputs[i], winners.options()).view(shape) * w.strides[i];
    index = index + (start - w.pads_begin[i] + at::remainder(rest, w.kernel[i]) * w.dilations[i]) * weight;
    weight *= pool.sizes[i];
    rest = at::div(rest, w.kernel[i], "floor");
  }
  return {values, index};
}

std::vector<at::Tensor> max_pool(const OpCall& call) {
  const at::Tensor& x = call.input(0);
  const Pool pool = read_pool(call, x);
  const Window& w = pool.window;
  const bool with_indices = !call.node.output(1).empty();
  bool direct = w.rank() <= 2 && is_floating(x) && !(is_half(x) && x.device().is_cpu()) && w.symmetric();
  for (std::size_t i = 0; i < w.rank(); ++i) direct = direct && 2 * w.pads_begin[i] <= w.kernel[i];
  std::vector<at::Tensor> results;
  if (direct) {
    const bool ceil_mode = call.node.attr("ceil_mode", std::int64_t{0}) != 0;
    const auto two = [&](Ints values, std::int64_t fill) {
      while (values.size() < 2) values.insert(values.begin(), fill);
      return values;
    };
    const at::Tensor image = with_spatial_rank(x, 2);
    const Ints kernel = two(w.kernel, 1), strides = two(w.strides, 1), pads = two(w.pads_begin, 0),
               dilations = two(w.dilations, 1);
    const auto back = [&](const at::Tensor& tensor) { return w.rank() == 2 ? tensor : tensor.squeeze(2); };
    if (with_indices) {
      const auto [values, indices] =
          at::max_pool2d_with_indices(image, kernel, strides, pads, dilations, ceil_mode);
      results = {back(values), back(indices)};
    } else {
      results = {back(at::max_pool2d(image, kernel, strides, pads, dilations, ceil_mode))};
    }
    if (Ints(results[0].sizes().begin() + 2, results[0].sizes().end()) != pool.outputs)
      results = max_pool_general(call, pool, x, with_indices);
  } else {
    results = max_pool_general(call, pool, x, with_indices);
  }
  if (with_indices)
    results[1] = flat_indices(pool, results[1], x, call.node.attr("storage_order", std::int64_t{0}) != 0);
  return results;
}

std::vector<at::Tensor> average_pool(const OpCall& call) {
  const at::Tensor& given = call.input(0);
  const Pool pool = read_pool(call, given);
  const Window& w = pool.window;
  const bool count_pads = call.node.attr("count_include_pad", std::int64_t{0}) != 0;
  const bool ceil_mode = call.node.attr("ceil_mode", std::int64_t{0}) != 0;
  const bool dilated = std::any_of(w.dilations.begin(), w.dilations.end(), [](auto d) { return d != 1; });
  return {in_float(given, [&](const at::Tensor& x) -> at::Tensor {
    bool direct = w.rank() == 2 && w.symmetric() && !dilated;
    for (std::size_t i = 0; i < w.rank(); ++i) direct = direct && 2 * w.pads_begin[i] <= w.kernel[i];
    if (direct) {
      at::Tensor y = at::avg_pool2d(x, w.kernel, w.strides, w.pads_begin, ceil_mode, count_pads);
      if (Ints(y.sizes().begin() + 2, y.sizes().end()) == pool.outputs) return y;
    }
    // Sums of windows, divided by the number of cells that count: ceil_mode's extra room never does.
    const std::int64_t rank = static_cast<std::int64_t>(w.rank());
    const auto sums = [&](const at::Tensor& padded) {
      return windows_of(pool, padded).flatten(2 + rank, -1).sum(-1);
    };
    Ints unit{1, 1};
    unit.insert(unit.end(), pool.sizes.begin(), pool.sizes.end());
    Pool ends = pool;
    at::Tensor ones = at::ones(unit, x.options());
    if (count_pads) {
      ones = at::constant_pad_nd(ones, torch_pads(w), 1);
      ends.window.pads_begin.assign(w.rank(), 0);
      ends.window.pads_end.assign(w.rank(), 0);
    }
    const at::Tensor counts = sums(at::constant_pad_nd(ones, torch_pads(ends.window, pool.extra)));
    return sums(at::constant_pad_nd(x, torch_pads(w, pool.extra))) / counts;
  })};
}

/// (sum |x|^p)^(1/p) over the last axis, with p = 1 and 2 done without powers.
at::Tensor lp_norm(const at::Tensor& x, double p) {
  if (p == 1) return x.abs().sum(-1);
  if (p == 2) return x.square().sum(-1).sqrt();
  return x.abs().pow(p).sum(-1).pow(1 / p);
}

double read_p(const OpCall& call) {
  if (const auto* real = call.node.find<float>("p")) return *real;  // opset 1
  return static_cast<double>(call.node.attr("p", std::int64_t{2}));
}

std::vector<at::Tensor> lp_pool(const OpCall& call) {
  const Pool pool = read_pool(call, call.input(0));
  const double p = read_p(call);
  const std::int64_t rank = static_cast<std::int64_t>(pool.window.rank());
  return {in_float(call.input(0), [&](const at::Tensor& x) {
    const at::Tensor padded = at::constant_pad_nd(x, torch_pads(pool.window, pool.extra));
    return lp_norm(windows_of(pool, padded).flatten(2 + rank, -1), p);
  })};
}

at::Tensor with_unit_axes(const at::Tensor& pooled, std::int64_t rank) {
  Ints shape{pooled.size(0), pooled.size(1)};
  shape.resize(static_cast<std::size_t>(rank), 1);
  return pooled.reshape(shape);
}

std::vector<at::Tensor> global_average_pool(const OpCall& call) {
  Ints axes(spatial(call, call.input(0)).size());
  for (std::size_t i = 0; i < axes.size(); ++i) axes[i] = static_cast<std::int64_t>(i) + 2;
  return {in_float(call.input(0), [&](const at::Tensor& x) { return x.mean(axes, /*keepdim=*/true); })};
}

std::vector<at::Tensor> global_max_pool(const OpCall& call) {
  spatial(call, call.input(0));
  return {with_unit_axes(call.input(0).flatten(2, -1).amax(-1), call.input(0).dim())};
}

std::vector<at::Tensor> global_lp_pool(const OpCall& call) {
  spatial(call, call.input(0));
  const double p = read_p(call);
  return {in_float(call.input(0), [&](const at::Tensor& x) {
    return with_unit_axes(lp_norm(x.flatten(2, -1), p), x.dim());
  })};
}

std::vector<at::Tensor> max_unpool(const OpCall& call) {
  const at::Tensor &x = call.input(0), &indices = call.input(1);
  const Ints sizes = spatial(call, x);
  if (x.sizes() != indices.sizes())
    fail("{}: values {} and indices {} differ in shape", describe(call.node), format_shape(shape_of(x)),
         format_shape(shape_of(indices)));
  const Window w = read_window(call, spatial_attr(call, "kernel_shape", sizes.size(), 1), sizes);
  Ints inferred{x.size(0), x.size(1)};
  for (std::size_t i = 0; i < sizes.size(); ++i)
    inferred.push_back((sizes[i] - 1) * w.strides[i] - w.pads_begin[i] - w.pads_end[i] + w.kernel[i]);
  const Ints shape = call.has(2) ? call.ints(2) : inferred;
  check_output_shape(call, shape);
  check_output_shape(call, inferred);
  // Indices refer to the inferred shape; a larger output_shape keeps that corner.
  const auto scattered = [&](const Ints& target) {
    std::int64_t count = 1;
    for (const std::int64_t dim : target) count *= dim;
    return at::zeros({count}, x.options()).scatter(0, indices.flatten(), x.flatten()).reshape(target);
  };
  if (shape == inferred || shape.size() != inferred.size()) return {scattered(inferred)};
  at::Tensor y = scattered(inferred);
  Ints pads;
  for (std::size_t i = shape.size(); i-- > 0;) {
    pads.push_back(0);
    pads.push_back(shape[i] - inferred[i]);
  }
  return {at::constant_pad_nd(y, pads)};
}

}  // namespace

void register_pooling(OpRegistry& registry) {
  registry.add("MaxPool", max_pool, 1, 24);
  registry.add("AveragePool", average_pool, 1, 24);
  registry.add("LpPool", lp_pool, 1, 24);
  registry.add("GlobalAveragePool", global_average_pool, 1, 24);
  registry.add("GlobalMaxPool", global_max_pool, 1, 24);
  registry.add("GlobalLpPool", global_lp_pool, 1, 24);
  registry.add("MaxUnpool", max_unpool, 9, 24);
}

}  // namespace lithe
