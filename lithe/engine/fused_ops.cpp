// The kernels of fused nodes, and of standard operators that may overwrite an input that nobody else holds.
#include "lithe/base/error.h"
#include "lithe/engine/fuse.h"
#include "lithe/engine/products.h"
#include "lithe/ops/window.h"

namespace lithe {
namespace {

/// Nobody else sees the tensor's memory: it may be overwritten. Tensors that share a constant's bytes do not
/// own them; expanded ones overlap themselves.
bool owned(const at::Tensor& tensor) {
  return tensor.defined() && tensor.is_floating_point() && tensor.layout() == at::kStrided &&
         tensor.use_count() == 1 && tensor.storage().use_count() == 1 &&
         tensor.storage().unsafeGetStorageImpl()->resizable() && tensor.is_non_overlapping_and_dense() &&
         !tensor.requires_grad() && !at::GradMode::is_enabled();
}

std::vector<at::Tensor> standard(const OpCall& call) {
  return op_registry().find("", call.node.op_type)->run(call);
}

/// Overwrites the input by a function of it.
template <at::Tensor& (*function)(at::Tensor&)>
std::vector<at::Tensor> unary(const OpCall& call) {
  if (call.inputs.empty() || !owned(call.inputs[0])) return standard(call);
  at::Tensor x = call.inputs[0];
  return {function(x)};
}

at::Tensor& silu_in_place(at::Tensor& x) {
  return at::silu_(x);
}
at::Tensor& relu_in_place(at::Tensor& x) {
  return at::relu_(x);
}
at::Tensor& sigmoid_in_place(at::Tensor& x) {
  return at::sigmoid_(x);
}
at::Tensor& tanh_in_place(at::Tensor& x) {
  return at::tanh_(x);
}
at::Tensor& sqrt_in_place(at::Tensor& x) {
  return at::sqrt_(x);
}

/// The tensor can take the place of the result of an operation with `other`.
bool can_hold(const at::Tensor& tensor, const at::Tensor& other) {
  if (!owned(tensor) || tensor.scalar_type() != other.scalar_type() || other.dim() > tensor.dim())
    return false;
  for (std::int64_t i = 1; i <= other.dim(); ++i)
    if (other.size(-i) != tensor.size(-i) && other.size(-i) != 1) return false;
  return true;
}

enum class Arithmetic { Add, Sub, Mul, Div };

template <Arithmetic operation>
std::vector<at::Tensor> binary(const OpCall& call) {
  if (!call.has(0) || !call.has(1) || call.inputs.size() != 2 || call.node.has("axis")) return standard(call);
  constexpr bool commutes = operation == Arithmetic::Add || operation == Arithmetic::Mul;
  const bool left = can_hold(call.inputs[0], call.inputs[1]);
  if (!left && !(commutes && can_hold(call.inputs[1], call.inputs[0]))) return standard(call);
  const at::Tensor &a = call.inputs[left ? 0 : 1], &b = call.inputs[left ? 1 : 0];
  if constexpr (operation == Arithmetic::Add) return {a.add_(b)};
  if constexpr (operation == Arithmetic::Sub) return {a.sub_(b)};
  if constexpr (operation == Arithmetic::Mul) return {a.mul_(b)};
  if constexpr (operation == Arithmetic::Div) return {a.div_(b)};
}

std::vector<at::Tensor> clip(const OpCall& call) {
  const auto bound = [&](std::size_t index) {
    return !call.has(index) || (call.inputs[index].numel() == 1 && call.inputs[index].device().is_cpu());
  };
  if (call.opset < 11 || call.inputs.empty() || !owned(call.inputs[0]) || !bound(1) || !bound(2) ||
      (!call.has(1) && !call.has(2)))
    return standard(call);
  const auto limit = [&](std::size_t index) {
    return call.has(index) ? c10::optional<at::Scalar>(call.inputs[index].item()) : c10::nullopt;
  };
  at::Tensor x = call.inputs[0];
  return {at::clamp_(x, limit(1), limit(2))};
}

std::vector<at::Tensor> silu(const OpCall& call) {
  if (!owned(call.inputs[0])) return {at::silu(call.input(0))};
  at::Tensor x = call.inputs[0];
  return {silu_in_place(x)};
}

std::vector<at::Tensor> gelu(const OpCall& call) {
  return {at::gelu(call.input(0))};
}

std::vector<at::Tensor> layer_norm(const OpCall& call) {
  const at::Tensor& weight = call.input(1);
  return {at::layer_norm(call.input(0), {weight.numel()}, weight, call.input(2),
                         static_cast<double>(call.node.attr("epsilon", 1e-5f)), false)};
}

std::vector<at::Tensor> linear(const OpCall& call) {
  return {multiply_rows(call.input(0), call.input(1), call.input(2))};
}

std::vector<at::Tensor> matmul(const OpCall& call) {
  const at::Tensor &a = call.input(0), &b = call.input(1);
  if (!can_multiply(a) || !can_multiply(b) || a.size(-1) != b.size(-2)) return standard(call);
  if (b.dim() == 2) return {multiply_rows(a, b, {})};
  return {multiply_stacks(a, b)};
}

/// What QuantizeLinear and DequantizeLinear would compute, operation by operation, in one buffer.
std::vector<at::Tensor> fake_quantize(const OpCall& call) {
  const double scale = static_cast<double>(call.node.attr("scale", 1.0f));
  const double zero_point = static_cast<double>(call.node.attr("zero_point", std::int64_t{0}));
  const double low = static_cast<double>(call.node.attr("low", std::int64_t{0})),
               high = static_cast<double>(call.node.attr("high", std::int64_t{0}));
  const at::Tensor step = at::scalar_tensor(scale, call.input(0).options().dtype(at::kFloat));
  at::Tensor y = owned(call.inputs[0]) ? call.inputs[0].div_(step) : call.inputs[0].div(step);
  y.round_();
  if (zero_point != 0) y.add_(zero_point);
  y.clamp_(low, high);
  if (zero_point != 0) y.sub_(zero_point);
  return {y.mul_(step)};
}

std::vector<at::Tensor> blocked_conv(const OpCall& call) {
  const at::Tensor& x = call.input(0);
  const std::int64_t channels = call.node.attr("channels", std::int64_t{0});
  if (x.dim() != 4 || x.size(1) != channels)
    fail("{}: the input {} does not have {} channels", describe_fused(call.node),
         format_shape(x.sizes().vec()), channels);
  const Window window =
      read_window(call, call.node.attr("kernel_shape", std::vector<std::int64_t>{}), {x.size(2), x.size(3)});
  for (std::size_t i = 0; i < 2; ++i)
    if (window.output(i, x.size(static_cast<std::int64_t>(i) + 2), false) < 1)
      fail("{}: the input {} is smaller than the kernel", describe_fused(call.node),
           format_shape(x.sizes().vec()));
  return {at::mkldnn_convolution(x.is_mkldnn() ? x : x.contiguous().to_mkldnn(), call.input(1),
                                 call.optional(2), window.pads_begin, window.strides, window.dilations,
                                 call.node.attr("group", std::int64_t{1}))};
}

at::Tensor plain(const at::Tensor& x) {
  return x.is_mkldnn() ? x.to_dense() : x;
}

/// The standard operator on plain copies of blocked inputs.
std::vector<at::Tensor> on_plain(const OpCall& call, OpFunction run) {
  std::vector<at::Tensor> inputs;
  for (const at::Tensor& input : call.inputs) inputs.push_back(input.defined() ? plain(input) : input);
  OpCall copy = call;
  copy.inputs = inputs;
  return run(copy);
}

std::vector<at::Tensor> relu(const OpCall& call) {
  if (!call.input(0).is_mkldnn()) return unary<relu_in_place>(call);
  if (call.inputs[0].use_count() > 1) return {at::relu(call.inputs[0])};
  at::Tensor x = call.inputs[0];
  return {at::relu_(x)};
}

std::vector<at::Tensor> add(const OpCall& call) {
  const at::Tensor &a = call.input(0), &b = call.input(1);
  if (!a.is_mkldnn() && !b.is_mkldnn()) return binary<Arithmetic::Add>(call);
  if (a.sizes() != b.sizes()) return on_plain(call, standard);
  if (!a.is_mkldnn()) return {at::add(b, a.contiguous().to_mkldnn())};
  if (!b.is_mkldnn()) return {at::add(a, b.contiguous().to_mkldnn())};
  if (a.use_count() == 1) return {a.add_(b)};
  if (b.use_count() == 1) return {b.add_(a)};
  return {at::add(a, b)};
}

std::vector<at::Tensor> max_pool(const OpCall& call) {
  const at::Tensor& x = call.input(0);
  if (!x.is_mkldnn()) return standard(call);
  const Window window = read_window(call, spatial_attr(call, "kernel_shape", 2, 1), {x.size(2), x.size(3)});
  for (std::size_t i = 0; i < 2; ++i)
    if (window.output(i, x.size(static_cast<std::int64_t>(i) + 2), false) < 1 ||
        2 * window.pads_begin[i] > window.kernel[i])
      return on_plain(call, standard);
  return {
      at::mkldnn_max_pool2d(x, window.kernel, window.strides, window.pads_begin, window.dilations, false)};
}

std::vector<at::Tensor> global_average_pool(const OpCall& call) {
  const at::Tensor& x = call.input(0);
  if (!x.is_mkldnn()) return standard(call);
  return {at::mkldnn_adaptive_avg_pool2d(x, {1, 1}).to_dense()};
}

}  // namespace

const OpRegistry& fused_ops() {
  static const OpRegistry registry = [] {
    OpRegistry all;
    all.add("Conv", blocked_conv, 1, 1, kFusedDomain);
    all.add("FakeQuantize", fake_quantize, 1, 1, kFusedDomain);
    all.add("Gelu", gelu, 1, 1, kFusedDomain);
    all.add("LayerNorm", layer_norm, 1, 1, kFusedDomain);
    all.add("Linear", linear, 1, 1, kFusedDomain);
    all.add("Silu", silu, 1, 1, kFusedDomain);
    all.add("Add", add);
    all.add("Sub", binary<Arithmetic::Sub>);
    all.add("Mul", binary<Arithmetic::Mul>);
    all.add("Div", binary<Arithmetic::Div>);
    all.add("Clip", clip);
    all.add("MaxPool", max_pool);
    all.add("GlobalAveragePool", global_average_pool);
    all.add("MatMul", matmul);
    all.add("Relu", relu);
    all.add("Sigmoid", unary<sigmoid_in_place>);
    all.add("Sqrt", unary<sqrt_in_place>);
    all.add("Tanh", unary<tanh_in_place>);
    return all;
  }();
  return registry;
}

}  // namespace lithe
