// Magnitudes as integers, which have a total order.
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

namespace lithe {

/// Unsigned integers that order as |value| does; -0 equals 0, NaN is largest.
template <typename Real>
using MagnitudeKey = std::conditional_t<sizeof(Real) == 4, std::uint32_t, std::uint64_t>;

template <typename Real>
MagnitudeKey<Real> magnitude_key(Real value) {
  using Key = MagnitudeKey<Real>;
  return std::bit_cast<Key>(value) & (~Key{0} >> 1);
}

}  // namespace lithe
