#include "lithe/graph/quantity.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "lithe/base/math.h"

namespace lithe {
namespace {

constexpr std::size_t kMaxSymbols = 8;

template <typename T>
TensorData make_constant(const KnownTensor& tensor) {
  std::vector<T> values;
  for (const Quantity& element : tensor.elements)
    values.push_back(element.is_real() ? static_cast<T>(element.number())
                                       : static_cast<T>(element.integer()));
  return TensorData::from<T>(tensor.shape, std::move(values));
}

}  // namespace

Quantity Quantity::real(double value) {
  Quantity result;
  result.known_ = result.is_real_ = true;
  result.real_ = value;
  return result;
}

Quantity Quantity::of(const Dim& dim) {
  if (dim.known()) return Quantity(dim.value);
  if (dim.symbol.empty()) return {};
  Quantity result(1);
  std::string_view rest = dim.symbol;
  while (!rest.empty()) {
    const std::size_t star = rest.find('*');
    const std::string_view part = rest.substr(0, star);
    rest = star == std::string_view::npos ? std::string_view{} : rest.substr(star + 1);
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), number);
    Quantity factor(number);
    if (error != std::errc{} || end != part.data() + part.size()) {
      factor = Quantity(1);
      factor.symbols_ = {std::string(part)};
    }
    result = result * factor;
  }
  return result;
}

Dim Quantity::to_dim() const {
  if (!known_ || is_real_ || factor_ < 0) return {};
  if (symbols_.empty()) return {factor_, ""};
  std::string text = factor_ == 1 ? "" : std::to_string(factor_);
  for (const std::string& symbol : symbols_) text += (text.empty() ? "" : "*") + symbol;
  return {-1, text};
}

bool Quantity::same(const Quantity& other) const {
  return known_ && *this == other;
}

Quantity operator*(const Quantity& a, const Quantity& b) {
  if (a.is_integer() && a.factor_ == 0 && !b.is_real_) return a;
  if (b.is_integer() && b.factor_ == 0 && !a.is_real_) return b;
  if (!a.known_ || !b.known_) return {};
  if (a.is_real_ || b.is_real_) {
    if (a.is_number() && b.is_number()) return Quantity::real(a.number() * b.number());
    const Quantity& scale = a.is_real_ ? a : b;
    const Quantity& symbolic = a.is_real_ ? b : a;
    if (std::floor(scale.real_) != scale.real_ || std::abs(scale.real_) > 1e15) return {};
    return symbolic * Quantity(static_cast<std::int64_t>(scale.real_));
  }
  const auto factor = checked_multiply(a.factor_, b.factor_);
  if (!factor || a.symbols_.size() + b.symbols_.size() > kMaxSymbols) return {};
  Quantity result(*factor);
  std::merge(a.symbols_.begin(), a.symbols_.end(), b.symbols_.begin(), b.symbols_.end(),
             std::back_inserter(result.symbols_));
  return result;
}

Quantity operator+(const Quantity& a, const Quantity& b) {
  if (!a.known_ || !b.known_) return {};
  if (a.is_number() && b.is_number() && (a.is_real_ || b.is_real_))
    return Quantity::real(a.number() + b.number());
  if (a.is_real_ || b.is_real_) return {};
  if (a.is_integer() && a.factor_ == 0) return b;
  if (b.is_integer() && b.factor_ == 0) return a;
  if (a.symbols_ != b.symbols_) return {};
  Quantity result = a;
  if (__builtin_add_overflow(a.factor_, b.factor_, &result.factor_)) return {};
  if (result.factor_ == 0) result.symbols_.clear();
  return result;
}

Quantity operator-(const Quantity& a, const Quantity& b) {
  return a + b * Quantity(-1);
}

std::optional<Quantity> Quantity::divide_exactly(const Quantity& a, const Quantity& b) {
  if (!a.known_ || !b.known_ || a.is_real_ || b.is_real_ || b.factor_ == 0 || b.factor_ == -1)
    return std::nullopt;
  if (a.factor_ % b.factor_ != 0) return std::nullopt;
  if (!std::includes(a.symbols_.begin(), a.symbols_.end(), b.symbols_.begin(), b.symbols_.end()))
    return std::nullopt;
  Quantity result(a.factor_ / b.factor_);
  std::set_difference(a.symbols_.begin(), a.symbols_.end(), b.symbols_.begin(), b.symbols_.end(),
                      std::back_inserter(result.symbols_));
  return result;
}

Quantity operator/(const Quantity& a, const Quantity& b) {
  if (!a.known_ || !b.known_) return {};
  if (a.is_number() && b.is_number()) {
    if (a.is_real_ || b.is_real_)
      return b.number() == 0 ? Quantity() : Quantity::real(a.number() / b.number());
    if (b.factor_ == 0) return {};
    if (b.factor_ == -1) return a * b;
    return Quantity(a.factor_ / b.factor_);
  }
  if (b.is_real_) {
    if (std::floor(b.real_) != b.real_ || std::abs(b.real_) > 1e15) return {};
    return a / Quantity(static_cast<std::int64_t>(b.real_));
  }
  return Quantity::divide_exactly(a, b).value_or(Quantity());
}

Shape to_shape(const DimVector& dims) {
  Shape shape;
  shape.reserve(dims.size());
  for (const Dim& dim : dims) shape.push_back(Quantity::of(dim));
  return shape;
}

DimVector to_dims(const Shape& shape) {
  DimVector dims;
  dims.reserve(shape.size());
  for (const Quantity& size : shape) dims.push_back(size.to_dim());
  return dims;
}

std::optional<std::vector<std::int64_t>> concrete(const Shape& shape) {
  std::vector<std::int64_t> sizes;
  sizes.reserve(shape.size());
  for (const Quantity& size : shape) {
    if (!size.is_integer()) return std::nullopt;
    sizes.push_back(size.integer());
  }
  return sizes;
}

std::string format_shape(const Shape& shape) {
  std::string text = "[";
  for (const Quantity& size : shape) {
    if (text.size() > 1) text += ", ";
    const Dim dim = size.to_dim();
    text += dim.known() ? std::to_string(dim.value) : dim.symbol.empty() ? "?" : dim.symbol;
  }
  return text + "]";
}

std::optional<std::vector<std::int64_t>> KnownTensor::integers() const {
  return concrete(elements);
}

std::optional<KnownTensor> known_tensor(const TensorData& data) {
  if (data.count() > KnownTensor::kLimit) return std::nullopt;
  KnownTensor result{data.shape(), {}};
  switch (data.dtype()) {
    case DType::Bool:
    case DType::Int8:
    case DType::UInt8:
    case DType::Int16:
    case DType::UInt16:
    case DType::Int32:
    case DType::UInt32:
    case DType::Int64:
      for (const std::int64_t value : data.to_ints()) result.elements.emplace_back(value);
      return result;
    case DType::Float16:
    case DType::BFloat16:
    case DType::Float32:
    case DType::Float64:
      for (const double value : data.to_doubles()) result.elements.push_back(Quantity::real(value));
      return result;
    default:
      return std::nullopt;
  }
}

std::optional<TensorData> to_constant(const KnownTensor& tensor, DType dtype) {
  for (const Quantity& element : tensor.elements)
    if (!element.is_number()) return std::nullopt;
  switch (dtype) {
    case DType::Int64:
      return make_constant<std::int64_t>(tensor);
    case DType::Int32:
      return make_constant<std::int32_t>(tensor);
    case DType::Float32:
      return make_constant<float>(tensor);
    case DType::Bool: {
      const auto bytes = std::make_shared<std::vector<std::byte>>();
      for (const Quantity& element : tensor.elements)
        bytes->push_back(element.number() != 0 ? std::byte{1} : std::byte{0});
      return TensorData(DType::Bool, tensor.shape, *bytes, bytes);
    }
    default:
      return std::nullopt;
  }
}

}  // namespace lithe
