#include "lithe/kernels/bound_quantize.h"

#include <gmock/gmock.h>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/vector_targets.h"
#include "lithe/base/random.h"

namespace lithe {
namespace {

using ::testing::ElementsAre;
using Floats = std::vector<float>;
using Codes = std::vector<std::uint8_t>;

std::int64_t count_of(const Floats& values) {
  return static_cast<std::int64_t>(values.size());
}

Codes codes_of(const Floats& x, const BoundQuantizeSpec& spec) {
  Codes codes(x.size());
  bound_codes(x.data(), codes.data(), count_of(x), spec);
  return codes;
}

// 2-bit weights between -0.6 and 0.6: three times the values are -3, -1, 1 and 3. Ties go to even codes.
TEST(BoundQuantize, GoldenWeights) {
  const Floats w{-.9f, -.6f, -.41f, -.4f, -.39f, -.21f, -.2f, -.19f, -.01f, 0,
                 .01f, .19f, .2f,   .21f, .39f,  .4f,   .41f, .6f,   .9f};
  Floats y(w.size());
  bound_quantize(w.data(), y.data(), count_of(w), bound_quantize_spec(-0.6f, 0.6f, 3, true));
  std::vector<int> thirds;
  for (const float value : y) thirds.push_back(static_cast<int>(std::lround(3 * value)));
  EXPECT_THAT(thirds, ElementsAre(-3, -3, -3, -3, -1, -1, -1, -1, -1, 1, 1, 1, 1, 1, 1, 1, 3, 3, 3));
  for (std::size_t i = 0; i < y.size(); ++i) EXPECT_EQ(y[i], static_cast<float>(thirds[i]) / 3.0f);
}

TEST(BoundQuantize, GoldenActivations) {
  const Floats x{-.5f, 0, .1f, .3333f, .5f, 1, 1.5f, 1.9f, 2, 3};
  EXPECT_THAT(codes_of(x, bound_quantize_spec(0, 2, 3, false)), ElementsAre(0, 0, 0, 0, 1, 2, 2, 3, 3, 3));
  EXPECT_THAT(codes_of(x, bound_quantize_spec(0, 2, 7, false)), ElementsAre(0, 0, 0, 1, 2, 4, 5, 7, 7, 7));
  EXPECT_THAT(codes_of(x, bound_quantize_spec(0, 2, 15, false)),
              ElementsAre(0, 0, 1, 2, 4, 8, 11, 14, 15, 15));
  EXPECT_THAT(codes_of(x, bound_quantize_spec(0, 2, 255, false)),
              ElementsAre(0, 0, 13, 42, 64, 128, 191, 242, 255, 255));
  EXPECT_THAT(codes_of(x, bound_quantize_spec(-0.25f, 2, 15, false)),
              ElementsAre(0, 2, 2, 4, 5, 8, 12, 14, 15, 15));
}

TEST(BoundQuantize, GoldenGradients) {
  const Floats w{-.9f, -.5f, -.1f, .25f, .5f, .9f}, g{1, 2, 3, 4, 5, 6};
  Floats grad(w.size());
  const BoundGradients sums = bound_quantize_backward(w.data(), g.data(), grad.data(), count_of(w),
                                                      bound_quantize_spec(-0.6f, 0.6f, 3, true));
  const double expected[] = {0, 3.333333, 5, 6.666667, 8.333333, 0};
  for (std::size_t i = 0; i < grad.size(); ++i) EXPECT_NEAR(grad[i], expected[i], 1e-5);
  EXPECT_NEAR(sums.high, -14.722221, 1e-5);
  EXPECT_NEAR(sums.low, -8.611111, 1e-5);
}

TEST(BoundQuantize, BoundsThatCrossGetTheSmallestWidth) {
  for (const float high : {-1.0f, 0.0f, 1e-7f})
    EXPECT_EQ(bound_quantize_spec(0, high, 3, false).width, kSmallestWidth);
  EXPECT_EQ(bound_quantize_spec(0, std::nanf(""), 3, false).width, kSmallestWidth);
  EXPECT_THAT(codes_of({-1, 0, 1e-4f}, bound_quantize_spec(0, -5, 3, false)), ElementsAre(0, 0, 3));
}

TEST(BoundQuantize, EveryInstructionSetGivesTheReference) {
  Rng rng(3);
  Floats x(1003), g(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] = static_cast<float>(rng.normal());
    g[i] = static_cast<float>(rng.normal());
  }
  x[5] = std::numeric_limits<float>::infinity();
  x[6] = -x[5];
  x[7] = std::nanf("");
  x[8] = -0.3f;  // at the bound
  for (const bool centred : {false, true}) {
    const BoundQuantizeSpec spec = bound_quantize_spec(-0.3f, 1.1f, 15, centred);
    Floats y(x.size()), gx(x.size()), y0(x.size()), gx0(x.size());
    Codes c(x.size()), c0(x.size());
    bound_quantize_reference(x.data(), y0.data(), count_of(x), spec);
    bound_codes_reference(x.data(), c0.data(), count_of(x), spec);
    const BoundGradients sum0 =
        bound_quantize_backward_reference(x.data(), g.data(), gx0.data(), count_of(x), spec);
    EXPECT_EQ(gx0[8], 0);
    on_every_target([&] {
      bound_quantize(x.data(), y.data(), count_of(x), spec);
      bound_codes(x.data(), c.data(), count_of(x), spec);
      const BoundGradients sum = bound_quantize_backward(x.data(), g.data(), gx.data(), count_of(x), spec);
      for (std::size_t i = 0; i < x.size(); ++i) {
        EXPECT_EQ(std::bit_cast<std::uint32_t>(y[i]), std::bit_cast<std::uint32_t>(y0[i])) << i;
        EXPECT_EQ(std::bit_cast<std::uint32_t>(gx[i]), std::bit_cast<std::uint32_t>(gx0[i])) << i;
      }
      EXPECT_EQ(c, c0);
      EXPECT_NEAR(sum.low, sum0.low, 1e-9 * std::abs(sum0.low));
      EXPECT_NEAR(sum.high, sum0.high, 1e-9 * std::abs(sum0.high));
    });
  }
}

}  // namespace
}  // namespace lithe
