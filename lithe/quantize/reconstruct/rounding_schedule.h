// How the learning of roundings runs: when it regularises, how hard, and how fast scales move.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace lithe {

/// Steps count from 1 to `steps`. The reconstruction loss is alone for the first `warmup` of them; then the
/// regulariser's exponent falls linearly from `start` to `end` (Nagel et al., "AdaRound", ICML 2020).
struct RoundingSchedule {
  std::int64_t steps = 20000;
  double warmup = 0.2, start = 20, end = 2;

  bool regularises(std::int64_t step) const {
    return static_cast<double>(step) >= warmup * static_cast<double>(steps);
  }
  double exponent(std::int64_t step) const {
    const double first = warmup * static_cast<double>(steps), length = static_cast<double>(steps) - first;
    if (static_cast<double>(step) < first || length <= 0) return start;
    return end + (start - end) * std::max(0.0, 1 - (static_cast<double>(step) - first) / length);
  }
};

/// Half a cosine from `rate` at step 0 to 0 at step `steps`.
inline double cosine_rate(double rate, std::int64_t step, std::int64_t steps) {
  return rate * 0.5 *
         (1 + std::cos(std::numbers::pi * static_cast<double>(step) / static_cast<double>(steps)));
}

}  // namespace lithe
