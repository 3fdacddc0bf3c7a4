// Integer arithmetic that does not overflow silently.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

namespace lithe {

/// a * b, or nothing if it does not fit into int64.
inline std::optional<std::int64_t> checked_multiply(std::int64_t a, std::int64_t b) {
  std::int64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

/// The product of the dimensions, or nothing if one is negative or the product does not fit.
inline std::optional<std::int64_t> element_count(std::span<const std::int64_t> shape) {
  std::int64_t count = 1;
  bool empty = false;
  for (const std::int64_t dim : shape) {
    if (dim < 0) return std::nullopt;
    if (dim == 0) empty = true;
  }
  if (empty) return 0;
  for (const std::int64_t dim : shape) {
    const auto next = checked_multiply(count, dim);
    if (!next) return std::nullopt;
    count = *next;
  }
  return count;
}

inline std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

}  // namespace lithe
