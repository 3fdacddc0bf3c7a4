// Conv, ConvTranspose, DeformConv.
#include <algorithm>

#include "lithe/ops/support.h"
#include "lithe/ops/window.h"

namespace lithe {
namespace {

using Ints = std::vector<std::int64_t>;

Ints spatial(const at::Tensor& tensor) {
  return Ints(tensor.sizes().begin() + 2, tensor.sizes().end());
}

/// Checks ranks, channels and groups; `in` is the axis of the weight that meets the input's channels.
void check_operands(const OpCall& call, const at::Tensor& x, const at::Tensor& weight, std::int64_t groups,
                    bool transposed) {
  const std::string who = describe(call.node);
  if (x.dim() < 3)
    fail("{}: the input has shape {}; it needs batch, channels and at least one spatial axis", who,
         format_shape(shape_of(x)));
  if (weight.dim() != x.dim())
    fail("{}: the weight {} and the input {} differ in rank", who, format_shape(shape_of(weight)),
         format_shape(shape_of(x)));
  if (groups < 1) fail("{}: group = {} must be positive", who, groups);
  const std::int64_t expected = transposed ? weight.size(0) : weight.size(1) * groups;
  if (x.size(1) != expected || weight.size(0) % groups != 0)
    fail("{}: the weight {} with {} groups does not fit the input {}", who, format_shape(shape_of(weight)),
         groups, format_shape(shape_of(x)));
}

void check_kernel_shape(const OpCall& call, const at::Tensor& weight) {
  const Ints declared = call.node.attr("kernel_shape", Ints{});
  if (!declared.empty() && declared != spatial(weight))
    fail("{}: kernel_shape {} contradicts the weight {}", describe(call.node), format_shape(declared),
         format_shape(shape_of(weight)));
}

/// LibTorch's own convolutions take 1 to 3 spatial axes; half precision on the CPU goes through float32.
at::Tensor convolve(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                    const Ints& strides, const Ints& pads, const Ints& dilations, bool transposed,
                    const Ints& output_pads, std::int64_t groups) {
  if (is_half(x) && x.device().is_cpu())
    return at::convolution(x.to(at::kFloat), weight.to(at::kFloat),
                           bias.defined() ? bias.to(at::kFloat) : bias, strides, pads, dilations, transposed,
                           output_pads, groups)
        .to(x.scalar_type());
  return at::convolution(x, weight, bias, strides, pads, dilations, transposed, output_pads, groups);
}

/// Picks every stride-th position of the input of a convolution of single positions, which then goes on with
/// stride 1. Going backwards through such a convolution of few channels, oneDNN (as of LibTorch 1.13, AVX2)
/// writes behind the end of its result.
void pick_positions(at::Tensor& x, const at::Tensor& weight, Window& window) {
  const auto all = [](const Ints& numbers, std::int64_t wanted) {
    return std::all_of(numbers.begin(), numbers.end(), [wanted](auto n) { return n == wanted; });
  };
  const Ints kernel = spatial(weight);
  const bool learns = at::GradMode::is_enabled() && (x.requires_grad() || weight.requires_grad());
  if (!learns || !all(kernel, 1) || all(window.strides, 1) || !all(window.pads_begin, 0)) return;
  for (std::size_t i = 0; i < window.rank(); ++i)
    x = x.slice(static_cast<std::int64_t>(i) + 2, 0, INT64_MAX, window.strides[i]);
  window.strides.assign(window.rank(), 1);
}

std::vector<at::Tensor> conv(const OpCall& call) {
  at::Tensor x = call.input(0);
  const at::Tensor& weight = call.input(1);
  const std::int64_t groups = call.node.attr("group", std::int64_t{1});
  check_operands(call, x, weight, groups, false);
  check_kernel_shape(call, weight);
  Window window = read_window(call, spatial(weight), spatial(x));
  for (std::size_t i = 0; i < window.rank(); ++i)
    if (window.output(i, x.size(static_cast<std::int64_t>(i) + 2), false) < 1)
      fail("{}: the input {} is smaller than the kernel {}", describe(call.node), format_shape(shape_of(x)),
           format_shape(shape_of(weight)));
  const bool negative =
      std::any_of(window.pads_begin.begin(), window.pads_begin.end(), [](auto p) { return p < 0; });
  if (!window.symmetric() || negative) {
    x = at::constant_pad_nd(x, torch_pads(window));
    window.pads_begin.assign(window.rank(), 0);
  }
  pick_positions(x, weight, window);
  return {convolve(x, weight, call.optional(2), window.strides, window.pads_begin, window.dilations, false,
                   Ints(window.rank(), 0), groups)};
}

std::vector<at::Tensor> conv_transpose(const OpCall& call) {
  const Node& node = call.node;
  const at::Tensor& x = call.input(0);
  const at::Tensor& weight = call.input(1);
  const std::int64_t groups = node.attr("group", std::int64_t{1});
  check_operands(call, x, weight, groups, true);
  check_kernel_shape(call, weight);
  const std::size_t rank = static_cast<std::size_t>(x.dim()) - 2;
  const Ints kernel = spatial(weight), sizes = spatial(x);
  const Ints strides = spatial_attr(call, "strides", rank, 1),
             dilations = spatial_attr(call, "dilations", rank, 1);
  Ints output_pads = node.attr("output_padding", Ints(rank, 0));
  if (output_pads.size() != rank)
    fail("{}: output_padding has {} entries for {} spatial axes", describe(node), output_pads.size(), rank);
  Ints pads = node.attr("pads", Ints(2 * rank, 0));
  if (pads.size() != 2 * rank)
    fail("{}: 'pads' has {} entries for {} spatial axes", describe(node), pads.size(), rank);
  Ints wanted = node.attr("output_shape", Ints{});
  if (wanted.size() == rank + 2) wanted.erase(wanted.begin(), wanted.begin() + 2);
  if (!wanted.empty() && wanted.size() != rank)
    fail("{}: output_shape has {} entries for {} spatial axes", describe(node), wanted.size(), rank);
  const std::string mode = node.attr("auto_pad", "NOTSET");
  Ints full(rank);  // output sizes before any padding is cut off
  for (std::size_t i = 0; i < rank; ++i)
    full[i] = (sizes[i] - 1) * strides[i] + dilations[i] * (kernel[i] - 1) + 1;
  const bool same = mode == "SAME_UPPER" || mode == "SAME_LOWER";
  if (mode == "VALID") pads.assign(2 * rank, 0);
  if (same && wanted.empty())
    for (std::size_t i = 0; i < rank; ++i) wanted.push_back(sizes[i] * strides[i]);
  if (!wanted.empty()) {
    for (std::size_t i = 0; i < rank; ++i) {
      const std::int64_t total = full[i] + output_pads[i] - wanted[i];
      const std::int64_t half = total >= 0 ? total / 2 : -((-total + 1) / 2);
      pads[i] = mode == "SAME_UPPER" ? half : total - half;
      pads[rank + i] = total - pads[i];
      if (total < 0) {  // nothing to cut: the output is longer than the kernel reaches
        pads[i] = 0;
        pads[rank + i] = total;
      }
    }
  }
  Ints shape{x.size(0), weight.size(1) * groups};
  for (std::size_t i = 0; i < rank; ++i) {
    shape.push_back(full[i] + output_pads[i] - pads[i] - pads[rank + i]);
    if (shape.back() < 1) fail("{}: 'pads' leave nothing of the output", describe(node));
  }
  check_output_shape(call, shape);
  // LibTorch cuts the same amount off both sides and adds output padding at the end: use that where it fits,
  // else cut or extend the uncut result.
  bool direct = true;
  Ints extra(rank);
  for (std::size_t i = 0; i < rank; ++i) {
    extra[i] = pads[i] - pads[rank + i] + output_pads[i];
    direct = direct && pads[i] >= 0 && extra[i] >= 0 && extra[i] < std::max(strides[i], dilations[i]);
  }
  if (direct)
    return {convolve(x, weight, call.optional(2), strides,
                     Ints(pads.begin(), pads.begin() + static_cast<long>(rank)), dilations, true, extra,
                     groups)};
  at::Tensor y = convolve(x, weight, {}, strides, Ints(rank, 0), dilations, true, Ints(rank, 0), groups);
  Ints cut;
  for (std::size_t i = rank; i-- > 0;) {
    cut.push_back(-pads[i]);
    cut.push_back(output_pads[i] - pads[rank + i]);
  }
  y = at::constant_pad_nd(y, cut);
  if (call.has(2)) {
    Ints broadcast(rank + 2, 1);
    broadcast[1] = -1;
    y = y + call.inputs[2].reshape(broadcast);
  }
  return {y};
}

/// Deformable convolution v2 (Zhu et al., 2019) on two spatial axes: bilinear samples at learnt offsets,
/// times a learnt mask, gathered into columns and multiplied by the weight.
std::vector<at::Tensor> deform_conv(const OpCall& call) {
  const Node& node = call.node;
  const at::Tensor &x = call.input(0), &weight = call.input(1), &offset = call.input(2);
  const std::int64_t groups = node.attr("group", std::int64_t{1});
  const std::int64_t offset_groups = node.attr("offset_group", std::int64_t{1});
  check_operands(call, x, weight, groups, false);
  if (x.dim() != 4) fail("{}: only images (rank 4) can be convolved deformably", describe(node));
  const Window window = read_window(call, spatial(weight), spatial(x));
  const std::int64_t n = x.size(0), c = x.size(1), h = x.size(2), w = x.size(3);
  const std::int64_t kh = window.kernel[0], kw = window.kernel[1], taps = kh * kw;
  const std::int64_t oh = window.output(0, h, false), ow = window.output(1, w, false);
  if (offset_groups < 1 || c % offset_groups != 0 ||
      shape_of(offset) != Ints{n, offset_groups * taps * 2, oh, ow})
    fail("{}: the offsets {} do not fit the output {} x {} with {} offset groups", describe(node),
         format_shape(shape_of(offset)), oh, ow, offset_groups);
  const auto options = x.options();
  const auto base = [&](std::int64_t count, std::size_t axis) {
    return at::arange(count, options) * window.strides[axis] - window.pads_begin[axis];
  };
  const at::Tensor ky = at::arange(kh, options).mul(window.dilations[0]).view({kh, 1, 1, 1});
  const at::Tensor kx = at::arange(kw, options).mul(window.dilations[1]).view({1, kw, 1, 1});
  const at::Tensor shift = offset.reshape({n * offset_groups, kh, kw, 2, oh, ow});
  const at::Tensor y_at = shift.select(3, 0) + ky + base(oh, 0).view({1, 1, oh, 1});
  const at::Tensor x_at = shift.select(3, 1) + kx + base(ow, 1).view({1, 1, 1, ow});
  // Pixel centres of grid_sample without aligned corners lie at (2 p + 1) / size - 1.
  const auto scale = [](const at::Tensor& position, std::int64_t size) {
    return (position * 2 + 1) / static_cast<double>(size) - 1;
  };
  const at::Tensor grid =
      at::stack({scale(x_at, w), scale(y_at, h)}, -1).reshape({n * offset_groups, taps * oh, ow, 2});
  at::Tensor columns =
      at::grid_sampler(x.reshape({n * offset_groups, c / offset_groups, h, w}), grid,
                       /*interpolation_mode=*/0, /*padding_mode=*/0, /*align_corners=*/false);
  columns = columns.view({n, offset_groups, c / offset_groups, taps, oh, ow});
  if (call.has(4)) columns = columns * call.inputs[4].reshape({n, offset_groups, 1, taps, oh, ow});
  columns = columns.reshape({n, groups, c / groups * taps, oh * ow});
  const at::Tensor kernel = weight.reshape({groups, weight.size(0) / groups, c / groups * taps});
  at::Tensor y = at::matmul(kernel, columns).reshape({n, weight.size(0), oh, ow});
  if (call.has(3)) y = y + call.inputs[3].view({1, -1, 1, 1});
  return {y};
}

}  // namespace

void register_convolution(OpRegistry& registry) {
  registry.add("Conv", conv, 1, 24);
  registry.add("ConvTranspose", conv_transpose, 1, 24);
  registry.add("DeformConv", deform_conv, 19, 24);
}

}  // namespace lithe
