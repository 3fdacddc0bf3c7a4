#include "lithe/multibit/thresholds.h"

#include <gtest/gtest.h>

#include <vector>

#include "lithe/base/random.h"
#include "lithe/kernels/plain_layers.h"

namespace lithe {
namespace {

/// Codes as they are made with float32 numbers in between.
std::vector<std::uint8_t> codes_by_floats(const BetweenLayers& between, const std::vector<std::int32_t>& sums,
                                          std::int64_t from_stride, std::int64_t channels) {
  const auto positions = static_cast<std::int64_t>(sums.size()) / from_stride;
  std::vector<float> y(static_cast<std::size_t>(positions * channels));
  plain_affine(sums.data(), from_stride, between.scale, between.shift, y.data(), {1, positions, channels});
  if (between.clipped)
    plain_clip(y.data(), between.low, between.high, y.data(), static_cast<std::int64_t>(y.size()));
  std::vector<std::uint8_t> codes(y.size());
  bound_codes(y.data(), codes.data(), static_cast<std::int64_t>(y.size()), between.bounds);
  return codes;
}

// Scales of both signs, none and nearly none; every sum near zero and many far from it.
TEST(Thresholds, GiveTheCodesOfTheFloatSteps) {
  constexpr std::int64_t kChannels = 21, kFrom = 32, kTo = 24, kPositions = 1200;
  constexpr std::int32_t kMost = 3 * 255 * 64 * 9;
  Rng rng(5);
  std::vector<float> scale, shift;
  for (std::int64_t c = 0; c < kChannels; ++c) {
    scale.push_back(static_cast<float>((c % 3 == 0 ? -1 : 1) * 3e-3 * rng.uniform()));
    shift.push_back(static_cast<float>(rng.normal()));
  }
  scale[1] = 0;
  scale[2] = 1e-12f;
  scale[4] = 10;
  shift[5] = 1e6f;
  shift[6] = -1e6f;
  std::vector<std::int32_t> sums(kPositions * kFrom);
  for (std::int64_t p = 0; p < kPositions; ++p)
    for (std::int64_t c = 0; c < kFrom; ++c)
      sums[static_cast<std::size_t>(p * kFrom + c)] =
          p < 601 ? static_cast<std::int32_t>(p - 300)
                  : static_cast<std::int32_t>(rng.below(2 * std::uint64_t{kMost} + 1)) - kMost;
  for (const std::int64_t levels : {3, 7})
    for (const bool clipped : {false, true})
      for (const float low : {-0.2f, 0.0f, 0.3f}) {
        const BetweenLayers between{.scale = scale.data(),
                                    .shift = shift.data(),
                                    .clipped = clipped,
                                    .low = 0,
                                    .high = 1,
                                    .bounds = bound_quantize_spec(low, low + 1.7f, levels, false)};
        const ThresholdTable table = make_thresholds(between, kChannels, kMost);
        const auto expected = codes_by_floats(between, sums, kFrom, kChannels);
        std::vector<std::uint8_t> codes(kPositions * kTo, 99);
        threshold_codes(table, sums.data(), kFrom, codes.data(), kTo, kPositions);
        for (std::int64_t p = 0; p < kPositions; ++p)
          for (std::int64_t c = 0; c < kTo; ++c)
            ASSERT_EQ(codes[static_cast<std::size_t>(p * kTo + c)],
                      c < kChannels ? expected[static_cast<std::size_t>(p * kChannels + c)] : 0)
                << p << " " << c << " " << levels << " " << low;
      }
}

}  // namespace
}  // namespace lithe
