// Normalisations over batch, channels or trailing axes, and the softmax family.
#include <cmath>

#include "lithe/ops/batch_statistics.h"
#include "lithe/ops/support.h"

namespace lithe {
namespace {

using Ints = std::vector<std::int64_t>;

void require_rank(const OpCall& call, std::int64_t least) {
  if (call.input(0).dim() < least)
    fail("{}: the input {} needs at least {} axes", describe(call.node),
         format_shape(shape_of(call.input(0))), least);
}

void require_channels(const OpCall& call, std::int64_t channels, std::initializer_list<std::size_t> inputs) {
  for (const std::size_t i : inputs)
    if (call.input(i).numel() != channels)
      fail("{}: input {} has {} elements for {} channels", describe(call.node), i, call.inputs[i].numel(),
           channels);
}

std::vector<at::Tensor> batch_normalization(const OpCall& call) {
  const Node& node = call.node;
  const at::Tensor& x = call.input(0);
  require_rank(call, 1);
  const std::int64_t channels = x.dim() > 1 ? x.size(1) : 1;
  require_channels(call, channels, {1, 2, 3, 4});
  const double epsilon = node.attr("epsilon", 1e-5f), momentum = node.attr("momentum", 0.9f);
  const bool batch_statistics = call.training || node.attr("training_mode", std::int64_t{0}) != 0;
  if (node.attr("spatial", std::int64_t{1}) == 0)
    fail("{}: spatial = 0 (statistics of every activation) is not supported", describe(node));
  // The parameters may be of a wider type than the data.
  const at::ScalarType type = call.input(3).scalar_type();
  const bool convert = is_half(x) || type != x.scalar_type();
  const at::ScalarType compute = is_half(x) && is_half(call.input(3)) ? at::kFloat : type;
  const auto as = [&](const at::Tensor& tensor) { return convert ? tensor.to(compute) : tensor; };
  const at::Tensor input = as(x).dim() > 1 ? as(x) : as(x).unsqueeze(1);
  const at::Tensor scale = as(call.input(1)).reshape({-1}), bias = as(call.input(2)).reshape({-1}),
                   mean = as(call.input(3)).reshape({-1}), var = as(call.input(4)).reshape({-1});
  if (!batch_statistics) {
    const at::Tensor y = at::batch_norm(input, scale, bias, mean, var, false, 1 - momentum, epsilon, false);
    std::vector<at::Tensor> results{y.view_as(x).to(x.scalar_type())};
    for (std::size_t i = 1; i < node.outputs.size() && i < 3; ++i) results.push_back(call.input(i + 2));
    return results;
  }
  const BatchNormed normed = normalize_batch(input, scale, bias, epsilon, call.collective);
  const at::Tensor output = normed.output.view_as(x).to(x.scalar_type());
  // ONNX blends the population variance into the running one (opset 14, Outputs case 1).
  const at::NoGradGuard no_grad;
  const auto blend = [&](const at::Tensor& running, const at::Tensor& current) {
    return (running.detach() * momentum + current.detach() * (1 - momentum)).view_as(call.input(3)).to(type);
  };
  return {output, blend(mean, normed.mean), blend(var, normed.variance)};
}

std::vector<at::Tensor> instance_normalization(const OpCall& call) {
  require_rank(call, 3);
  require_channels(call, call.input(0).size(1), {1, 2});
  const double epsilon = call.node.attr("epsilon", 1e-5f);
  return {in_float(call.input(0), [&](const at::Tensor& x) {
    return at::instance_norm(x, call.input(1).to(x.scalar_type()), call.input(2).to(x.scalar_type()), {}, {},
                             true, 0.0, epsilon, false);
  })};
}

std::vector<at::Tensor> group_normalization(const OpCall& call) {
  require_rank(call, 2);
  const std::int64_t groups = call.node.attr("num_groups", std::int64_t{0});
  const std::int64_t channels = call.input(0).size(1);
  if (groups < 1 || channels % groups != 0)
    fail("{}: num_groups = {} does not divide {} channels", describe(call.node), groups, channels);
  // Scale and bias have one entry a group until opset 20, one a channel from 21.
  const bool per_group = call.opset < 21;
  const double epsilon = call.node.attr("epsilon", 1e-5f);
  return {in_float(call.input(0), [&](const at::Tensor& x) {
    const auto parameter = [&](std::size_t index) {
      at::Tensor tensor = call.input(index).to(x.scalar_type());
      if (per_group && tensor.numel() == groups && groups != channels)
        tensor = tensor.repeat_interleave(channels / groups);
      return tensor;
    };
    return at::group_norm(x, groups, parameter(1), parameter(2), epsilon, false);
  })};
}

std::vector<at::Tensor> layer_normalization(const OpCall& call) {
  const Node& node = call.node;
  const at::Tensor& given = call.input(0);
  const std::int64_t axis = checked_axis(call, node.attr("axis", std::int64_t{-1}), given.dim());
  const double epsilon = node.attr("epsilon", 1e-5f);
  // The default stash_type computes in float32 whatever the input.
  const at::Tensor x = is_half(given) ? given.to(at::kFloat) : given;
  const Ints normalized(x.sizes().begin() + axis, x.sizes().end());
  const auto parameter = [&](std::size_t index) {
    at::Tensor tensor = call.optional(index);
    if (!tensor.defined()) return tensor;
    return tensor.to(x.scalar_type()).expand(normalized).contiguous();
  };
  if (node.output(1).empty() && node.output(2).empty())
    return {
        at::layer_norm(x, normalized, parameter(1), parameter(2), epsilon, false).to(given.scalar_type())};
  const auto [y, mean, inverse_std] =
      at::native_layer_norm(x, normalized, parameter(1), parameter(2), epsilon);
  return {y.to(given.scalar_type()), mean, inverse_std};
}

/// Zhang and Sennrich, 2019; ONNX opset 23.
std::vector<at::Tensor> rms_normalization(const OpCall& call) {
  const at::Tensor& given = call.input(0);
  const std::int64_t axis = checked_axis(call, call.node.attr("axis", std::int64_t{-1}), given.dim());
  const double epsilon = call.node.attr("epsilon", 1e-5f);
  const at::Tensor x = is_half(given) ? given.to(at::kFloat) : given;
  Ints axes;
  for (std::int64_t i = axis; i < x.dim(); ++i) axes.push_back(i);
  const at::Tensor y = x * at::rsqrt(x.square().mean(axes, true) + epsilon);
  return {y.to(given.scalar_type()) * call.input(1)};
}

std::vector<at::Tensor> lp_normalization(const OpCall& call) {
  const at::Tensor& x = call.input(0);
  const std::int64_t axis = checked_axis(call, call.node.attr("axis", std::int64_t{-1}), x.dim());
  const std::int64_t p = call.node.attr("p", std::int64_t{2});
  if (p != 1 && p != 2) fail("{}: p = {} is not 1 or 2", describe(call.node), p);
  const at::Tensor norm = p == 1 ? x.abs().sum(axis, true) : x.square().sum(axis, true).sqrt();
  return {at::where(norm == 0, at::zeros_like(x), x / norm)};
}

/// Krizhevsky et al., 2012: x / (bias + alpha / size * sum of squares over neighbouring channels) ^ beta.
std::vector<at::Tensor> local_response_normalization(const OpCall& call) {
  require_rank(call, 2);
  const Node& node = call.node;
  const std::int64_t size = node.attr("size", std::int64_t{0});
  if (size < 1) fail("{}: size = {} must be positive", describe(node), size);
  const double alpha = node.attr("alpha", 1e-4f), beta = node.attr("beta", 0.75f),
               bias = node.attr("bias", 1.0f);
  return {in_float(call.input(0), [&](const at::Tensor& x) {
    const std::int64_t channels = x.size(1), before = (size - 1) / 2, after = size - 1 - before;
    Ints pads(2 * static_cast<std::size_t>(x.dim() - 1), 0);
    pads[pads.size() - 2] = before;
    pads[pads.size() - 1] = after;
    // Running sums make the cost independent of `size`, but lose precision: windows are short, so add them
    // up.
    const at::Tensor squares = at::constant_pad_nd(x.square(), pads);
    const at::Tensor sums = squares.unfold(1, size, 1).sum(-1).narrow(1, 0, channels);
    return x / (bias + sums * (alpha / static_cast<double>(size))).pow(beta);
  })};
}

std::vector<at::Tensor> mean_variance_normalization(const OpCall& call) {
  const at::Tensor& x = call.input(0);
  const Ints axes = checked_axes(call, call.node.attr("axes", Ints{0, 2, 3}), x.dim());
  return {in_float(x, [&](const at::Tensor& value) {
    const at::Tensor centred = value - value.mean(axes, true);
    return centred / (centred.square().mean(axes, true).sqrt() + 1e-9);
  })};
}

/// Softmax and its kin act on one axis from opset 13; before, on everything from `axis` on, flattened.
template <typename Function>
at::Tensor along_axis(const OpCall& call, Function&& function) {
  const at::Tensor& x = call.input(0);
  const bool flattened = call.opset < 13;
  const std::int64_t fallback = flattened ? 1 : -1, given = call.node.attr("axis", fallback);
  if (flattened && given == x.dim()) return function(x.reshape({-1, 1}), 1).view_as(x);
  const std::int64_t axis = checked_axis(call, given, std::max<std::int64_t>(x.dim(), 1));
  if (!flattened || axis == x.dim() - 1) return function(x, axis);
  std::int64_t rows = 1;
  for (std::int64_t i = 0; i < axis; ++i) rows *= x.size(i);
  if (x.numel() == 0) return x;
  return function(x.reshape({rows, -1}), 1).reshape(x.sizes());
}

std::vector<at::Tensor> softmax(const OpCall& call) {
  return {along_axis(call, [](const at::Tensor& x, std::int64_t axis) {
    return in_float(x, [&](const at::Tensor& value) { return at::softmax(value, axis); });
  })};
}

std::vector<at::Tensor> log_softmax(const OpCall& call) {
  return {along_axis(call, [](const at::Tensor& x, std::int64_t axis) {
    return in_float(x, [&](const at::Tensor& value) { return at::log_softmax(value, axis); });
  })};
}

std::vector<at::Tensor> hardmax(const OpCall& call) {
  return {along_axis(call, [](const at::Tensor& x, std::int64_t axis) {
    // The first of equal maxima wins.
    const at::Tensor is_max = x == x.amax(axis, true);
    return (is_max & (is_max.cumsum(axis) == 1)).to(x.scalar_type());
  })};
}

/// com.microsoft: layer norm of the sum of two tensors (and a bias), as ONNX Runtime's optimiser writes it.
std::vector<at::Tensor> skip_layer_normalization(const OpCall& call) {
  at::Tensor sum = call.input(0) + call.input(1);
  if (call.has(4)) sum = sum + call.inputs[4];
  const double epsilon = call.node.attr("epsilon", 1e-12f);
  const auto [y, mean, inverse_std] =
      at::native_layer_norm(sum, {sum.size(-1)}, call.input(2), call.optional(3), epsilon);
  return {y, mean, inverse_std, sum};
}

}  // namespace

void register_normalization(OpRegistry& registry) {
  registry.add("BatchNormalization", batch_normalization, 7, 24);
  registry.add("InstanceNormalization", instance_normalization, 6, 24);
  registry.add("GroupNormalization", group_normalization, 18, 24);
  registry.add("LayerNormalization", layer_normalization, 1, 24);
  registry.add("RMSNormalization", rms_normalization, 23, 24);
  registry.add("LpNormalization", lp_normalization, 1, 24);
  registry.add("LRN", local_response_normalization, 1, 24);
  registry.add("MeanVarianceNormalization", mean_variance_normalization, 9, 24);
  registry.add("Softmax", softmax, 1, 24);
  registry.add("LogSoftmax", log_softmax, 1, 24);
  registry.add("Hardmax", hardmax, 1, 24);
  registry.add("SkipLayerNormalization", skip_layer_normalization, 1, 1, "com.microsoft");
}

}  // namespace lithe
