// Constants of a graph: element type, shape, bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lithe {

/// Element types, numbered as in ONNX's TensorProto.DataType.
enum class DType : std::int32_t {
  Undefined = 0,
  Float32 = 1,
  UInt8 = 2,
  Int8 = 3,
  UInt16 = 4,
  Int16 = 5,
  Int32 = 6,
  Int64 = 7,
  String = 8,
  Bool = 9,
  Float16 = 10,
  Float64 = 11,
  UInt32 = 12,
  UInt64 = 13,
  Complex64 = 14,
  Complex128 = 15,
  BFloat16 = 16,
  Float8E4M3FN = 17,
  Float8E4M3FNUZ = 18,
  Float8E5M2 = 19,
  Float8E5M2FNUZ = 20,
  UInt4 = 21,
  Int4 = 22,
  Float4E2M1 = 23,
  Float8E8M0 = 24,
  UInt2 = 25,
  Int2 = 26,
};

/// "float32", "int4", ...
std::string_view dtype_name(DType dtype);
/// Bits an element takes (4 for int4); 0 for strings and types that Lithe does not know.
int dtype_bits(DType dtype);
bool is_float(DType dtype);    // float16, bfloat16, float32, float64
bool is_integer(DType dtype);  // signed and unsigned, 2 to 64 bits; not bool

/// The DType of a C++ type: float, double, bool and the fixed-width integers.
template <typename T>
constexpr DType dtype_of();

/// An immutable tensor that shares its bytes between copies. Elements are row-major and little-endian;
/// types below 8 bits are packed with the first element in the low bits, as ONNX stores them.
class TensorData {
 public:
  TensorData() = default;
  /// Wraps `bytes`, kept alive by `owner`. Throws Error(Input) if their number does not follow from the
  /// shape.
  TensorData(DType dtype, std::vector<std::int64_t> shape, std::span<const std::byte> bytes,
             std::shared_ptr<const void> owner);
  /// A tensor of strings.
  TensorData(std::vector<std::int64_t> shape, std::vector<std::string> strings);

  template <typename T>
  static TensorData from(std::vector<std::int64_t> shape, std::vector<T> values);
  template <typename T>
  static TensorData scalar(T value) {
    return from<T>({}, {value});
  }

  DType dtype() const { return dtype_; }
  const std::vector<std::int64_t>& shape() const { return shape_; }
  std::int64_t rank() const { return static_cast<std::int64_t>(shape_.size()); }
  std::int64_t count() const { return count_; }
  std::span<const std::byte> bytes() const { return bytes_; }
  /// What keeps `bytes` alive; lets a view of them outlive this object.
  const std::shared_ptr<const void>& owner() const { return owner_; }
  const std::vector<std::string>& strings() const;

  /// The elements in place; throws Error(Input) if T is not the element type.
  template <typename T>
  std::span<const T> values() const;
  /// The elements converted, whatever the (non-string, non-complex, non-float8) element type.
  std::vector<float> to_floats() const;
  std::vector<std::int64_t> to_ints() const;
  std::vector<double> to_doubles() const;

  TensorData reshaped(std::vector<std::int64_t> shape) const;

 private:
  void require(DType wanted) const;

  DType dtype_ = DType::Undefined;
  std::vector<std::int64_t> shape_;
  std::int64_t count_ = 0;
  std::span<const std::byte> bytes_;
  std::shared_ptr<const void> owner_;  // of strings: a std::vector<std::string>
};

/// "[2, 3, 224, 224]"
std::string format_shape(std::span<const std::int64_t> shape);

/// Bytes that `count` elements take, sub-byte types packed.
std::int64_t packed_bytes(DType dtype, std::int64_t count);

// --- templates -------------------------------------------------------------------------------------------

template <typename T>
constexpr DType dtype_of() {
  if constexpr (std::is_same_v<T, float>) return DType::Float32;
  if constexpr (std::is_same_v<T, double>) return DType::Float64;
  if constexpr (std::is_same_v<T, bool>) return DType::Bool;
  if constexpr (std::is_same_v<T, std::int8_t>) return DType::Int8;
  if constexpr (std::is_same_v<T, std::uint8_t>) return DType::UInt8;
  if constexpr (std::is_same_v<T, std::int16_t>) return DType::Int16;
  if constexpr (std::is_same_v<T, std::uint16_t>) return DType::UInt16;
  if constexpr (std::is_same_v<T, std::int32_t>) return DType::Int32;
  if constexpr (std::is_same_v<T, std::uint32_t>) return DType::UInt32;
  if constexpr (std::is_same_v<T, std::int64_t>) return DType::Int64;
  if constexpr (std::is_same_v<T, std::uint64_t>) return DType::UInt64;
}

template <typename T>
TensorData TensorData::from(std::vector<std::int64_t> shape, std::vector<T> values) {
  static_assert(!std::is_same_v<T, bool>, "use uint8 bytes with DType::Bool");
  auto owner = std::make_shared<const std::vector<T>>(std::move(values));
  const auto bytes = std::as_bytes(std::span<const T>(*owner));
  return TensorData(dtype_of<T>(), std::move(shape), bytes, std::move(owner));
}

template <typename T>
std::span<const T> TensorData::values() const {
  require(dtype_of<T>());
  return {reinterpret_cast<const T*>(bytes_.data()), static_cast<std::size_t>(count_)};
}

}  // namespace lithe
