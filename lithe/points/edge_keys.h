// Weights of edges as integers that sort quickly.
#pragma once

#include <bit>
#include <cstdint>
#include <vector>

namespace lithe {

/// No edge: comes after every other key.
inline constexpr std::uint64_t kNoEdge = ~std::uint64_t{0};

/// A finite weight above the number of its edge: keys rise with the weight, and among equal weights with the
/// number. Zeros of either sign are equal.
inline std::uint64_t edge_key(float weight, std::uint32_t edge) {
  const auto bits = std::bit_cast<std::uint32_t>(weight + 0.0f);
  const std::uint32_t rising = bits ^ ((bits >> 31) != 0 ? 0xFFFFFFFFu : 0x80000000u);
  return std::uint64_t{rising} << 32 | edge;
}
inline float key_weight(std::uint64_t key) {
  const auto rising = static_cast<std::uint32_t>(key >> 32);
  return std::bit_cast<float>(rising ^ ((rising >> 31) != 0 ? 0x80000000u : 0xFFFFFFFFu));
}
inline std::uint32_t key_edge(std::uint64_t key) {
  return static_cast<std::uint32_t>(key);
}

/// Sorts keys whose edges rise from key to key: a radix sort by weight that keeps the order of equals. Takes
/// as much memory again while it works.
void sort_edge_keys(std::vector<std::uint64_t>& keys);

}  // namespace lithe
