// What the sums of a convolution must reach for the codes of the next layer.
#pragma once

#include <cstdint>

#include "lithe/kernels/bound_quantize.h"
#include "lithe/kernels/threshold_codes.h"

namespace lithe {

// Between two quantised convolutions lie a scale and a shift by channel, perhaps a clip, and a quantiser: all
// of them rise or fall with the sum, so that its code is the number of limits that the sum reaches.

/// Levels from 15 on take as long to compare with as computing in float does, or longer.
inline constexpr std::int64_t kMostThresholds = 7;

/// What lies between the sums and the codes.
struct BetweenLayers {
  const float* scale = nullptr;  // by channel
  const float* shift = nullptr;
  bool clipped = false;
  float low = 0, high = 0;  // of the clip
  BoundQuantizeSpec bounds;
};

/// The table for sums from -`most_sum` to `most_sum`. Every step is that of the kernels in float32, so that
/// the codes are theirs, bit for bit.
ThresholdTable make_thresholds(const BetweenLayers& between, std::int64_t channels, std::int32_t most_sum);

}  // namespace lithe
