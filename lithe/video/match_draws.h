// The random numbers of matching: each is named by what it is for, so none depends on what was drawn before.
#pragma once

#include <array>
#include <cstdint>
#include <utility>

namespace lithe {

/// Numbers by (seed, key of the pair, level, iteration, step, pixel). Levels count from the finest, 0.
/// Mixing is the finaliser of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number
/// generators", OOPSLA 2014).
class MatchDraws {
 public:
  MatchDraws(std::uint64_t seed, std::uint64_t key) : base_(mixed(mixed(seed + kGolden) + key)) {}

  /// An order of the four directions of propagation, which each of the 24 is with equal probability.
  std::array<int, 4> order(int level, int iteration) const {
    std::array<int, 4> order{0, 1, 2, 3};
    std::uint64_t bits = name(level, iteration, kOrder);
    for (std::uint32_t i = 4; i > 1; --i) std::swap(order[i - 1], order[below(bits, i)]);
    return order;
  }

  /// The numbers of one random step at one level; `pair` gives those of a pixel.
  class Step {
   public:
    explicit Step(std::uint64_t base) : base_(base) {}
    /// Uniform in 0..rows-1 and 0..columns-1, up to parts in 2^32.
    std::pair<int, int> pair(std::uint64_t pixel, std::uint32_t rows, std::uint32_t columns) const {
      std::uint64_t bits = mixed(base_ + (pixel + 1) * kGolden);
      const int row = static_cast<int>(below(bits, rows));
      return {row, static_cast<int>(below(bits, columns))};
    }

   private:
    std::uint64_t base_;
  };
  Step step(int level, int iteration, int step) const {
    return Step(name(level, iteration, static_cast<std::uint64_t>(step)));
  }
  /// For the first field.
  Step start(int level) const { return Step(name(level, 0, kStart)); }

 private:
  static constexpr std::uint64_t kGolden = 0x9E3779B97F4A7C15, kOrder = 0xFFFF, kStart = 0xFFFE;

  static constexpr std::uint64_t mixed(std::uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
  }
  /// Takes a number off the upper end of the bits, which are read as a fraction.
  static constexpr std::uint32_t below(std::uint64_t& bits, std::uint32_t bound) {
    const std::uint64_t high = (bits >> 32) * bound, low = (bits & 0xFFFFFFFF) * bound;
    const std::uint64_t sum = high + (low >> 32);
    bits = sum << 32 | (low & 0xFFFFFFFF);
    return static_cast<std::uint32_t>(sum >> 32);
  }
  std::uint64_t name(int level, int iteration, std::uint64_t step) const {
    return mixed(base_ + (static_cast<std::uint64_t>(level) << 48 |
                          static_cast<std::uint64_t>(iteration) << 32 | step) *
                             kGolden);
  }

  std::uint64_t base_;
};

}  // namespace lithe
