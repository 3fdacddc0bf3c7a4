// Codes of the next layer straight from the sums of a convolution, in whole numbers.
#pragma once

#include <cstdint>
#include <vector>

namespace lithe {

/// By channel what a sum must reach for each code; where `flips` is -1 the sum counts with its sign changed.
struct ThresholdTable {
  std::int64_t levels = 0, channels = 0;
  std::int64_t stride = 0;           // channels, rounded up to 16; what lies behind them gives code 0
  std::vector<std::int32_t> flips;   // [stride], 0 or -1
  std::vector<std::int32_t> limits;  // [levels, stride], of a channel ascending
};
inline constexpr std::int64_t kThresholdBlock = 16;  // channels

/// codes [positions, to_stride] of sums [positions, from_stride]: how many limits of its channel a sum
/// reaches. from_stride is a multiple of 16, to_stride at most the table's stride.
void threshold_codes(const ThresholdTable& table, const std::int32_t* sums, std::int64_t from_stride,
                     std::uint8_t* codes, std::int64_t to_stride, std::int64_t positions);

}  // namespace lithe
