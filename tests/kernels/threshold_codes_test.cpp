#include "lithe/kernels/threshold_codes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "kernels/vector_targets.h"
#include "lithe/base/random.h"

namespace lithe {
namespace {

constexpr std::int64_t kFrom = 48, kPositions = 50;

ThresholdTable random_table(std::int64_t levels, std::int64_t channels, Rng& rng) {
  const std::int64_t stride = (channels + kThresholdBlock - 1) / kThresholdBlock * kThresholdBlock;
  ThresholdTable table{.levels = levels, .channels = channels, .stride = stride, .flips = {}, .limits = {}};
  table.flips.assign(static_cast<std::size_t>(stride), 0);
  table.limits.assign(static_cast<std::size_t>(levels * stride), std::numeric_limits<std::int32_t>::max());
  for (std::int64_t c = 0; c < channels; ++c) {
    table.flips[static_cast<std::size_t>(c)] = c % 3 == 0 ? -1 : 0;
    std::vector<std::int32_t> limits;
    for (std::int64_t i = 0; i < levels; ++i)
      limits.push_back(static_cast<std::int32_t>(rng.below(101)) - 50);
    std::sort(limits.begin(), limits.end());
    for (std::int64_t i = 0; i < levels; ++i)
      table.limits[static_cast<std::size_t>(i * stride + c)] = limits[static_cast<std::size_t>(i)];
  }
  return table;
}

TEST(ThresholdCodes, CountLimitsOnEveryInstructionSet) {
  Rng rng(8);
  std::vector<std::int32_t> sums(kPositions * kFrom);
  for (auto& sum : sums) sum = static_cast<std::int32_t>(rng.below(121)) - 60;
  for (const std::int64_t levels : {1, 3, 5, 7, 15})
    for (const std::int64_t channels : {3, 16, 21, 40}) {
      const ThresholdTable table = random_table(levels, channels, rng);
      const std::int64_t to = (channels + 3) / 4 * 4;
      on_every_target([&] {
        std::vector<std::uint8_t> codes(static_cast<std::size_t>(kPositions * to) + 1, 99);
        threshold_codes(table, sums.data(), kFrom, codes.data(), to, kPositions);
        for (std::int64_t p = 0; p < kPositions; ++p)
          for (std::int64_t c = 0; c < to; ++c) {
            int reached = 0;
            for (std::int64_t level = 0; c < channels && level < levels; ++level) {
              const std::int32_t sum = sums[static_cast<std::size_t>(p * kFrom + c)];
              reached += (c % 3 == 0 ? -sum : sum) >=
                         table.limits[static_cast<std::size_t>(level * table.stride + c)];
            }
            ASSERT_EQ(codes[static_cast<std::size_t>(p * to + c)], reached) << p << " " << c << " " << levels;
          }
        EXPECT_EQ(codes.back(), 99);  // nothing is written behind them
      });
    }
}

}  // namespace
}  // namespace lithe
