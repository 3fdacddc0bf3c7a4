#include "lithe/graph/tensor_data.h"

#include <bit>
#include <cmath>
#include <cstring>

#include "lithe/base/error.h"
#include "lithe/base/math.h"

namespace lithe {
namespace {

struct TypeFacts {
  std::string_view name;
  int bits;
};

constexpr TypeFacts kTypes[] = {
    {"undefined", 0},      {"float32", 32},  {"uint8", 8},        {"int8", 8},           {"uint16", 16},
    {"int16", 16},         {"int32", 32},    {"int64", 64},       {"string", 0},         {"bool", 8},
    {"float16", 16},       {"float64", 64},  {"uint32", 32},      {"uint64", 64},        {"complex64", 64},
    {"complex128", 128},   {"bfloat16", 16}, {"float8e4m3fn", 8}, {"float8e4m3fnuz", 8}, {"float8e5m2", 8},
    {"float8e5m2fnuz", 8}, {"uint4", 4},     {"int4", 4},         {"float4e2m1", 4},     {"float8e8m0", 8},
    {"uint2", 2},          {"int2", 2},
};

const TypeFacts& facts(DType dtype) {
  const auto index = static_cast<std::size_t>(dtype);
  return index < std::size(kTypes) ? kTypes[index] : kTypes[0];
}

float half_to_float(std::uint16_t half) {
  const int exponent = half >> 10 & 31, mantissa = half & 1023;
  float magnitude;
  if (exponent == 31)
    magnitude = mantissa ? NAN : INFINITY;
  else if (exponent == 0)
    magnitude = std::ldexp(static_cast<float>(mantissa), -24);
  else
    magnitude = std::ldexp(static_cast<float>(mantissa + 1024), exponent - 25);
  return half >> 15 ? -magnitude : magnitude;
}

float bfloat_to_float(std::uint16_t bits) {
  return std::bit_cast<float>(std::uint32_t{bits} << 16);
}

template <typename From, typename To, typename Convert>
void convert_all(std::span<const std::byte> bytes, std::vector<To>& out, Convert convert) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    From value;
    std::memcpy(&value, bytes.data() + i * sizeof(From), sizeof(From));
    out[i] = static_cast<To>(convert(value));  // NOLINT(bugprone-signed-char-misuse): int8 is a number here
  }
}

/// Elements of 2 or 4 bits, widened.
template <typename To>
void unpack(std::span<const std::byte> bytes, int bits, bool is_signed, std::vector<To>& out) {
  const std::size_t per_byte = static_cast<std::size_t>(8 / bits);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto shift = static_cast<int>(i % per_byte) * bits;
    int value = std::to_integer<int>(bytes[i / per_byte]) >> shift & ((1 << bits) - 1);
    if (is_signed && value >> (bits - 1)) value -= 1 << bits;
    out[i] = static_cast<To>(value);
  }
}

template <typename To>
std::vector<To> convert_to(const TensorData& tensor) {
  const auto same = [](auto value) { return value; };
  const auto bytes = tensor.bytes();
  std::vector<To> out(static_cast<std::size_t>(tensor.count()));
  switch (tensor.dtype()) {
    case DType::Float32:
      convert_all<float>(bytes, out, same);
      break;
    case DType::Float64:
      convert_all<double>(bytes, out, same);
      break;
    case DType::Float16:
      convert_all<std::uint16_t>(bytes, out, half_to_float);
      break;
    case DType::BFloat16:
      convert_all<std::uint16_t>(bytes, out, bfloat_to_float);
      break;
    case DType::Int8:
      convert_all<std::int8_t>(bytes, out, same);
      break;
    case DType::Bool:
    case DType::UInt8:
      convert_all<std::uint8_t>(bytes, out, same);
      break;
    case DType::Int16:
      convert_all<std::int16_t>(bytes, out, same);
      break;
    case DType::UInt16:
      convert_all<std::uint16_t>(bytes, out, same);
      break;
    case DType::Int32:
      convert_all<std::int32_t>(bytes, out, same);
      break;
    case DType::UInt32:
      convert_all<std::uint32_t>(bytes, out, same);
      break;
    case DType::Int64:
      convert_all<std::int64_t>(bytes, out, same);
      break;
    case DType::UInt64:
      convert_all<std::uint64_t>(bytes, out, same);
      break;
    case DType::Int4:
      unpack(bytes, 4, true, out);
      break;
    case DType::UInt4:
      unpack(bytes, 4, false, out);
      break;
    case DType::Int2:
      unpack(bytes, 2, true, out);
      break;
    case DType::UInt2:
      unpack(bytes, 2, false, out);
      break;
    default:
      fail("a tensor of type {} cannot be read as numbers", dtype_name(tensor.dtype()));
  }
  return out;
}

std::int64_t counted(const std::vector<std::int64_t>& shape) {
  const auto count = element_count(shape);
  if (!count) fail("the shape {} is negative or too large", format_shape(shape));
  return *count;
}

}  // namespace

std::string_view dtype_name(DType dtype) {
  return facts(dtype).name;
}
int dtype_bits(DType dtype) {
  return facts(dtype).bits;
}

bool is_float(DType dtype) {
  return dtype == DType::Float32 || dtype == DType::Float64 || dtype == DType::Float16 ||
         dtype == DType::BFloat16;
}

bool is_integer(DType dtype) {
  const std::string_view name = dtype_name(dtype);
  return name.starts_with("int") || name.starts_with("uint");
}

std::int64_t packed_bytes(DType dtype, std::int64_t count) {
  const auto bits = checked_multiply(count, dtype_bits(dtype));
  if (!bits) fail("{} elements of {} are too many", count, dtype_name(dtype));
  return *bits / 8 + (*bits % 8 != 0);
}

std::string format_shape(std::span<const std::int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape.begin(), shape.end(), ", "));
}

TensorData::TensorData(DType dtype, std::vector<std::int64_t> shape, std::span<const std::byte> bytes,
                       std::shared_ptr<const void> owner)
    : dtype_(dtype),
      shape_(std::move(shape)),
      count_(counted(shape_)),
      bytes_(bytes),
      owner_(std::move(owner)) {
  if (dtype_bits(dtype) == 0) fail("tensors of element type {} are not supported", static_cast<int>(dtype));
  const std::int64_t wanted = packed_bytes(dtype, count_);
  if (static_cast<std::int64_t>(bytes.size()) != wanted)
    fail("the shape {} of {} takes {} bytes but {} are given", format_shape(shape_), dtype_name(dtype),
         wanted, bytes.size());
}

TensorData::TensorData(std::vector<std::int64_t> shape, std::vector<std::string> strings)
    : dtype_(DType::String), shape_(std::move(shape)), count_(counted(shape_)) {
  if (count_ != static_cast<std::int64_t>(strings.size()))
    fail("the shape {} takes {} strings but {} are given", format_shape(shape_), count_, strings.size());
  owner_ = std::make_shared<const std::vector<std::string>>(std::move(strings));
}

const std::vector<std::string>& TensorData::strings() const {
  require(DType::String);
  return *static_cast<const std::vector<std::string>*>(owner_.get());
}

void TensorData::require(DType wanted) const {
  if (dtype_ != wanted) fail("expected a tensor of {}, got {}", dtype_name(wanted), dtype_name(dtype_));
}

std::vector<float> TensorData::to_floats() const {
  return convert_to<float>(*this);
}
std::vector<std::int64_t> TensorData::to_ints() const {
  return convert_to<std::int64_t>(*this);
}
std::vector<double> TensorData::to_doubles() const {
  return convert_to<double>(*this);
}

TensorData TensorData::reshaped(std::vector<std::int64_t> shape) const {
  TensorData out = *this;
  out.shape_ = std::move(shape);
  out.count_ = counted(out.shape_);
  if (out.count_ != count_) fail("cannot reshape {} to {}", format_shape(shape_), format_shape(out.shape_));
  return out;
}

}  // namespace lithe
