#include "lithe/ops/support.h"

#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <bit>

#include "lithe/base/math.h"

namespace lithe {

std::int64_t checked_axis(const OpCall& call, std::int64_t axis, std::int64_t rank) {
  if (axis < -rank || axis >= rank)
    fail("{}: axis {} is outside a tensor of rank {}", describe(call.node), axis, rank);
  return axis < 0 ? axis + rank : axis;
}

std::vector<std::int64_t> checked_axes(const OpCall& call, std::vector<std::int64_t> axes,
                                       std::int64_t rank) {
  std::vector<bool> seen(static_cast<std::size_t>(rank));
  for (std::int64_t& axis : axes) {
    axis = checked_axis(call, axis, rank);
    if (seen[static_cast<std::size_t>(axis)]) fail("{}: axis {} is named twice", describe(call.node), axis);
    seen[static_cast<std::size_t>(axis)] = true;
  }
  return axes;
}

void check_output_shape(const OpCall& call, const std::vector<std::int64_t>& shape) {
  constexpr std::int64_t kMaxElements = std::int64_t{1} << 32;
  const auto count = element_count(shape);
  if (!count || *count > kMaxElements)
    fail("{}: the output shape {} is negative or too large", describe(call.node), format_shape(shape));
}

at::ScalarType scalar_type_attr(const OpCall& call, std::string_view attribute, std::int64_t fallback) {
  try {
    return scalar_type_of(static_cast<DType>(call.node.attr(attribute, fallback)));
  } catch (const Error& error) {
    fail("{}: attribute '{}': {}", describe(call.node), attribute, error.what());
  }
}

at::Tensor keep_low_bits(const at::Tensor& tensor, DType type) {
  const auto reduced = [&](std::int64_t mask, std::int64_t sign) {
    const at::Tensor bits = at::bitwise_and(tensor.to(at::kLong), mask);
    return (sign ? at::sub(at::bitwise_xor(bits, sign), sign) : bits).to(scalar_type_of(type));
  };
  switch (type) {
    case DType::Int2:
      return reduced(3, 2);
    case DType::UInt2:
      return reduced(3, 0);
    case DType::Int4:
      return reduced(15, 8);
    case DType::UInt4:
      return reduced(15, 0);
    case DType::UInt16:
      return reduced(0xffff, 0);
    case DType::UInt32:
      return reduced(0xffffffff, 0);
    default:
      return tensor;
  }
}

at::Generator generator_of(const OpCall& call) {
  if (const auto* seed = call.node.find<std::int64_t>("seed"))
    return at::make_generator<at::CPUGeneratorImpl>(static_cast<std::uint64_t>(*seed));
  if (const auto* seed = call.node.find<float>("seed"))
    return at::make_generator<at::CPUGeneratorImpl>(std::bit_cast<std::uint32_t>(*seed));
  return call.generator.defined() ? call.generator : at::detail::getDefaultCPUGenerator();
}

}  // namespace lithe
