#include "lithe/ops/bound_quantize.h"

#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <vector>

#include "lithe/kernels/bound_quantize.h"
#include "lithe/ops/chunks.h"
#include "lithe/ops/support.h"

namespace lithe {
namespace {

bool crossed(const at::Tensor& low, const at::Tensor& high) {
  return !(high.item<float>() - low.item<float>() >= kSmallestWidth);
}

struct BoundQuantize : torch::autograd::Function<BoundQuantize> {
  using Context = torch::autograd::AutogradContext;

  static at::Tensor forward(Context* context, const at::Tensor& x, const at::Tensor& low,
                            const at::Tensor& high, std::int64_t levels, bool centred) {
    // The bounds as they are now: a method may move them in place before the gradients are taken.
    const double bottom = low.item<double>(), top = high.item<double>();
    context->save_for_backward({x});
    context->saved_data["bounds"] = std::vector<double>{bottom, top};
    context->saved_data["levels"] = levels;
    context->saved_data["centred"] = centred;
    context->saved_data["low"] = low.sizes().vec();
    context->saved_data["high"] = high.sizes().vec();
    const BoundQuantizeSpec spec =
        bound_quantize_spec(static_cast<float>(bottom), static_cast<float>(top), levels, centred);
    at::Tensor y = at::empty_like(x);
    const float* from = x.data_ptr<float>();
    float* to = y.data_ptr<float>();
    for_each_chunk(x.numel(), [&](std::int64_t, std::int64_t begin, std::int64_t end) {
      lithe::bound_quantize(from + begin, to + begin, end - begin, spec);
    });
    return y;
  }

  static torch::autograd::variable_list backward(Context* context, torch::autograd::variable_list gradients) {
    const at::Tensor x = context->get_saved_variables()[0];
    const std::vector<double> bounds = context->saved_data["bounds"].toDoubleVector();
    const auto bottom = static_cast<float>(bounds[0]), top = static_cast<float>(bounds[1]);
    const BoundQuantizeSpec spec = bound_quantize_spec(bottom, top, context->saved_data["levels"].toInt(),
                                                       context->saved_data["centred"].toBool());
    at::Tensor grad_y = gradients[0];
    if (!same_layout(x, grad_y)) grad_y = at::empty_like(x).copy_(grad_y);
    at::Tensor grad_x = at::empty_like(x);
    std::vector<BoundGradients> sums(static_cast<std::size_t>(chunks_of(x.numel())));
    const float *at_x = x.data_ptr<float>(), *from = grad_y.data_ptr<float>();
    float* to = grad_x.data_ptr<float>();
    for_each_chunk(x.numel(), [&](std::int64_t chunk, std::int64_t begin, std::int64_t end) {
      sums[static_cast<std::size_t>(chunk)] =
          bound_quantize_backward(at_x + begin, from + begin, to + begin, end - begin, spec);
    });
    BoundGradients sum;
    for (const BoundGradients& part : sums) {
      sum.low += part.low;
      sum.high += part.high;
    }
    if (!(top - bottom >= kSmallestWidth)) sum = {sum.low + sum.high, 0};
    const auto number = [&](const char* name, double value) {
      return at::full(context->saved_data[name].toIntVector(), value, x.options().requires_grad(false));
    };
    return {grad_x, number("low", sum.low), number("high", sum.high), {}, {}};
  }
};

void require_single(const at::Tensor& low, const at::Tensor& high) {
  if (low.numel() != 1 || high.numel() != 1)
    fail("a quantiser has one pair of bounds, but {} and {} are given; quantise channels apart", low.numel(),
         high.numel());
}

/// x, low, high; attributes levels, centred.
std::vector<at::Tensor> bound_quantize_operator(const OpCall& call) {
  const Node& node = call.node;
  const std::int64_t levels = node.attr("levels", std::int64_t{3});
  if (levels < 1 || levels > 65535) fail("{}: levels {} is not from 1 to 65535", describe(node), levels);
  if (call.input(1).numel() != 1 || call.input(2).numel() != 1)
    fail("{}: low and high must be single numbers, but have {} and {} elements", describe(node),
         call.input(1).numel(), call.input(2).numel());
  return {bound_quantize(call.input(0), call.input(1), call.input(2), levels,
                         node.attr("centred", std::int64_t{0}) != 0)};
}

}  // namespace

at::Tensor bound_quantize(const at::Tensor& x, const at::Tensor& low, const at::Tensor& high,
                          std::int64_t levels, bool centred) {
  require_single(low, high);
  if (!x.device().is_cpu() || x.scalar_type() != at::kFloat || x.layout() != at::kStrided)
    return bound_quantize_composed(x, low, high, levels, centred);
  return BoundQuantize::apply(x.is_non_overlapping_and_dense() ? x : x.contiguous(), low, high, levels,
                              centred);
}

at::Tensor bound_quantize_composed(const at::Tensor& x, const at::Tensor& low, const at::Tensor& high,
                                   std::int64_t levels, bool centred) {
  require_single(low, high);
  const at::Tensor bottom = low.reshape({}).to(x.scalar_type()), top = high.reshape({}).to(x.scalar_type());
  const at::Tensor width =
      crossed(low, high) ? top * 0 + kSmallestWidth : top - bottom;  // the former with a gradient of 0
  const at::Tensor t = (x - bottom) / width;
  // clamp passes gradients at the bounds themselves; they belong outside.
  const at::Tensor inside = at::logical_and(t > 0, t < 1);
  const at::Tensor clipped = at::where(inside, t, at::clamp(t.detach(), 0, 1));
  const auto steps = static_cast<double>(levels);
  const at::Tensor code = at::round(clipped.detach() * steps);
  const at::Tensor value = (centred ? code * 2 - steps : code) / steps;
  const at::Tensor smooth = centred ? clipped * 2 : clipped;
  return value + (smooth - smooth.detach());  // straight through
}

void register_bound_quantize(OpRegistry& registry) {
  registry.add("BoundQuantize", bound_quantize_operator, 1, 1, "lithe");
}

}  // namespace lithe
