#include "lithe/kernels/nm_mask.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "lithe/base/random.h"

namespace lithe {
namespace {

std::string mask_text(const std::vector<double>& weight, const ChannelGroups& groups, std::int64_t n,
                      std::int64_t m) {
  std::vector<std::uint8_t> mask(weight.size());
  nm_mask(weight.data(), groups, n, m, mask.data());
  std::string text;
  for (const std::uint8_t bit : mask) text += bit != 0 ? '1' : '0';
  return text;
}

// Golden case G1: ties keep the higher channel.
TEST(NmMask, TiesKeepTheHigherChannel) {
  const std::vector<double> first{0.5, -0.5, 0.25, 0.5, 0, 0, 0, 0.125}, second{-1, 2, -3, 4, 4, -3, 2, -1};
  const ChannelGroups filter{1, 8, 1};
  EXPECT_EQ(mask_text(first, filter, 2, 4), "01010011");
  EXPECT_EQ(mask_text(second, filter, 2, 4), "00111100");
  EXPECT_EQ(mask_text(first, filter, 1, 4), "00010001");
  EXPECT_EQ(mask_text(second, filter, 1, 4), "00011000");
  EXPECT_EQ(mask_text(first, filter, 1, 8), "00010000");
  EXPECT_EQ(mask_text(second, filter, 1, 8), "00001000");
  EXPECT_EQ(mask_text(first, filter, 4, 8), "11110000");
  EXPECT_EQ(mask_text(second, filter, 4, 8), "00111100");
}

// Golden case G2: groups run along the channels, at every kernel position, not along the flat memory.
TEST(NmMask, GroupsRunAlongTheChannels) {
  const std::vector<double> weight{9, 1, 2, 8, 1, 9, 8, 2, 5, 5.5, 6, 1, 4, 3, 7, 5};
  EXPECT_EQ(mask_text(weight, {1, 4, 4}, 2, 4), "1001011011000011");
  // The mask of flat memory breaks the pattern at one position, (1, 0), where three channels are kept.
  const std::vector<double> flat{9, 0, 0, 8, 0, 9, 8, 0, 0, 5.5, 6, 0, 0, 0, 7, 5};
  EXPECT_EQ(count_nm_violations(flat.data(), {1, 4, 4}, 2, 4), 1);
  std::vector<int> kept(4);
  for (std::size_t i = 0; i < flat.size(); ++i) kept[i % 4] += flat[i] != 0 ? 1 : 0;
  EXPECT_EQ(kept, (std::vector<int>{1, 2, 3, 2}));
  for (std::size_t position = 0; position < 4; ++position) {
    std::vector<double> channel;
    for (std::size_t c = 0; c < 4; ++c) channel.push_back(flat[c * 4 + position]);
    EXPECT_EQ(count_nm_violations(channel.data(), {1, 4, 1}, 2, 4), position == 2 ? 1 : 0) << position;
  }
}

// Golden case G7: the last group of two channels keeps min(N, 2).
TEST(NmMask, ShortLastGroup) {
  const std::vector<double> weight{3, -1, 2, 0.5, -4, 1};
  EXPECT_EQ(mask_text(weight, {1, 6, 1}, 2, 4), "101011");
  EXPECT_EQ(mask_text(weight, {1, 6, 1}, 1, 4), "100010");
}

TEST(NmMask, OddNumbersHaveTheirPlace) {
  const double nan = std::numeric_limits<double>::quiet_NaN(),
               tiny = std::numeric_limits<double>::denorm_min();
  EXPECT_EQ(mask_text({nan, 5, 4, 3}, {1, 4, 1}, 1, 4), "1000");
  EXPECT_EQ(mask_text({0.0, -0.0, 0.0, -0.0}, {1, 4, 1}, 2, 4), "0011");
  EXPECT_EQ(mask_text({0, tiny, 0, 0}, {1, 4, 1}, 1, 4), "0100");
}

class NmMaskOfSize : public testing::TestWithParam<int> {};

TEST_P(NmMaskOfSize, AgreesWithSorting) {
  const std::int64_t m = GetParam();
  Rng rng(7, static_cast<std::uint64_t>(m));
  for (const std::int64_t inner : {1, 3, 9})
    for (const std::int64_t channels : {m, 3 * m, 2 * m + 1, m / 2 + 1}) {
      const ChannelGroups groups{3, channels, inner};
      std::vector<float> weight(static_cast<std::size_t>(groups.count()));
      // Few levels, so that there are many ties.
      for (float& value : weight) value = static_cast<float>(static_cast<int>(rng.below(9)) - 4);
      const auto n = static_cast<std::int64_t>(1 + rng.below(static_cast<std::uint64_t>(m)));
      std::vector<std::uint8_t> mask(weight.size(), 9), wanted(weight.size(), 9);
      nm_mask(weight.data(), groups, n, m, mask.data());
      nm_mask_reference(weight.data(), groups, n, m, wanted.data());
      EXPECT_EQ(mask, wanted) << n << ":" << m << ", " << channels << " channels";
      for (std::size_t i = 0; i < weight.size(); ++i) weight[i] *= mask[i];
      EXPECT_EQ(count_nm_violations(weight.data(), groups, n, m), 0);
    }
}

// A positive factor on an output channel changes no mask, so folding batch norms cannot.
TEST_P(NmMaskOfSize, FactorsOnOutputChannelsChangeNothing) {
  const std::int64_t m = GetParam();
  Rng rng(8, static_cast<std::uint64_t>(m));
  for (const std::int64_t channels : {m, 3 * m, 2 * m + 1}) {
    const ChannelGroups groups{5, channels, 4};
    std::vector<float> weight(static_cast<std::size_t>(groups.count()));
    for (std::size_t i = 0; i < weight.size(); ++i)  // ties too
      weight[i] = i % 3 == 0 ? static_cast<float>(static_cast<int>(rng.below(5)) - 2)
                             : static_cast<float>(rng.normal());
    std::vector<float> scaled = weight;
    const float factors[] = {0.37f, 1e-6f, 3e5f, 2.0f, 0.01f};
    const std::size_t row = weight.size() / 5;
    for (std::size_t i = 0; i < scaled.size(); ++i) scaled[i] *= factors[i / row];
    const std::int64_t n = (m + 1) / 2;
    std::vector<std::uint8_t> before(weight.size()), after(weight.size());
    nm_mask(weight.data(), groups, n, m, before.data());
    nm_mask(scaled.data(), groups, n, m, after.data());
    EXPECT_EQ(after, before) << n << ":" << m << ", " << channels << " channels";
  }
}

INSTANTIATE_TEST_SUITE_P(Groups, NmMaskOfSize, testing::Values(1, 2, 3, 4, 5, 8, 12, 16, 32, 64, 65, 200));

}  // namespace
}  // namespace lithe
