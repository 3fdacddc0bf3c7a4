// Constants of a graph as LibTorch tensors and back.
#include <algorithm>
#include <bit>
#include <cstring>

#include "lithe/base/error.h"
#include "lithe/ops/registry.h"

namespace lithe {
namespace {

static_assert(std::endian::native == std::endian::little,
              "constants are used in place, in little-endian order");

/// Elements that LibTorch 1.13 has no type for (unsigned above 8 bits, packed below 8), converted one by one.
template <typename To>
at::Tensor widened(const TensorData& data, at::ScalarType type) {
  at::Tensor out = at::empty(data.shape(), type);
  const std::vector<std::int64_t> values = data.to_ints();
  std::transform(values.begin(), values.end(), out.data_ptr<To>(),
                 [](std::int64_t value) { return static_cast<To>(value); });
  return out;
}

bool is_aligned(const void* address, std::size_t alignment) {
  return reinterpret_cast<std::uintptr_t>(address) % alignment == 0;
}

}  // namespace

at::ScalarType scalar_type_of(DType dtype) {
  switch (dtype) {
    case DType::Float32:
      return at::kFloat;
    case DType::Float64:
      return at::kDouble;
    case DType::Float16:
      return at::kHalf;
    case DType::BFloat16:
      return at::kBFloat16;
    case DType::Bool:
      return at::kBool;
    case DType::Int2:
    case DType::Int4:
    case DType::Int8:
      return at::kChar;
    case DType::UInt2:
    case DType::UInt4:
    case DType::UInt8:
      return at::kByte;
    case DType::Int16:
      return at::kShort;
    case DType::UInt16:
    case DType::Int32:
      return at::kInt;
    case DType::UInt32:
    case DType::UInt64:
    case DType::Int64:
      return at::kLong;
    default:
      fail("the engine does not compute with element type {}", dtype_name(dtype));
  }
}

DType dtype_of_scalar(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return DType::Float32;
    case at::kDouble:
      return DType::Float64;
    case at::kHalf:
      return DType::Float16;
    case at::kBFloat16:
      return DType::BFloat16;
    case at::kBool:
      return DType::Bool;
    case at::kChar:
      return DType::Int8;
    case at::kByte:
      return DType::UInt8;
    case at::kShort:
      return DType::Int16;
    case at::kInt:
      return DType::Int32;
    case at::kLong:
      return DType::Int64;
    default:
      fail("ONNX has no element type for tensors of {}", c10::toString(type));
  }
}

at::Tensor to_tensor(const TensorData& data) {
  const at::ScalarType type = scalar_type_of(data.dtype());
  if (data.count() == 0) return at::empty(data.shape(), type);
  switch (data.dtype()) {
    case DType::Int2:
    case DType::Int4:
      return widened<std::int8_t>(data, type);
    case DType::UInt2:
    case DType::UInt4:
      return widened<std::uint8_t>(data, type);
    case DType::UInt16:
      return widened<std::int32_t>(data, type);
    case DType::UInt32:
      return widened<std::int64_t>(data, type);
    case DType::UInt64: {
      at::Tensor out = widened<std::int64_t>(data, type);
      if (out.lt(0).any().item<bool>())
        fail("a uint64 constant holds a value above 2^63 - 1, which the engine cannot represent");
      return out;
    }
    default:
      break;
  }
  const std::span<const std::byte> bytes = data.bytes();
  if (data.dtype() == DType::Bool &&
      std::any_of(bytes.begin(), bytes.end(), [](std::byte b) { return std::to_integer<int>(b) > 1; }))
    return widened<std::uint8_t>(data, at::kByte).ne(0);
  if (!is_aligned(bytes.data(), c10::elementSize(type))) {
    at::Tensor out = at::empty(data.shape(), type);
    std::memcpy(out.data_ptr(), bytes.data(), bytes.size());
    return out;
  }
  // LibTorch has no read-only tensors; operators never write into their inputs.
  return at::from_blob(
      const_cast<std::byte*>(bytes.data()), data.shape(),
      [owner = data.owner()](void*) mutable { owner.reset(); }, at::TensorOptions(type));
}

TensorData to_tensor_data(const at::Tensor& tensor) {
  const DType dtype = dtype_of_scalar(tensor.scalar_type());
  at::Tensor copy = tensor.detach().to(at::kCPU).contiguous();
  if (copy.is_alias_of(tensor)) copy = copy.clone();
  const auto owner = std::make_shared<const at::Tensor>(copy);
  return TensorData(dtype, copy.sizes().vec(),
                    {static_cast<const std::byte*>(copy.data_ptr()), static_cast<std::size_t>(copy.nbytes())},
                    owner);
}

}  // namespace lithe
