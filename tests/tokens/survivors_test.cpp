#include "lithe/tokens/survivors.h"

#include <gtest/gtest.h>

#include "message_of.h"
#include "tokens/toy_vit.h"

namespace lithe {
namespace {

TEST(Survivors, DroppedPatchesAreGreyAndGroupsShareAColour) {
  const at::Tensor picture = at::arange(16, at::kDouble).reshape({1, 4, 4}) * 10;
  const at::Tensor fate = at::tensor({0, 1, 2, -1, 2}, at::kLong);  // a class token and four patches of 2 x 2
  const at::Tensor drawn = draw_survivors(picture, fate, 1, {2, 2});
  EXPECT_TRUE(at::equal(drawn.slice(1, 0, 2).slice(2, 0, 2), picture.slice(1, 0, 2).slice(2, 0, 2)));
  EXPECT_TRUE(at::allclose(drawn.slice(1, 2, 4).slice(2, 0, 2),
                           picture.slice(1, 2, 4).slice(2, 0, 2) * 0.2 + 0.8 * 128));
  const double mean =
      (picture.slice(1, 0, 2).slice(2, 2, 4).mean() + picture.slice(1, 2, 4).slice(2, 2, 4).mean())
          .item<double>() /
      2;
  EXPECT_NEAR(drawn[0][0][2].item<double>(), mean, 1e-9);
  EXPECT_NEAR(drawn[0][3][3].item<double>(), mean, 1e-9);
  EXPECT_NE(test::message_of([&] {
              draw_survivors(picture, at::tensor({0, 1, 2}, at::kLong), 0, {2, 2});
            }).find("do not lie in 2 rows"),
            std::string::npos);
}

// Patches of 4 x 1 pixels, and of pictures that they do not divide.
TEST(Survivors, PatchesOfAnyForm) {
  const at::Tensor picture = at::arange(16, at::kDouble).reshape({1, 4, 4}) * 10;
  const at::Tensor drawn = draw_survivors(picture, at::tensor({0, -1, 2, 3}, at::kLong), 0, {1, 4});
  EXPECT_TRUE(at::equal(drawn.slice(2, 2, 4), picture.slice(2, 2, 4)));
  EXPECT_TRUE(at::equal(drawn.slice(2, 0, 1), picture.slice(2, 0, 1)));
  EXPECT_TRUE(at::allclose(drawn.slice(2, 1, 2), picture.slice(2, 1, 2) * 0.2 + 0.8 * 128));
  const at::Tensor nine = draw_survivors(picture, at::full({9}, -1, at::kLong), 0, {3, 3});
  EXPECT_TRUE(at::allclose(nine, picture * 0.2 + 0.8 * 128));  // every pixel belongs to one
  EXPECT_NE(test::message_of([&] {
              draw_survivors(picture, at::zeros({10}, at::kLong), 0, {5, 2});
            }).find("more than the 4 x 4"),
            std::string::npos);
}

TEST(Survivors, GridOfTheStem) {
  TokenModel model{.tokens = 17, .specials = 1};
  EXPECT_EQ(patch_grid(model, 8, 8)->rows, 4);
  EXPECT_EQ(patch_grid(model, 16, 4)->rows, 8);
  EXPECT_FALSE(patch_grid(model, 9, 8).has_value());
  model.grid_rows = 2;
  model.grid_columns = 8;
  EXPECT_EQ(patch_grid(model, 9, 8)->rows, 2);
  EXPECT_EQ(patch_grid(model, 16, 16)->columns, 8);
}

TEST(Survivors, TraceThroughAllBlocks) {
  const Graph graph = prepare_tokens(toy_vit());
  const TokenModel model = find_attention(graph);
  const auto fates = trace_tokens(graph, model, reduce_steps({{17, 12, 6}, {17, 9, 4}}, 17), toy_images());
  ASSERT_EQ(fates.size(), 3u);
  EXPECT_TRUE(at::equal(fates[0][0], at::arange(17, at::kLong)));
  const at::Tensor last = fates[2][0];  // final groups {0} {4,13} {1} {2,7,9,16}
  const auto group = [&](std::int64_t token) { return last[token].item<std::int64_t>(); };
  EXPECT_EQ(group(0), 0);
  EXPECT_EQ(group(4), group(13));
  EXPECT_EQ(group(2), group(7));
  EXPECT_EQ(group(2), group(16));
  EXPECT_NE(group(1), group(2));
  EXPECT_EQ((last < 0).sum().item<std::int64_t>(), 17 - 8);
}

}  // namespace
}  // namespace lithe
