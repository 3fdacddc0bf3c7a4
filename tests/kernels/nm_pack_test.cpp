#include "lithe/kernels/nm_pack.h"

#include <gmock/gmock.h>

#include "lithe/base/error.h"
#include "lithe/base/random.h"
#include "lithe/kernels/nm_mask.h"

namespace lithe {
namespace {

using testing::ElementsAre;

// Golden case G6.
TEST(NmPack, ValuesAndTwoBitPositions) {
  const std::vector<float> row{0, 5, 0, -3, 1, 0, 0, 2};
  const PackedRows packed = nm_pack(row.data(), 1, 8, 2, 4);
  EXPECT_THAT(packed.values, ElementsAre(5, -3, 1, 2));
  EXPECT_THAT(packed.indices, ElementsAre(0xCD));
  EXPECT_EQ(nm_unpack(packed, 1, 8, 2, 4), row);
}

TEST(NmPack, RoundTrip) {
  Rng rng(5);
  for (const auto& [n, m] :
       std::vector<std::pair<int, int>>{{2, 4}, {1, 4}, {1, 16}, {3, 8}, {5, 11}, {1, 1}, {4, 64}}) {
    std::vector<float> dense(static_cast<std::size_t>(3 * 4 * m));
    for (float& value : dense) value = rng.below(3) == 0 ? 0.0f : static_cast<float>(rng.normal());
    std::vector<std::uint8_t> mask(dense.size());
    nm_mask(dense.data(), {3, 4 * m, 1}, n, m, mask.data());
    for (std::size_t i = 0; i < dense.size(); ++i)
      if (mask[i] == 0) dense[i] = 0;
    const PackedRows packed = nm_pack(dense.data(), 3, 4 * m, n, m);
    EXPECT_EQ(packed.values.size(), static_cast<std::size_t>(12 * n));
    EXPECT_EQ(nm_unpack(packed, 3, 4 * m, n, m), dense) << n << ":" << m;
  }
}

TEST(NmPack, RefusesWhatDoesNotFit) {
  const std::vector<float> row{1, 2, 3, 0};
  EXPECT_THROW(nm_pack(row.data(), 1, 4, 2, 4), Error);
  EXPECT_THROW(nm_pack(row.data(), 1, 4, 2, 3), Error);
  EXPECT_THROW(nm_unpack({.values = {1, 2}, .indices = {0}}, 1, 8, 2, 4), Error);
  EXPECT_THROW(nm_unpack({.values = {1}, .indices = {3}}, 1, 3, 1, 3), Error);  // position 3 of 0..2
}

}  // namespace
}  // namespace lithe
