// Codes of the next layer straight from the sums of a convolution, in whole numbers.
#pragma once

#include <cstdint>
#include <vector>

#include "lithe/kernels/bound_quantize.h"

namespace lithe {

/// Between two quantised convolutions lie a scale and a shift by channel, perhaps a clip, and a quantiser:
/// all of them rise or fall with the sum, so that its code is the number of thresholds that the sum reaches
/// (with its sign changed where the scale is negative).
struct ThresholdTable {
  std::int64_t levels = 0, channels = 0;
  std::int64_t stride = 0;           // channels, rounded up; what lies behind them gives code 0
  std::vector<std::int32_t> flips;   // [stride], -1 where the sign changes, else 0
  std::vector<std::int32_t> limits;  // [levels, stride]
};

/// Levels above which comparing takes longer than computing in float.
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

/// codes [positions, to_stride] of sums [positions, from_stride], from_stride a multiple of 16 and to_stride
/// at most that.
void threshold_codes(const ThresholdTable& table, const std::int32_t* sums, std::int64_t from_stride,
                     std::uint8_t* codes, std::int64_t to_stride, std::int64_t positions);

}  // namespace lithe
