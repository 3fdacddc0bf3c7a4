// Operators that make tensors: constants, ranges, random numbers.
#include <cmath>

#include "lithe/ops/support.h"

namespace lithe {
namespace {

using at::Tensor;
using Outputs = std::vector<Tensor>;

Outputs constant(const OpCall& call) {
  const Node& node = call.node;
  const auto count = [](const auto* values) {
    return std::vector{static_cast<std::int64_t>(values->size())};
  };
  Tensor out;
  if (const auto* data = node.find<TensorData>("value")) {
    out = to_tensor(*data);
  } else if (const auto* number = node.find<float>("value_float")) {
    out = to_tensor(TensorData::scalar(*number));
  } else if (const auto* whole = node.find<std::int64_t>("value_int")) {
    out = to_tensor(TensorData::scalar(*whole));
  } else if (const auto* numbers = node.find<std::vector<float>>("value_floats")) {
    out = to_tensor(TensorData::from(count(numbers), *numbers));
  } else if (const auto* wholes = node.find<std::vector<std::int64_t>>("value_ints")) {
    out = to_tensor(TensorData::from(count(wholes), *wholes));
  } else {
    fail("{}: a constant must be a dense tensor of numbers, not a string or a sparse tensor", describe(node));
  }
  return {out.to(call.device)};
}

Outputs constant_of_shape(const OpCall& call) {
  const std::vector<std::int64_t> shape = call.ints(0);
  check_output_shape(call, shape);
  const auto* data = call.node.find<TensorData>("value");
  if (data && data->count() != 1)
    fail("{}: the value must have one element, not {}", describe(call.node), data->count());
  const Tensor value = data ? to_tensor(*data).reshape({}) : at::zeros({}, at::kFloat);
  return {at::full(shape, value.item(), value.options().device(call.input(0).device()))};
}

Outputs range(const OpCall& call) {
  const Tensor &start = call.input(0), &limit = call.input(1), &delta = call.input(2);
  for (const Tensor& bound : {start, limit, delta})
    if (bound.numel() != 1) fail("{}: start, limit and delta must be scalars", describe(call.node));
  const double first = start.item<double>(), step = delta.item<double>(), span = limit.item<double>() - first;
  if (step == 0 || !std::isfinite(step) || !std::isfinite(span))
    fail("{}: start, limit and delta must be finite, and delta not 0", describe(call.node));
  const double count = std::max(0.0, std::ceil(span / step));
  if (count > 4e9) fail("{}: the range has {:.0f} elements, which is too many", describe(call.node), count);
  const auto elements = static_cast<std::int64_t>(count);
  check_output_shape(call, {elements});
  const at::ScalarType type = start.scalar_type();
  const bool whole = at::isIntegralType(type, /*includeBool=*/false);
  const Tensor steps =
      at::arange(elements, at::TensorOptions(whole ? at::kLong : at::kDouble).device(start.device()));
  return {whole ? (steps * delta.item<std::int64_t>() + start.item<std::int64_t>()).to(type)
                : (steps * step + first).to(type)};
}

/// The shape and type of a random tensor: of attributes, or of the input for the operators named "...Like".
struct Wanted {
  std::vector<std::int64_t> shape;
  at::ScalarType type;
  at::Device device;
};

Wanted wanted(const OpCall& call) {
  constexpr auto kFloat32 = static_cast<std::int64_t>(DType::Float32);
  if (call.inputs.empty()) {
    std::vector<std::int64_t> shape = call.node.attr("shape", std::vector<std::int64_t>{});
    check_output_shape(call, shape);
    return {std::move(shape), scalar_type_attr(call, "dtype", kFloat32), call.device};
  }
  const Tensor& like = call.input(0);
  const auto same = static_cast<std::int64_t>(dtype_of_scalar(like.scalar_type()));
  return {shape_of(like), scalar_type_attr(call, "dtype", same), like.device()};
}

Outputs random_normal(const OpCall& call) {
  const Wanted out = wanted(call);
  const double mean = call.node.attr("mean", 0.0f), scale = call.node.attr("scale", 1.0f);
  const Tensor noise = at::randn(out.shape, generator_of(call), at::TensorOptions(at::kFloat));
  return {(noise * scale + mean).to(out.type).to(out.device)};
}

Outputs random_uniform(const OpCall& call) {
  const Wanted out = wanted(call);
  const double low = call.node.attr("low", 0.0f), high = call.node.attr("high", 1.0f);
  const Tensor noise = at::rand(out.shape, generator_of(call), at::TensorOptions(at::kFloat));
  return {(noise * (high - low) + low).to(out.type).to(out.device)};
}

Outputs bernoulli(const OpCall& call) {
  const Wanted out = wanted(call);
  const Tensor odds = call.input(0).detach().to(at::kCPU, at::kDouble);
  const Tensor draws = at::rand(out.shape, generator_of(call), at::TensorOptions(at::kDouble));
  return {(draws < odds).to(out.type).to(out.device)};
}

/// Class indices drawn, with replacement, from rows of unnormalised log-probabilities [batch, classes].
Outputs multinomial(const OpCall& call) {
  const Tensor& logits = call.input(0);
  const std::int64_t samples = call.node.attr("sample_size", std::int64_t{1});
  if (logits.dim() != 2 || samples < 1)
    fail("{}: needs an input of rank 2 and a sample_size of at least 1", describe(call.node));
  check_output_shape(call, {logits.size(0), samples});
  const at::ScalarType type = scalar_type_attr(call, "dtype", static_cast<std::int64_t>(DType::Int32));
  const Tensor odds = at::softmax(logits.detach().to(at::kCPU, at::kDouble), 1);
  const Tensor drawn = at::multinomial(odds, samples, /*replacement=*/true, generator_of(call));
  return {drawn.to(type).to(logits.device())};
}

}  // namespace

void register_generator(OpRegistry& registry) {
  registry.add("Constant", constant);
  registry.add("ConstantOfShape", constant_of_shape, 9);
  registry.add("Range", range, 11);
  registry.add("RandomNormal", random_normal);
  registry.add("RandomNormalLike", random_normal);
  registry.add("RandomUniform", random_uniform);
  registry.add("RandomUniformLike", random_uniform);
  registry.add("Bernoulli", bernoulli, 15);
  registry.add("Multinomial", multinomial, 7);
}

}  // namespace lithe
