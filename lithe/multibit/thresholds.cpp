#include "lithe/multibit/thresholds.h"

#include <limits>

#include "lithe/kernels/plain_layers.h"

namespace lithe {
namespace {

std::int64_t code_of(const BetweenLayers& between, std::int64_t channel, std::int64_t sum) {
  const auto whole = static_cast<std::int32_t>(sum);
  float y = 0;
  plain_affine(&whole, 1, between.scale + channel, between.shift + channel, &y, {});
  if (between.clipped) plain_clip(&y, between.low, between.high, &y, 1);
  std::uint8_t code = 0;
  bound_codes(&y, &code, 1, between.bounds);
  return code;
}

}  // namespace

ThresholdTable make_thresholds(const BetweenLayers& between, std::int64_t channels, std::int32_t most_sum) {
  constexpr std::int32_t kNever = std::numeric_limits<std::int32_t>::max();
  ThresholdTable table{.levels = static_cast<std::int64_t>(between.bounds.levels),
                       .channels = channels,
                       .stride = (channels + kThresholdBlock - 1) / kThresholdBlock * kThresholdBlock,
                       .flips = {},
                       .limits = {}};
  table.flips.assign(static_cast<std::size_t>(table.stride), 0);
  table.limits.assign(static_cast<std::size_t>(table.levels * table.stride), kNever);
  for (std::int64_t c = 0; c < channels; ++c) {
    const bool falls = between.scale[c] < 0;
    const auto code = [&](std::int64_t sum) { return code_of(between, c, falls ? -sum : sum); };
    table.flips[static_cast<std::size_t>(c)] = falls ? -1 : 0;
    std::int64_t least = -std::int64_t{most_sum};
    for (std::int64_t level = 1; level <= table.levels; ++level) {
      if (code(most_sum) < level) break;
      // The least sum that reaches the level; those of higher levels lie no lower.
      std::int64_t high = most_sum;
      while (least < high) {
        const std::int64_t middle = least + (high - least) / 2;
        if (code(middle) >= level)
          high = middle;
        else
          least = middle + 1;
      }
      table.limits[static_cast<std::size_t>((level - 1) * table.stride + c)] =
          static_cast<std::int32_t>(least);
    }
  }
  return table;
}

}  // namespace lithe
