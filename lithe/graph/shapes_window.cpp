// Shape rules of convolutions and pools.
#include <algorithm>

#include "lithe/base/math.h"
#include "lithe/graph/shape_rules.h"

namespace lithe {
namespace {

struct Window {
  std::vector<std::int64_t> kernel, strides, dilations, pads;
  std::string auto_pad;
  bool ceil = false;
};

std::vector<std::int64_t> list(const ShapeCall& call, std::string_view name, std::size_t count,
                               std::int64_t fallback) {
  auto values = call.node.attr(name, std::vector<std::int64_t>(count, fallback));
  if (values.size() != count)
    call.contradiction("'{}' has {} numbers instead of {}", name, values.size(), count);
  for (const std::int64_t value : values)
    if (value > INT32_MAX || value < -INT32_MAX) call.contradiction("'{}' holds {}", name, value);
  return values;
}

Window window(const ShapeCall& call, std::vector<std::int64_t> kernel) {
  const std::size_t n = kernel.size();
  Window w{std::move(kernel),
           list(call, "strides", n, 1),
           list(call, "dilations", n, 1),
           list(call, "pads", 2 * n, 0),
           call.node.attr("auto_pad", "NOTSET"),
           call.node.attr("ceil_mode", std::int64_t{0}) != 0};
  for (const auto* values : {&w.kernel, &w.strides, &w.dilations})
    for (const std::int64_t value : *values)
      if (value < 1 || value > INT32_MAX)
        call.contradiction("kernel, strides and dilations must be positive 31-bit numbers, not {}", value);
  return w;
}

/// Output size along one axis.
Quantity slide(const ShapeCall& call, const Window& w, std::size_t i, const Quantity& size) {
  const std::int64_t reach = w.dilations[i] * (w.kernel[i] - 1) + 1, stride = w.strides[i];
  const bool same = w.auto_pad == "SAME_UPPER" || w.auto_pad == "SAME_LOWER";
  const bool padded = w.auto_pad == "NOTSET" || w.auto_pad.empty();
  const std::size_t n = w.kernel.size();
  const std::int64_t pads = padded ? w.pads[i] + w.pads[i + n] : 0;
  if (stride == 1 && (same || reach - pads == 1)) return size;
  if (!size.is_integer()) return {};
  if (same) return ceil_div(size.integer(), stride);
  const std::int64_t room = size.integer() + pads - reach;
  if (room < 0)
    call.contradiction("a window of {} does not fit into {} elements and {} of padding", reach,
                       size.integer(), pads);
  std::int64_t steps = w.ceil ? ceil_div(room, stride) : room / stride;
  // With ceil_mode a window must not start in the padding after the end.
  if (w.ceil && steps * stride >= size.integer() + (padded ? w.pads[i] : 0)) --steps;
  return steps + 1;
}

std::optional<std::vector<std::int64_t>> kernel_of(const ShapeCall& call, const Shape* weight) {
  if (call.node.has("kernel_shape")) return call.node.attr("kernel_shape", std::vector<std::int64_t>{});
  if (!weight || weight->size() < 2) return std::nullopt;
  return concrete(Shape(weight->begin() + 2, weight->end()));
}

/// Checks the ranks of image and weight and returns the kernel's size, if it is known.
std::optional<std::vector<std::int64_t>> check_weight(const ShapeCall& call, std::size_t weight_input) {
  const Shape *x = call.shape(0), *weight = call.shape(weight_input);
  if (weight && weight->size() < 3)
    call.contradiction("the weight has shape {}, but at least 3 dimensions are needed",
                       format_shape(*weight));
  if (x && x->size() < 3)
    call.contradiction("the input has shape {}, but an image is needed", format_shape(*x));
  if (x && weight && x->size() != weight->size())
    call.contradiction("the input has shape {}, the weight {}", format_shape(*x), format_shape(*weight));
  auto kernel = kernel_of(call, weight);
  if (kernel && x && kernel->size() + 2 != x->size())
    call.contradiction("the kernel has {} dimensions, the input {}", kernel->size(), x->size());
  if (kernel && weight) {
    const auto real = concrete(Shape(weight->begin() + 2, weight->end()));
    if (real && *real != *kernel)
      call.contradiction("kernel_shape is {}, but the weight is {}", lithe::format_shape(*kernel),
                         format_shape(*weight));
  }
  return kernel;
}

void convolution(ShapeCall& call, std::size_t weight_input, DType dtype) {
  const Shape *x = call.shape(0), *weight = call.shape(weight_input);
  const auto kernel = check_weight(call, weight_input);
  const std::int64_t group = call.node.attr("group", std::int64_t{1});
  if (group < 1) call.contradiction("'group' is {}", group);
  if (x && weight) {
    const Quantity &channels = (*x)[1], needed = (*weight)[1] * Quantity(group);
    if (channels.is_integer() && needed.is_integer() && channels.integer() != needed.integer())
      call.contradiction("the input {} has {} channels, but the weight {} with {} groups needs {}",
                         format_shape(*x), channels.integer(), format_shape(*weight), group,
                         needed.integer());
  }
  if (!x) return call.set(0, dtype);
  Shape out(x->size());
  out[0] = (*x)[0];
  if (weight) out[1] = (*weight)[0];
  if (kernel) {
    const Window w = window(call, *kernel);
    for (std::size_t i = 0; i < kernel->size(); ++i) out[i + 2] = slide(call, w, i, (*x)[i + 2]);
  }
  call.set(0, dtype, std::move(out));
}

void conv(ShapeCall& call) {
  convolution(call, 1, call.dtype(0));
}
void conv_integer(ShapeCall& call) {
  convolution(call, 1, DType::Int32);
}
void qlinear_conv(ShapeCall& call) {
  convolution(call, 3, call.dtype(7));
}

void conv_transpose(ShapeCall& call) {
  const Shape *x = call.shape(0), *weight = call.shape(1);
  const auto kernel = check_weight(call, 1);
  if (!x) return call.set(0, call.dtype(0));
  const std::int64_t group = call.node.attr("group", std::int64_t{1});
  Shape out(x->size());
  out[0] = (*x)[0];
  if (weight) {
    const Quantity &channels = (*x)[1], &inputs = (*weight)[0];
    if (channels.is_integer() && inputs.is_integer() && channels.integer() != inputs.integer())
      call.contradiction("the input {} has {} channels, but the weight {} needs {}", format_shape(*x),
                         channels.integer(), format_shape(*weight), inputs.integer());
    out[1] = (*weight)[1] * Quantity(group);
  }
  if (kernel) {
    const std::size_t n = kernel->size();
    const Window w = window(call, *kernel);
    const auto extra = list(call, "output_padding", n, 0);
    const auto given = call.node.attr("output_shape", std::vector<std::int64_t>{});
    for (std::size_t i = 0; i < n; ++i) {
      const Quantity& size = (*x)[i + 2];
      const std::int64_t reach = w.dilations[i] * (w.kernel[i] - 1) + 1;
      // Some exporters write the whole output shape, others only its spatial part.
      if (given.size() >= n)
        out[i + 2] = given[given.size() - n + i];
      else if (w.auto_pad == "SAME_UPPER" || w.auto_pad == "SAME_LOWER")
        out[i + 2] = size * Quantity(w.strides[i]);
      else if (w.auto_pad == "VALID")
        out[i + 2] = (size - 1) * Quantity(w.strides[i]) + Quantity(reach + extra[i]);
      else
        out[i + 2] = size * Quantity(w.strides[i]) +
                     Quantity(reach + extra[i] - w.pads[i] - w.pads[i + n] - w.strides[i]);
    }
  }
  call.set(0, call.dtype(0), std::move(out));
}

void pool(ShapeCall& call) {
  const Shape* x = call.shape(0);
  if (!x) return call.set(0, call.dtype(0));
  if (x->size() < 3) call.contradiction("the input has shape {}, but an image is needed", format_shape(*x));
  const Window w = window(call, call.node.attr("kernel_shape", std::vector<std::int64_t>{}));
  if (w.kernel.size() + 2 != x->size())
    call.contradiction("the kernel has {} dimensions, the input {}", w.kernel.size(), x->size());
  Shape out = *x;
  for (std::size_t i = 0; i < w.kernel.size(); ++i) out[i + 2] = slide(call, w, i, (*x)[i + 2]);
  call.set(1, DType::Int64, out);
  call.set(0, call.dtype(0), std::move(out));
}

void global_pool(ShapeCall& call) {
  const Shape* x = call.shape(0);
  if (!x) return call.set(0, call.dtype(0));
  Shape out = *x;
  for (std::size_t i = 2; i < out.size(); ++i) out[i] = 1;
  call.set(0, call.dtype(0), std::move(out));
}

void max_unpool(ShapeCall& call) {
  const Shape* x = call.shape(0);
  if (call.has(2)) {
    const auto given = call.ints(2);
    return call.set(0, call.dtype(0),
                    given ? std::optional<Shape>(Shape(given->begin(), given->end())) : std::nullopt);
  }
  if (!x) return call.set(0, call.dtype(0));
  const Window w = window(call, call.node.attr("kernel_shape", std::vector<std::int64_t>{}));
  Shape out = *x;
  for (std::size_t i = 0; i < w.kernel.size() && i + 2 < out.size(); ++i)
    out[i + 2] = ((*x)[i + 2] - 1) * Quantity(w.strides[i]) +
                 Quantity(w.kernel[i] - w.pads[i] - w.pads[i + w.kernel.size()]);
  call.set(0, call.dtype(0), std::move(out));
}

}  // namespace

void add_window_rules(ShapeRules& rules) {
  rules["Conv"] = conv;
  rules["DeformConv"] = conv;
  rules["ConvInteger"] = conv_integer;
  rules["QLinearConv"] = qlinear_conv;
  rules["ConvTranspose"] = conv_transpose;
  for (const char* name : {"MaxPool", "AveragePool", "LpPool"}) rules[name] = pool;
  for (const char* name : {"GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"}) rules[name] = global_pool;
  rules["MaxUnpool"] = max_unpool;
}

}  // namespace lithe
