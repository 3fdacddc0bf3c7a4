// Random choices that nobody stores: which elements a quantiser touches in one training step.
#pragma once

#include <cmath>
#include <cstdint>

namespace lithe {

/// Which elements a quantiser touches in one step (QDrop: Wei et al., ICLR 2022). The choice for an element
/// is a function of `key` and the element's index, so that forward and backward agree and any part of a
/// tensor can be computed alone. Take a new key for every tensor and step.
///
/// With hash(i) = mix64(mix64(key) + i * 0x9E3779B97F4A7C15), mix64 being the finaliser of SplitMix64 (Steele
/// et al., OOPSLA 2014), and k = `keep` rounded to 1/65536:
///   k = 1    every element is kept;
///   k = 1/2  one bit an element: i is kept if bit i % 64 of hash(i / 64) is 1;
///   else     16 bits an element: i is kept if bits 16 (i % 4) ... 16 (i % 4) + 15 of hash(i / 4) are less
///   than
///            65536 k.
struct DropMask {
  std::uint64_t key = 0;
  double keep = 1;  // probability of keeping the quantised value; NaN counts as 0
};

namespace drop {

constexpr std::uint32_t kAll = 65536, kHalf = 32768;
constexpr std::uint64_t kStride = 0x9E3779B97F4A7C15;

/// `keep` in units of 1/65536.
inline std::uint32_t threshold(const DropMask& mask) {
  if (!(mask.keep > 0)) return 0;
  return mask.keep < 1 ? static_cast<std::uint32_t>(std::lround(mask.keep * kAll)) : kAll;
}

constexpr std::uint64_t mix64(std::uint64_t bits) {
  bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9;
  bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB;
  return bits ^ (bits >> 31);
}

/// hash(counter) above; `seed` is mix64(key).
constexpr std::uint64_t hash(std::uint64_t seed, std::uint64_t counter) {
  return mix64(seed + counter * kStride);
}

}  // namespace drop

/// Whether the quantised value of this element is kept; index >= 0.
inline bool kept(const DropMask& mask, std::int64_t index) {
  const std::uint32_t threshold = drop::threshold(mask);
  if (threshold == drop::kAll) return true;
  const auto i = static_cast<std::uint64_t>(index);
  const std::uint64_t seed = drop::mix64(mask.key);
  if (threshold == drop::kHalf) return (drop::hash(seed, i / 64) >> (i % 64) & 1) != 0;
  return (drop::hash(seed, i / 4) >> (16 * (i % 4)) & 0xFFFF) < threshold;
}

}  // namespace lithe
