// Numbers that may depend on symbolic dimensions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lithe/graph/graph.h"

namespace lithe {

/// One element of a small tensor, or one dimension, as far as it is known before the model runs: an integer,
/// a multiple of a product of symbolic dimensions ("64 * batch"), a real number, or unknown. Dim writes such
/// products as "64*batch".
class Quantity {
 public:
  Quantity() = default;
  Quantity(std::int64_t value) : known_(true), factor_(value) {}
  static Quantity real(double value);
  static Quantity of(const Dim& dim);

  bool known() const { return known_; }
  bool is_integer() const { return known_ && !is_real_ && symbols_.empty(); }
  bool is_real() const { return known_ && is_real_; }
  bool is_number() const { return known_ && symbols_.empty(); }
  bool is_symbolic() const { return known_ && !symbols_.empty(); }
  std::int64_t integer() const { return factor_; }  // only if is_integer
  double number() const { return is_real_ ? real_ : static_cast<double>(factor_); }
  std::optional<std::int64_t> maybe_integer() const {
    return is_integer() ? std::optional<std::int64_t>(factor_) : std::nullopt;
  }
  /// Negative integers and reals give an unknown dimension.
  Dim to_dim() const;

  /// Equal for certain: unknown quantities equal nothing.
  bool same(const Quantity& other) const;
  bool operator==(const Quantity&) const = default;

  // Unknown where the result has no such form or overflows.
  friend Quantity operator*(const Quantity& a, const Quantity& b);
  friend Quantity operator+(const Quantity& a, const Quantity& b);
  friend Quantity operator-(const Quantity& a, const Quantity& b);
  /// Integers: rounded towards zero as ONNX's Div does; symbolic: only if it divides exactly.
  friend Quantity operator/(const Quantity& a, const Quantity& b);
  /// a / b if that leaves no rest, else nothing.
  static std::optional<Quantity> divide_exactly(const Quantity& a, const Quantity& b);

 private:
  bool known_ = false, is_real_ = false;
  std::int64_t factor_ = 0;
  double real_ = 0;
  std::vector<std::string> symbols_;  // sorted
};

using Shape = std::vector<Quantity>;

Shape to_shape(const DimVector& dims);
DimVector to_dims(const Shape& shape);
/// The shape as numbers, if all are.
std::optional<std::vector<std::int64_t>> concrete(const Shape& shape);
std::string format_shape(const Shape& shape);

/// A small tensor whose elements are at least partly known.
struct KnownTensor {
  std::vector<std::int64_t> shape;
  std::vector<Quantity> elements;

  static constexpr std::int64_t kLimit = 4096;  // elements; larger tensors are not tracked
  std::int64_t rank() const { return static_cast<std::int64_t>(shape.size()); }
  /// The elements as integers, if all are.
  std::optional<std::vector<std::int64_t>> integers() const;
};

/// A constant's elements, or nothing if it is too large or of a type that no shape depends on.
std::optional<KnownTensor> known_tensor(const TensorData& data);
/// The tensor as a constant, if every element is a number that the type holds.
std::optional<TensorData> to_constant(const KnownTensor& tensor, DType dtype);

}  // namespace lithe
