#include "lithe/ops/window.h"

#include <algorithm>

#include "lithe/base/error.h"
#include "lithe/base/math.h"

namespace lithe {
namespace {

constexpr std::int64_t kMaxEntry = std::int64_t{1} << 31;  // keeps sums of products within int64

}  // namespace

bool Window::padded() const {
  const auto positive = [](std::int64_t pad) { return pad != 0; };
  return std::any_of(pads_begin.begin(), pads_begin.end(), positive) ||
         std::any_of(pads_end.begin(), pads_end.end(), positive);
}

std::int64_t Window::output(std::size_t axis, std::int64_t size, bool ceil_mode) const {
  const std::int64_t room = size + pads_begin[axis] + pads_end[axis] - extent(axis);
  if (room < 0) return 0;
  if (!ceil_mode) return room / strides[axis] + 1;
  std::int64_t count = ceil_div(room, strides[axis]) + 1;
  // A last window that would start in the padding behind the input does not count.
  if ((count - 1) * strides[axis] >= size + pads_begin[axis]) --count;
  return count;
}

std::vector<std::int64_t> spatial_attr(const OpCall& call, std::string_view name, std::size_t rank,
                                       std::int64_t fallback) {
  std::vector<std::int64_t> values = call.node.attr(name, std::vector<std::int64_t>{});
  if (values.empty()) values.assign(rank, fallback);
  if (values.size() != rank)
    fail("{}: '{}' has {} entries for {} spatial axes", describe(call.node), name, values.size(), rank);
  for (const std::int64_t value : values)
    if (value < 1 || value > kMaxEntry)
      fail("{}: '{}' = {} must be positive", describe(call.node), name, format_shape(values));
  return values;
}

Window read_window(const OpCall& call, std::vector<std::int64_t> kernel,
                   const std::vector<std::int64_t>& sizes, bool ceil_mode) {
  const Node& node = call.node;
  const std::size_t rank = sizes.size();
  if (kernel.size() != rank)
    fail("{}: the kernel {} does not fit an input with {} spatial axes", describe(node), format_shape(kernel),
         rank);
  for (const std::int64_t size : kernel)
    if (size < 1 || size > kMaxEntry)
      fail("{}: the kernel {} must be positive", describe(node), format_shape(kernel));
  Window window;
  window.kernel = std::move(kernel);
  window.strides = spatial_attr(call, "strides", rank, 1);
  window.dilations = spatial_attr(call, "dilations", rank, 1);
  window.pads_begin.assign(rank, 0);
  window.pads_end.assign(rank, 0);
  const std::string mode = node.attr("auto_pad", "NOTSET");
  if (mode == "SAME_UPPER" || mode == "SAME_LOWER") {
    for (std::size_t i = 0; i < rank; ++i) {
      const std::int64_t outputs = ceil_div(sizes[i], window.strides[i]);
      const std::int64_t total =
          std::max<std::int64_t>(0, (outputs - 1) * window.strides[i] + window.extent(i) - sizes[i]);
      const std::int64_t less = total / 2, more = total - less;
      window.pads_begin[i] = mode == "SAME_UPPER" ? less : more;
      window.pads_end[i] = mode == "SAME_UPPER" ? more : less;
    }
  } else if (mode == "NOTSET" || mode.empty()) {
    const auto pads = node.attr("pads", std::vector<std::int64_t>(2 * rank, 0));
    if (pads.size() != 2 * rank)
      fail("{}: 'pads' has {} entries for {} spatial axes", describe(node), pads.size(), rank);
    for (const std::int64_t pad : pads)
      if (pad < -kMaxEntry || pad > kMaxEntry)
        fail("{}: 'pads' = {} is out of range", describe(node), format_shape(pads));
    std::copy_n(pads.begin(), rank, window.pads_begin.begin());
    std::copy_n(pads.begin() + static_cast<std::ptrdiff_t>(rank), rank, window.pads_end.begin());
  } else if (mode != "VALID") {
    fail("{}: auto_pad '{}' is not one of NOTSET, SAME_UPPER, SAME_LOWER, VALID", describe(node), mode);
  }
  return window;
}

std::vector<std::int64_t> torch_pads(const Window& window, const std::vector<std::int64_t>& extra) {
  std::vector<std::int64_t> pads;
  for (std::size_t i = window.rank(); i-- > 0;) {
    pads.push_back(window.pads_begin[i]);
    pads.push_back(window.pads_end[i] + (extra.empty() ? 0 : extra[i]));
  }
  return pads;
}

}  // namespace lithe
