#include "lithe/ops/batch_statistics.h"

#include <torch/csrc/autograd/custom_function.h>

#include "lithe/base/error.h"

namespace lithe {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// [c] as [1, c, 1, ...] for tensors of `rank` axes.
at::Tensor by_channel(const at::Tensor& vector, std::int64_t rank) {
  std::vector<std::int64_t> shape(static_cast<std::size_t>(rank), 1);
  shape[1] = vector.numel();
  return vector.view(shape);
}

std::vector<std::int64_t> other_axes(std::int64_t rank) {
  std::vector<std::int64_t> axes{0};
  for (std::int64_t i = 2; i < rank; ++i) axes.push_back(i);
  return axes;
}

class SharedBatchNorm : public torch::autograd::Function<SharedBatchNorm> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& scale,
                            const at::Tensor& bias, const at::Tensor& mean, const at::Tensor& inverse_std,
                            Collective* collective) {
    const at::Tensor factor = scale * inverse_std;
    context->save_for_backward({x, scale, mean, inverse_std});
    context->saved_data["collective"] = reinterpret_cast<std::int64_t>(collective);
    return at::addcmul(by_channel(bias - mean * factor, x.dim()), x, by_channel(factor, x.dim()));
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &scale = saved[1], &mean = saved[2], &inverse_std = saved[3];
    // An autograd context holds numbers and tensors.
    auto* collective = reinterpret_cast<Collective*>(  // NOLINT(performance-no-int-to-ptr)
        context->saved_data["collective"].toInt());
    const at::Tensor& dy = gradients[0];
    const auto axes = other_axes(x.dim());
    const at::Tensor normed = (x - by_channel(mean, x.dim())) * by_channel(inverse_std, x.dim());
    const at::Tensor bias_gradient = dy.sum(axes), scale_gradient = (dy * normed).sum(axes);
    at::Tensor sums = at::cat({bias_gradient, scale_gradient});
    collective->sum(sums);
    const std::int64_t positions = x.numel() / x.size(1) * collective->size();
    sums.div_(static_cast<double>(positions));
    const auto means = sums.chunk(2);
    const at::Tensor dx = (dy - by_channel(means[0], x.dim()) - normed * by_channel(means[1], x.dim())) *
                          by_channel(scale * inverse_std, x.dim());
    return {dx, scale_gradient, bias_gradient, at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

/// Means and population variances of all processes' batches, from those of each.
std::pair<at::Tensor, at::Tensor> shared_statistics(const at::Tensor& x, Collective& collective) {
  const at::NoGradGuard no_grad;
  const at::Tensor values = x.detach();
  const auto axes = other_axes(x.dim());
  const at::Tensor mean = values.mean(axes);
  const at::Tensor variance = (values - by_channel(mean, x.dim())).square_().mean(axes);
  // Batches are equally large: the mean of the variances plus the variance of the means.
  at::Tensor moments = at::cat({mean, variance}).to(at::kDouble);
  at::Tensor square = mean.to(at::kDouble).square();
  at::Tensor sums = at::cat({moments, square});
  collective.sum(sums);
  sums.div_(static_cast<double>(collective.size()));
  const auto parts = sums.chunk(3);
  const at::Tensor shared = parts[1] + (parts[2] - parts[0].square()).clamp_min(0);
  return {parts[0].to(x.scalar_type()), shared.to(x.scalar_type())};
}

}  // namespace

BatchNormed normalize_batch(const at::Tensor& x, const at::Tensor& scale, const at::Tensor& bias,
                            double epsilon, Collective* collective) {
  if (collective && collective->size() > 1) {
    const auto [mean, variance] = shared_statistics(x, *collective);
    const at::Tensor inverse_std = (variance + epsilon).rsqrt();
    return {SharedBatchNorm::apply(x, scale, bias, mean, inverse_std, collective), mean, variance};
  }
  const auto [y, mean, inverse_std] = at::native_batch_norm(x, scale, bias, {}, {}, true, 0.0, epsilon);
  return {y, mean.detach(), (inverse_std.detach().pow(-2) - epsilon).clamp_min(0)};  // rounding
}

}  // namespace lithe
