#include "lithe/quantize/reconstruct/sample_cache.h"

#include <gtest/gtest.h>

namespace lithe {
namespace {

at::Tensor images(std::int64_t count) {
  return at::arange(count * 18, at::kFloat).view({count, 2, 3, 3});
}

TEST(SampleCache, KeepsSamplesInRowsOfNhwc) {
  CacheArena arena({});
  SampleCache cache(arena, "x", 4);
  cache.append(images(4).narrow(0, 0, 3), 3);
  cache.append(images(4).narrow(0, 3, 1), 1);
  const at::Tensor rows = cache.float_rows();
  ASSERT_EQ(rows.sizes(), at::IntArrayRef({4, 18}));
  EXPECT_TRUE(rows[1].equal(images(4)[1].permute({1, 2, 0}).flatten()));
  const at::Tensor picked = at::tensor({2, 0}, at::kLong);
  EXPECT_TRUE(cache.gather(picked).equal(images(4).index_select(0, picked)));
  EXPECT_TRUE(cache.present(rows.index_select(0, picked)).equal(cache.gather(picked)));
  EXPECT_TRUE(cache.gather(picked).is_contiguous(at::MemoryFormat::ChannelsLast));
}

TEST(SampleCache, HasNoFloatRowsOfHalvesOrSharedValues) {
  CacheArena halves({.half = true});
  SampleCache half(halves, "x", 2);
  half.append(images(2), 2);
  EXPECT_FALSE(half.float_rows().defined());
  EXPECT_TRUE(half.gather(at::tensor({1}, at::kLong)).equal(images(2).narrow(0, 1, 1)));

  CacheArena arena({});
  SampleCache shared(arena, "size", 2);
  shared.append(at::tensor({3, 3}, at::kLong), 2);
  EXPECT_TRUE(shared.shared());
  EXPECT_FALSE(shared.float_rows().defined());
}

}  // namespace
}  // namespace lithe
