#include "lithe/kernels/token_reduce.h"

#include <gmock/gmock.h>

#include <cmath>
#include <numeric>

#include "kernels/vector_targets.h"
#include "lithe/base/random.h"

namespace lithe {
namespace {

using ::testing::ElementsAre;
using Floats = std::vector<float>;
using Places = std::vector<std::int64_t>;

TEST(TokenOrder, SpecialTokensThenFallingTiesByIndex) {
  Places order(5);
  token_order(Floats{0, 0.2f, 0.5f, 0.2f, 0.5f, 0.1f}, 1, 5, order.data());
  EXPECT_THAT(order, ElementsAre(0, 2, 4, 1, 3));
  token_order(Floats{0, 1, 1, 1, 1, 1}, 2, 5, order.data());
  EXPECT_THAT(order, ElementsAre(0, 1, 2, 3, 4));
  token_order(Floats{0, NAN, 0.5f, NAN, -1, 0.1f}, 1, 5, order.data());
  EXPECT_THAT(order, ElementsAre(0, 2, 5, 4, 1));
}

TEST(TokenImportance, MeanOverHeadsAndRows) {
  const Floats attention{0.5f,  0.25f, 0.25f, 0, 1, 0,
                         0.25f, 0.5f,  0.25f, 1, 0, 0};  // 2 heads, 2 queries, 3 tokens
  Floats importance(3);
  token_importance(attention.data(), 2, 2, 3, 1, importance.data());
  EXPECT_THAT(importance, ElementsAre(0.375f, 0.375f, 0.25f));
  token_importance(attention.data(), 2, 2, 3, 2, importance.data());
  EXPECT_THAT(importance, ElementsAre(0.4375f, 0.4375f, 0.125f));
}

struct Merged {
  Floats x, size;
  Places assignment;
};

Merged run(const Floats& x, const Floats& size, const Places& order, TokenReduction reduction) {
  reduction.tokens = static_cast<std::int64_t>(size.size());
  reduction.channels = static_cast<std::int64_t>(x.size() / size.size());
  Merged result{Floats(static_cast<std::size_t>(reduction.merge * reduction.channels)),
                Floats(static_cast<std::size_t>(reduction.merge)), Places(size.size())};
  TokenWorkspace workspace;
  reduce_tokens(x.data(), size.data(), order.data(), reduction, result.x.data(), result.size.data(),
                result.assignment.data(), workspace);
  return result;
}

Places first_ones(std::int64_t count) {
  Places order(static_cast<std::size_t>(count));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  return order;
}

void expect_near(const Floats& got, const Floats& wanted) {
  ASSERT_EQ(got.size(), wanted.size());
  for (std::size_t i = 0; i < got.size(); ++i)
    EXPECT_NEAR(got[i], wanted[i], 1e-5 * std::max(1.0f, std::abs(wanted[i]))) << i;
}

const Floats kX{1, 1, 3, 4, 4, 3, 0, 2, 1, 0, 6, 8, 0.1f, 1}, kSize{1, 2, 1, 1, 1, 3, 1};

// Merging seven sorted tokens to three, as the published code does.
TEST(ReduceTokens, PublishedMerge) {
  on_every_target([] {
    const Merged plain = run(kX, kSize, first_ones(7), {.prune = 7, .merge = 3});
    expect_near(plain.x, {1, 1, 2.275f, 3.75f, 2.5f, 1.5f});
    expect_near(plain.size, {1, 6.655732f, 1.8f});
    EXPECT_THAT(plain.assignment, ElementsAre(0, 1, 2, 1, 2, 1, 1));
    expect_near(run(kX, kSize, first_ones(7), {.prune = 7, .merge = 3, .least = 1}).size, {1, 7, 2});
    const Merged weighted =
        run(kX, kSize, first_ones(7), {.prune = 7, .merge = 3, .scaled = false, .weighted = true});
    EXPECT_NEAR(weighted.x[2], 3.4428571f, 1e-5);
    EXPECT_NEAR(weighted.x[3], 5, 1e-5);
    expect_near(weighted.size, {1, 7, 2});
  });
}

TEST(ReduceTokens, NegativeCosineShrinksASize) {
  const Merged merged =
      run({1, 1, 1, 0, 0, 1, -1, -1, -1, 0.2f}, {1, 1, 1, 1, 1}, first_ones(5), {.prune = 5, .merge = 3});
  expect_near(merged.size, {1, 0.292893f, 1.196116f});
}

TEST(ReduceTokens, SizesStayPositive) {
  const Merged merged =
      run({1, 0, 1, 0, -1, 0, -2, 0}, {1, 1, 1, 1}, first_ones(4), {.prune = 4, .merge = 2});
  EXPECT_EQ(merged.size[1], 1e-6f);
}

TEST(ReduceTokens, ZeroTokensGoToTheFirstTarget) {
  const Merged merged = run({1, 1, 0, 0, 0, 2, 0, 0}, {1, 1, 1, 1}, first_ones(4), {.prune = 4, .merge = 3});
  EXPECT_THAT(merged.assignment, ElementsAre(0, 1, 2, 1));
  EXPECT_TRUE(std::isfinite(merged.x[2]));
}

TEST(ReduceTokens, AgreesWithTheReference) {
  Rng rng(3);
  for (const std::int64_t channels : {3, 7, 64, 100}) {
    for (const auto& [tokens, prune, merge, specials] : std::vector<std::array<std::int64_t, 4>>{
             {50, 37, 20, 1}, {50, 50, 3, 2}, {31, 30, 30, 1}, {9, 9, 1, 0}, {40, 22, 21, 5}}) {
      Floats x(static_cast<std::size_t>(tokens * channels)), size(static_cast<std::size_t>(tokens)),
          importance(size.size());
      for (float& value : x) value = static_cast<float>(rng.normal());
      for (float& value : size) value = static_cast<float>(0.5 + 3 * rng.uniform());
      for (float& value : importance) value = static_cast<float>(rng.uniform());
      Places order(static_cast<std::size_t>(prune));
      token_order(importance, specials, prune, order.data());
      for (const bool weighted : {false, true}) {
        const TokenReduction reduction{tokens, channels, prune, merge, specials, !weighted, weighted};
        Floats wanted(static_cast<std::size_t>(merge * channels)),
            wanted_size(static_cast<std::size_t>(merge));
        Places wanted_places(size.size());
        reduce_tokens_reference(x.data(), size.data(), order.data(), reduction, wanted.data(),
                                wanted_size.data(), wanted_places.data());
        on_every_target([&] {
          const Merged got = run(x, size, order, reduction);
          EXPECT_EQ(got.assignment, wanted_places);
          expect_near(got.x, wanted);
          expect_near(got.size, wanted_size);
        });
      }
    }
  }
}

}  // namespace
}  // namespace lithe
