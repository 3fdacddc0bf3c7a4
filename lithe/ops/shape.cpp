// Operators that move, cut, join and repeat elements without computing on them.
#include <algorithm>
#include <numeric>

#include "lithe/base/math.h"
#include "lithe/ops/support.h"

namespace lithe {
namespace {

using at::Tensor;
using Ints = std::vector<std::int64_t>;
using Outputs = std::vector<Tensor>;

/// 0 copies the input's dimension (unless allowzero), one -1 takes what remains.
Outputs reshape(const OpCall& call) {
  const Tensor& x = call.input(0);
  Ints shape = call.ints(1, "shape");
  const bool allow_zero = call.node.attr("allowzero", std::int64_t{0}) != 0;
  std::int64_t known = 1, open = -1;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] == 0 && !allow_zero) {
      if (static_cast<std::int64_t>(i) >= x.dim())
        fail("{}: dimension {} of the shape is 0 (copy) but the input has rank {}", describe(call.node), i,
             x.dim());
      shape[i] = x.size(static_cast<std::int64_t>(i));
    }
    if (shape[i] == -1 && open < 0) {
      open = static_cast<std::int64_t>(i);
      continue;
    }
    const auto product = shape[i] < 0 ? std::nullopt : checked_multiply(known, shape[i]);
    if (!product) fail("{}: {} is not a shape to reshape to", describe(call.node), format_shape(shape));
    known = *product;
  }
  if (open >= 0 && known > 0 && x.numel() % known == 0)
    shape[static_cast<std::size_t>(open)] = x.numel() / known;
  else if (open >= 0 || known != x.numel())
    fail("{}: cannot reshape {} to {}", describe(call.node), format_shape(shape_of(x)), format_shape(shape));
  return {x.reshape(shape)};
}

Outputs flatten(const OpCall& call) {
  const Tensor& x = call.input(0);
  std::int64_t axis = call.node.attr("axis", std::int64_t{1});
  if (axis != x.dim()) axis = checked_axis(call, axis, x.dim());
  const auto sizes = x.sizes();
  const auto product = [](at::IntArrayRef dims) {
    return std::accumulate(dims.begin(), dims.end(), std::int64_t{1}, std::multiplies<>());
  };
  const auto split = static_cast<std::size_t>(axis);
  return {x.reshape({product(sizes.slice(0, split)), product(sizes.slice(split))})};
}

Outputs squeeze(const OpCall& call) {
  const Tensor& x = call.input(0);
  const Ints given = call.ints(1, "axes");
  std::vector<bool> drop(static_cast<std::size_t>(x.dim()));
  if (!call.has(1) && !call.node.has("axes")) {
    for (std::int64_t axis = 0; axis < x.dim(); ++axis)
      drop[static_cast<std::size_t>(axis)] = x.size(axis) == 1;
  }
  for (const std::int64_t axis : checked_axes(call, given, x.dim())) {
    if (x.size(axis) != 1)
      fail("{}: cannot squeeze axis {} of {}", describe(call.node), axis, format_shape(shape_of(x)));
    drop[static_cast<std::size_t>(axis)] = true;
  }
  Tensor out = x;
  for (std::int64_t axis = x.dim() - 1; axis >= 0; --axis)
    if (drop[static_cast<std::size_t>(axis)]) out = out.squeeze(axis);
  return {out};
}

Outputs unsqueeze(const OpCall& call) {
  Ints axes = call.ints(1, "axes");
  Tensor out = call.input(0);
  axes = checked_axes(call, axes, out.dim() + static_cast<std::int64_t>(axes.size()));
  std::sort(axes.begin(), axes.end());
  for (const std::int64_t axis : axes) out = out.unsqueeze(axis);
  return {out};
}

Outputs transpose(const OpCall& call) {
  const Tensor& x = call.input(0);
  Ints order(static_cast<std::size_t>(x.dim()));
  std::iota(order.rbegin(), order.rend(), 0);
  order = checked_axes(call, call.node.attr("perm", order), x.dim());
  if (static_cast<std::int64_t>(order.size()) != x.dim())
    fail("{}: perm {} does not fit an input of rank {}", describe(call.node), format_shape(order), x.dim());
  return {x.permute(order)};
}

Outputs concat(const OpCall& call) {
  std::vector<Tensor> parts;
  for (std::size_t i = 0; i < call.inputs.size(); ++i) parts.push_back(call.input(i));
  const std::int64_t rank = call.input(0).dim();
  return {at::cat(parts, checked_axis(call, call.node.attr("axis", std::int64_t{1}), rank))};
}

/// Sizes are an attribute up to opset 12 and an input after it; num_outputs (opset 18) and neither of them
/// cut equal parts, the last one smaller where they do not come out even.
Outputs split(const OpCall& call) {
  const Tensor& x = call.input(0);
  const std::int64_t axis = checked_axis(call, call.node.attr("axis", std::int64_t{0}), x.dim());
  const std::int64_t length = x.size(axis);
  Ints sizes = call.ints(1, "split");
  const bool given = call.has(1) || call.node.has("split");
  if (!given) {
    const auto outputs = static_cast<std::int64_t>(call.node.outputs.size());
    const std::int64_t parts = call.node.attr("num_outputs", outputs);
    if (parts != outputs || outputs == 0)
      fail("{}: num_outputs is {} but the node has {} outputs", describe(call.node), parts, outputs);
    if (call.opset < 18 && length % parts != 0)
      fail("{}: axis {} of {} elements cannot be cut into {} equal parts", describe(call.node), axis, length,
           parts);
    const std::int64_t chunk = ceil_div(length, parts);
    for (std::int64_t i = 0, left = length; i < parts; ++i, left -= sizes.back())
      sizes.push_back(std::min(chunk, left));
  }
  std::int64_t total = 0;
  for (const std::int64_t size : sizes) {
    if (size < 0 || size > length - total)
      fail("{}: the parts {} do not fit axis {} of {} elements", describe(call.node), format_shape(sizes),
           axis, length);
    total += size;
  }
  if (total != length || sizes.size() != call.node.outputs.size())
    fail("{}: the parts {} do not make up axis {} of {} elements and {} outputs", describe(call.node),
         format_shape(sizes), axis, length, call.node.outputs.size());
  return at::split_with_sizes(x, sizes, axis);
}

/// Every |step|-th element from start towards end; for negative steps the forward slice that holds the same
/// elements is cut and turned round, since LibTorch has no negative strides.
Tensor slice_axis(const Tensor& x, std::int64_t axis, std::int64_t start, std::int64_t end,
                  std::int64_t step) {
  const std::int64_t length = x.size(axis);
  const std::int64_t longest = std::max<std::int64_t>(length, 1);
  step = std::clamp(step, -longest, longest);
  if (start < 0) start += length;
  if (end < 0) end += length;
  if (step > 0)
    return x.slice(axis, std::clamp<std::int64_t>(start, 0, length), std::clamp<std::int64_t>(end, 0, length),
                   step);
  start = std::clamp<std::int64_t>(start, -1, length - 1);
  end = std::clamp<std::int64_t>(end, -1, length - 1);
  const std::int64_t count = start > end ? ceil_div(start - end, -step) : 0;
  if (count == 0) return x.slice(axis, 0, 0, 1);
  return x.slice(axis, start + (count - 1) * step, start + 1, -step).flip({axis});
}

/// Bounds are attributes up to opset 9, inputs from 10.
Outputs slice(const OpCall& call) {
  const Tensor& x = call.input(0);
  const Ints starts = call.ints(1, "starts"), ends = call.ints(2, "ends");
  Ints axes(starts.size());
  std::iota(axes.begin(), axes.end(), 0);
  axes = checked_axes(call, call.ints(3, "axes", axes), x.dim());
  const Ints steps = call.has(4) ? call.ints(4) : Ints(starts.size(), 1);
  if (ends.size() != starts.size() || axes.size() != starts.size() || steps.size() != starts.size())
    fail("{}: starts, ends, axes and steps have different lengths", describe(call.node));
  Tensor out = x;
  for (std::size_t i = 0; i < starts.size(); ++i) {
    if (steps[i] == 0) fail("{}: a step is 0", describe(call.node));
    out = slice_axis(out, axes[i], starts[i], ends[i], steps[i]);
  }
  return {out};
}

/// Where padding takes position `i` (which may lie outside) of an axis of `length` elements from.
std::int64_t padded_source(std::int64_t i, std::int64_t length, const std::string& mode) {
  if (mode == "edge" || length == 1) return std::clamp<std::int64_t>(i, 0, length - 1);
  const std::int64_t period = mode == "wrap" ? length : 2 * (length - 1);
  i %= period;
  if (i < 0) i += period;
  return i < length ? i : period - i;
}

Tensor pad_constant(const OpCall& call, const Tensor& x, const Ints& before, const Ints& after) {
  at::Scalar value = call.node.attr("value", 0.0f);
  if (call.opset >= 11) value = call.has(2) ? call.input(2).reshape({-1})[0].item() : at::Scalar(0);
  Ints pads;  // LibTorch counts from the last axis
  for (std::size_t i = before.size(); i-- > 0;) {
    pads.push_back(before[i]);
    pads.push_back(after[i]);
  }
  if (x.scalar_type() == at::kBool) return at::constant_pad_nd(x.to(at::kByte), pads, value).to(at::kBool);
  return at::constant_pad_nd(x, pads, value);
}

/// LibTorch's own padding of images, much faster than gathering; undefined where it does not apply.
Tensor pad_image(const Tensor& x, const Ints& before, const Ints& after, const std::string& mode) {
  const bool known_type = x.scalar_type() == at::kFloat || x.scalar_type() == at::kDouble;
  if (x.dim() != 4 || !known_type || (mode != "edge" && mode != "reflect") || x.numel() == 0) return {};
  for (std::size_t i = 0; i < 4; ++i) {
    const std::int64_t most = i < 2 ? 0 : x.size(static_cast<std::int64_t>(i)) - 1;
    if (before[i] < 0 || after[i] < 0 || before[i] > most || after[i] > most) return {};
  }
  const Ints pads{before[3], after[3], before[2], after[2]};
  return mode == "edge" ? at::replication_pad2d(x, pads) : at::reflection_pad2d(x, pads);
}

/// Pads are an attribute up to opset 10, an input from 11, for some axes only from 18. Negative ones crop.
Outputs pad(const OpCall& call) {
  const Tensor& x = call.input(0);
  const std::string mode = call.node.attr("mode", "constant");
  const Ints pads = call.ints(1, "pads");
  Ints axes(static_cast<std::size_t>(x.dim()));
  std::iota(axes.begin(), axes.end(), 0);
  if (call.has(3)) axes = checked_axes(call, call.ints(3), x.dim());
  if (pads.size() != 2 * axes.size())
    fail("{}: {} pads for {} axes; give two for each", describe(call.node), pads.size(), axes.size());

  Ints before(static_cast<std::size_t>(x.dim())), after = before, shape = shape_of(x);
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const auto axis = static_cast<std::size_t>(axes[i]);
    before[axis] = pads[i];
    after[axis] = pads[i + axes.size()];
    const auto in_range = [](std::int64_t pad) {
      return pad > -(std::int64_t{1} << 40) && pad < std::int64_t{1} << 40;
    };
    if (!in_range(before[axis]) || !in_range(after[axis]))
      fail("{}: a pad is out of range", describe(call.node));
    shape[axis] += before[axis] + after[axis];
  }
  check_output_shape(call, shape);
  if (mode == "constant") return {pad_constant(call, x, before, after)};
  if (mode != "reflect" && mode != "edge" && mode != "wrap")
    fail("{}: mode='{}' is not one of constant, reflect, edge, wrap", describe(call.node), mode);
  if (Tensor image = pad_image(x, before, after, mode); image.defined()) return {image};

  Tensor out = x;
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    if (before[axis] == 0 && after[axis] == 0) continue;
    const std::int64_t length = x.size(static_cast<std::int64_t>(axis));
    if (length == 0 && shape[axis] > 0)
      fail("{}: axis {} is empty, so mode='{}' has nothing to repeat", describe(call.node), axis, mode);
    Ints sources(static_cast<std::size_t>(shape[axis]));
    for (std::size_t i = 0; i < sources.size(); ++i)
      sources[i] = padded_source(static_cast<std::int64_t>(i) - before[axis], length, mode);
    out = out.index_select(static_cast<std::int64_t>(axis), at::tensor(sources, at::kLong).to(x.device()));
  }
  return {out};
}

Outputs expand(const OpCall& call) {
  const Tensor& x = call.input(0);
  Ints shape = call.ints(1);
  if (static_cast<std::int64_t>(shape.size()) < x.dim())
    shape.insert(shape.begin(), static_cast<std::size_t>(x.dim()) - shape.size(), 1);
  const std::size_t lead = shape.size() - static_cast<std::size_t>(x.dim());
  const Ints given = shape;
  for (std::size_t i = lead; i < shape.size(); ++i) {
    const std::int64_t own = x.size(static_cast<std::int64_t>(i - lead));
    if (shape[i] == 1)
      shape[i] = own;
    else if (own != 1 && own != shape[i])
      fail("{}: {} and {} do not broadcast", describe(call.node), format_shape(shape_of(x)),
           format_shape(given));
  }
  check_output_shape(call, shape);
  return {x.expand(shape)};
}

Outputs tile(const OpCall& call) {
  const Tensor& x = call.input(0);
  const Ints repeats = call.ints(1);
  if (static_cast<std::int64_t>(repeats.size()) != x.dim())
    fail("{}: {} repeats for an input of rank {}", describe(call.node), repeats.size(), x.dim());
  Ints shape = shape_of(x);
  for (std::size_t i = 0; i < shape.size(); ++i) {
    const auto size = repeats[i] < 0 ? std::nullopt : checked_multiply(shape[i], repeats[i]);
    if (!size)
      fail("{}: the repeats {} are negative or too large", describe(call.node), format_shape(repeats));
    shape[i] = *size;
  }
  check_output_shape(call, shape);
  return {x.repeat(repeats)};
}

Outputs shape_operator(const OpCall& call) {
  const Tensor& x = call.input(0);
  const std::int64_t rank = x.dim();
  const auto bound = [&](std::int64_t i) { return std::clamp<std::int64_t>(i < 0 ? i + rank : i, 0, rank); };
  const std::int64_t start = bound(call.node.attr("start", std::int64_t{0}));
  const std::int64_t end = std::max(start, bound(call.node.attr("end", rank)));
  const Ints dims(x.sizes().begin() + start, x.sizes().begin() + end);
  return {at::tensor(dims, at::kLong).to(x.device())};
}

Outputs size(const OpCall& call) {
  const Tensor& x = call.input(0);
  return {at::scalar_tensor(x.numel(), at::TensorOptions(at::kLong).device(x.device()))};
}

std::int64_t block_size(const OpCall& call) {
  const std::int64_t block = call.node.attr("blocksize", std::int64_t{0});
  if (block < 1 || block > 1 << 15)
    fail("{}: blocksize {} is not a usable number", describe(call.node), block);
  if (call.input(0).dim() != 4) fail("{}: the input must have rank 4", describe(call.node));
  return block;
}

Outputs depth_to_space(const OpCall& call) {
  const Tensor& x = call.input(0);
  const std::int64_t block = block_size(call);
  const std::string mode = call.node.attr("mode", "DCR");
  if (mode != "DCR" && mode != "CRD") fail("{}: mode='{}' is not one of DCR, CRD", describe(call.node), mode);
  const std::int64_t n = x.size(0), c = x.size(1), h = x.size(2), w = x.size(3);
  if (c % (block * block) != 0)
    fail("{}: {} channels cannot be spread over blocks of {} x {}", describe(call.node), c, block, block);
  const std::int64_t depth = c / (block * block);
  const Tensor spread = mode == "DCR" ? x.reshape({n, block, block, depth, h, w}).permute({0, 3, 4, 1, 5, 2})
                                      : x.reshape({n, depth, block, block, h, w}).permute({0, 1, 4, 2, 5, 3});
  return {spread.reshape({n, depth, h * block, w * block})};
}

Outputs space_to_depth(const OpCall& call) {
  const Tensor& x = call.input(0);
  const std::int64_t block = block_size(call);
  const std::int64_t n = x.size(0), c = x.size(1), h = x.size(2), w = x.size(3);
  if (h % block != 0 || w % block != 0)
    fail("{}: an image of {} x {} does not divide into blocks of {}", describe(call.node), h, w, block);
  return {x.reshape({n, c, h / block, block, w / block, block})
              .permute({0, 3, 5, 1, 2, 4})
              .reshape({n, c * block * block, h / block, w / block})};
}

Outputs triangle(const OpCall& call) {
  const Tensor& x = call.input(0);
  if (x.dim() < 2) fail("{}: the input must have at least rank 2", describe(call.node));
  std::int64_t k = 0;
  if (call.has(1)) {
    const Ints given = call.ints(1);
    if (given.size() != 1) fail("{}: k must be one number", describe(call.node));
    const std::int64_t limit = x.size(-1) + x.size(-2);
    k = std::clamp(given[0], -limit, limit);
  }
  return {call.node.attr("upper", std::int64_t{1}) != 0 ? at::triu(x, k) : at::tril(x, k)};
}

Outputs eye_like(const OpCall& call) {
  const Tensor& x = call.input(0);
  if (x.dim() != 2) fail("{}: the input must have rank 2", describe(call.node));
  const std::int64_t k = call.node.attr("k", std::int64_t{0});
  const auto fallback = static_cast<std::int64_t>(dtype_of_scalar(x.scalar_type()));
  const auto options = at::TensorOptions(scalar_type_attr(call, "dtype", fallback)).device(x.device());
  Tensor out = at::zeros(x.sizes(), options);
  if (k > -x.size(0) && k < x.size(1)) out.diagonal(k).fill_(1);
  return {out};
}

/// Turns round the first sequence_lens[b] elements of each sequence b.
Outputs reverse_sequence(const OpCall& call) {
  const Tensor& x = call.input(0);
  if (x.dim() < 2) fail("{}: the input must have at least rank 2", describe(call.node));
  const std::int64_t batch_axis = checked_axis(call, call.node.attr("batch_axis", std::int64_t{1}), x.dim());
  const std::int64_t time_axis = checked_axis(call, call.node.attr("time_axis", std::int64_t{0}), x.dim());
  const Tensor lengths = call.input(1).to(at::kLong);
  if (batch_axis == time_axis || lengths.dim() != 1 || lengths.size(0) != x.size(batch_axis))
    fail("{}: the axes must differ, with one length for each of the {} sequences", describe(call.node),
         x.size(batch_axis));
  if (lengths.numel() > 0 &&
      (lengths.min().item<std::int64_t>() < 0 || lengths.max().item<std::int64_t>() > x.size(time_axis)))
    fail("{}: a sequence length is not in [0, {}]", describe(call.node), x.size(time_axis));
  Ints as_batch(static_cast<std::size_t>(x.dim()), 1), as_time = as_batch;
  as_batch[static_cast<std::size_t>(batch_axis)] = x.size(batch_axis);
  as_time[static_cast<std::size_t>(time_axis)] = x.size(time_axis);
  const Tensor time = at::arange(x.size(time_axis), lengths.options()).reshape(as_time);
  const Tensor length = lengths.reshape(as_batch);
  const Tensor source = at::where(time < length, length - 1 - time, time);
  return {at::gather(x, time_axis, source.expand(x.sizes()))};
}

Outputs center_crop_pad(const OpCall& call) {
  const Tensor& x = call.input(0);
  const Ints wanted = call.ints(1);
  Ints axes(static_cast<std::size_t>(x.dim()));
  std::iota(axes.begin(), axes.end(), 0);
  axes = checked_axes(call, call.node.attr("axes", axes), x.dim());
  if (wanted.size() != axes.size())
    fail("{}: {} sizes for {} axes", describe(call.node), wanted.size(), axes.size());
  Tensor out = x;
  Ints shape = shape_of(x), pads(2 * static_cast<std::size_t>(x.dim()));
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const std::int64_t length = x.size(axes[i]);
    shape[static_cast<std::size_t>(axes[i])] = wanted[i];
    if (wanted[i] < 0) fail("{}: a size is negative", describe(call.node));
    if (wanted[i] <= length) {
      out = out.narrow(axes[i], (length - wanted[i]) / 2, wanted[i]);
    } else {
      const auto place = 2 * static_cast<std::size_t>(x.dim() - 1 - axes[i]);
      pads[place] = (wanted[i] - length) / 2;
      pads[place + 1] = wanted[i] - length - pads[place];
    }
  }
  check_output_shape(call, shape);
  return {at::constant_pad_nd(out, pads, 0)};
}

}  // namespace

void register_shape(OpRegistry& registry) {
  registry.add("Reshape", reshape);
  registry.add("Flatten", flatten);
  registry.add("Squeeze", squeeze);
  registry.add("Unsqueeze", unsqueeze);
  registry.add("Transpose", transpose);
  registry.add("Concat", concat);
  registry.add("Split", split, 2);
  registry.add("Slice", slice);
  registry.add("Pad", pad, 2);
  registry.add("Expand", expand, 8);
  registry.add("Tile", tile, 6);
  registry.add("Shape", shape_operator);
  registry.add("Size", size);
  registry.add("DepthToSpace", depth_to_space);
  registry.add("SpaceToDepth", space_to_depth);
  registry.add("Trilu", triangle, 14);
  registry.add("EyeLike", eye_like, 9);
  registry.add("ReverseSequence", reverse_sequence, 10);
  registry.add("CenterCropPad", center_crop_pad, 18);
}

}  // namespace lithe
