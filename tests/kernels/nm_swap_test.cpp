#include "lithe/kernels/nm_swap.h"

#include <gtest/gtest.h>

#include <numeric>

#include "lithe/base/random.h"

namespace lithe {
namespace {

std::vector<float> with_order(const std::vector<float>& weight, const ChannelGroups& groups,
                              const std::vector<std::int64_t>& order) {
  std::vector<float> out(weight.size());
  for (std::int64_t o = 0; o < groups.outer; ++o)
    for (std::int64_t c = 0; c < groups.channels; ++c)
      for (std::int64_t i = 0; i < groups.inner; ++i)
        out[static_cast<std::size_t>((o * groups.channels + c) * groups.inner + i)] =
            weight[static_cast<std::size_t>(
                (o * groups.channels + order[static_cast<std::size_t>(c)]) * groups.inner + i)];
  return out;
}

TEST(SwapTable, GainsAreThoseOfTheSwappedWeight) {
  Rng rng(11);
  for (const auto& [n, m, channels] : std::vector<std::array<std::int64_t, 3>>{
           {2, 4, 16}, {1, 4, 12}, {1, 8, 16}, {3, 4, 8}, {4, 4, 8}, {2, 4, 10}, {1, 4, 9}}) {
    const ChannelGroups groups{5, channels, 9};
    std::vector<float> weight(static_cast<std::size_t>(groups.count()));
    for (float& value : weight) value = static_cast<float>(rng.normal());
    SwapTable table(weight.data(), groups, n, m);
    const double before = kept_magnitude_reference(weight.data(), groups, n, m);
    EXPECT_NEAR(table.kept(), before, 1e-4);
    std::vector<std::int64_t> order(static_cast<std::size_t>(channels));
    std::iota(order.begin(), order.end(), std::int64_t{0});
    for (std::int64_t a = 0; a < channels; ++a)
      for (std::int64_t b = 0; b < channels; ++b) {
        auto swapped = order;
        std::swap(swapped[static_cast<std::size_t>(a)], swapped[static_cast<std::size_t>(b)]);
        const auto moved = with_order(weight, groups, swapped);
        EXPECT_NEAR(table.gain(a, b), kept_magnitude_reference(moved.data(), groups, n, m) - before, 1e-4)
            << n << ":" << m << " of " << channels << ", channels " << a << " and " << b;
      }
    for (int step = 0; step < 5; ++step) {
      const auto a = static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(channels)));
      const auto b = static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(channels)));
      table.swap(a, b);
      std::swap(order[static_cast<std::size_t>(a)], order[static_cast<std::size_t>(b)]);
    }
    const auto moved = with_order(weight, groups, order);
    EXPECT_NEAR(table.kept(), kept_magnitude_reference(moved.data(), groups, n, m), 1e-4);
  }
}

}  // namespace
}  // namespace lithe
