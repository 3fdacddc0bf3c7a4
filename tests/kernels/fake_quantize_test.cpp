#include "lithe/kernels/fake_quantize.h"

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

Floats normals(std::int64_t count, std::uint64_t seed, double scale = 1) {
  Rng rng(seed);
  Floats values(static_cast<std::size_t>(count));
  for (float& value : values) value = static_cast<float>(scale * rng.normal());
  return values;
}

/// Equal bits, so that NaN equals NaN and 0 does not equal -0.
std::vector<std::uint32_t> bits_of(const Floats& values) {
  std::vector<std::uint32_t> bits;
  for (const float value : values) bits.push_back(std::bit_cast<std::uint32_t>(value));
  return bits;
}

double share_kept(const DropMask& mask, std::int64_t count) {
  std::int64_t total = 0;
  for (std::int64_t i = 0; i < count; ++i) total += kept(mask, i) ? 1 : 0;
  return static_cast<double>(total) / static_cast<double>(count);
}

TEST(DropMask, KeepsTheShareAskedFor) {
  constexpr std::int64_t kCount = 200000;
  for (const double keep : {0.5, 0.3, 0.9, 0.01}) {
    const double spread = std::sqrt(keep * (1 - keep) / kCount);
    for (std::uint64_t key = 0; key < 4; ++key)
      EXPECT_NEAR(share_kept({key, keep}, kCount), keep, 4.5 * spread + 1.0 / 131072) << key;
  }
  EXPECT_EQ(share_kept({7, 1.0}, 1000), 1);
  EXPECT_EQ(share_kept({7, 0.0}, 1000), 0);
  EXPECT_EQ(share_kept({7, std::nan("")}, 1000), 0);
  EXPECT_EQ(share_kept({7, 2.0}, 1000), 1);
}

// Elements at any small distance, and the same elements under keys that differ in one bit, agree by chance
// only.
TEST(DropMask, NeighboursAndKeysAreIndependent) {
  constexpr std::int64_t kCount = 100000;
  for (const double keep : {0.5, 0.3}) {
    const double by_chance = keep * keep + (1 - keep) * (1 - keep);
    const double tolerance = 4.5 * std::sqrt(by_chance * (1 - by_chance) / kCount);
    const DropMask mask{1234, keep};
    for (const std::int64_t distance : {1, 2, 3, 4, 8, 32, 63, 64, 65, 256, 4096}) {
      std::int64_t equal = 0;
      for (std::int64_t i = 0; i < kCount; ++i) equal += kept(mask, i) == kept(mask, i + distance) ? 1 : 0;
      EXPECT_NEAR(static_cast<double>(equal) / kCount, by_chance, tolerance) << distance;
    }
    for (int bit = 0; bit < 64; bit += 7) {
      const DropMask other{mask.key ^ (std::uint64_t{1} << bit), keep};
      std::int64_t equal = 0;
      for (std::int64_t i = 0; i < kCount; ++i) equal += kept(mask, i) == kept(other, i) ? 1 : 0;
      EXPECT_NEAR(static_cast<double>(equal) / kCount, by_chance, tolerance) << bit;
    }
  }
}

// Kept is what is drawn strictly below the probability.
TEST(DropMask, KeepsWhatIsDrawnBelowTheProbability) {
  for (std::uint64_t key = 0; key < 50; ++key)
    for (std::int64_t i = 0; i < 4; ++i) {
      const auto drawn = static_cast<double>(drop::hash(drop::mix64(key), 0) >> (16 * i) & 0xFFFF);
      if (drawn == 0 || drawn == 32767 || drawn == 32768) continue;  // a half has a way of its own
      EXPECT_FALSE(kept({key, drawn / 65536}, i));
      EXPECT_TRUE(kept({key, (drawn + 1) / 65536}, i));
    }
}

// Draws of .1, .6, .49, .5 and .9 at probability 1/2 keep the first and the third.
TEST(Mix, GoldenBlendOfQuantisedAndFull) {
  const Floats quantised{1, 2, 3, 4, 5}, full{1.25f, 2.25f, 3.25f, 4.25f, 5.25f};
  DropMask mask{.key = 0, .keep = 0.5};
  const auto keeps = [&](std::int64_t i) { return kept(mask, i); };
  while (!(keeps(0) && !keeps(1) && keeps(2) && !keeps(3) && !keeps(4))) ++mask.key;
  Floats y(5);
  mix(quantised.data(), full.data(), y.data(), 5, mask);
  EXPECT_THAT(y, ElementsAre(1, 2.25f, 3, 4.25f, 5.25f));
}

TEST(FakeQuantize, GoldenScalesAndGradients) {
  const Floats x{-1, -0.4f, 0, 0.3f, 0.55f, 0.9f, 1.7f, 2.6f}, ones(8, 1.0f);
  const FakeQuantizeSpec spec{.scale = 0.7f, .zero_point = 1, .low = 0, .high = 3};
  Floats y(8), grad(8);
  fake_quantize(x.data(), y.data(), 8, spec, {});
  for (std::size_t i = 0; i < 8; ++i)
    EXPECT_FLOAT_EQ(y[i], (Floats{-0.7f, -0.7f, 0, 0, 0.7f, 0.7f, 1.4f, 1.4f})[i]);
  // -1 / 0.7 rounds to the border and keeps its gradient; 2.6 / 0.7 is clipped.
  EXPECT_NEAR(fake_quantize_backward(x.data(), ones.data(), grad.data(), 8, spec, {}), 1.07142854, 1e-6);
  EXPECT_THAT(grad, ElementsAre(1, 1, 1, 1, 1, 1, 1, 0));

  const FakeQuantizeSpec fine{.scale = 0.014117647f, .zero_point = 71, .low = 0, .high = 255};
  fake_quantize(x.data(), y.data(), 8, fine, {});
  const Floats expected{-1.002353f, -0.395294f, 0, 0.296471f, 0.550588f, 0.903529f, 1.694118f, 2.597647f};
  for (std::size_t i = 0; i < 8; ++i) EXPECT_NEAR(y[i], expected[i], 1e-6);
}

TEST(FakeQuantize, RoundsHalfToEven) {
  const Floats x{0.5f, 1.5f, 2.5f, -1.5f, -2.5f};
  Floats padded(128, 2.5f), y(128);
  std::copy(x.begin(), x.end(), padded.begin());
  fake_quantize(padded.data(), y.data(), 128, {.scale = 1, .zero_point = 8, .low = 0, .high = 15}, {});
  EXPECT_THAT(Floats(y.begin(), y.begin() + 6), ElementsAre(0, 2, 2, -2, -2, 2));
}

struct Case {
  double keep;
  std::int64_t count, offset;
};

// Specials stand where vectors are at work; sizes and offsets leave all kinds of ends.
void compare_with_reference(const Case& test) {
  const auto [keep, count, offset] = test;
  const DropMask mask{99, keep};
  const FakeQuantizeSpec spec{.scale = 0.137f, .zero_point = 3, .low = 0, .high = 15};
  Floats x = normals(count, 1);
  const Floats grad_y = normals(count, 2);
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const Floats specials{std::nanf(""), kInfinity, -kInfinity, -0.0f, 1e-30f, 3e38f, -3e38f, 0.0685f, 0.2055f};
  for (std::size_t i = 0; i < specials.size() && 5 * i < x.size(); ++i) x[5 * i] = specials[i];
  Floats y(x.size()), expected(x.size());
  fake_quantize(x.data(), y.data(), count, spec, mask, offset);
  fake_quantize_reference(x.data(), expected.data(), count, spec, mask, offset);
  EXPECT_EQ(bits_of(y), bits_of(expected));

  Floats gradient = grad_y;  // in place
  Floats expected_gradient(x.size());
  if (!x.empty()) x[0] = 0.25f;  // NaN would be all of the sum
  double sum = fake_quantize_backward(x.data(), gradient.data(), gradient.data(), count, spec, mask, offset);
  const double expected_sum = fake_quantize_backward_reference(
      x.data(), grad_y.data(), expected_gradient.data(), count, spec, mask, offset);
  EXPECT_EQ(bits_of(gradient), bits_of(expected_gradient));
  EXPECT_NEAR(sum, expected_sum, 1e-12 * static_cast<double>(count + 1));
  sum -= fake_quantize_backward(x.data(), grad_y.data(), gradient.data(), count, spec, mask, offset);
  EXPECT_EQ(sum, 0);

  mix(y.data(), grad_y.data(), gradient.data(), count, mask, offset);
  mix_reference(y.data(), grad_y.data(), expected.data(), count, mask, offset);
  EXPECT_EQ(bits_of(gradient), bits_of(expected));
}

class FakeQuantizeKernel : public ::testing::TestWithParam<Case> {};

TEST_P(FakeQuantizeKernel, EqualsTheReference) {
  on_every_target([&] { compare_with_reference(GetParam()); });
}

INSTANTIATE_TEST_SUITE_P(Sizes, FakeQuantizeKernel,
                         ::testing::Values(Case{1, 1000, 0}, Case{1, 0, 0}, Case{1, 1, 5}, Case{0.5, 1000, 0},
                                           Case{0.5, 0, 3}, Case{0.5, 63, 0}, Case{0.5, 64, 0},
                                           Case{0.5, 1000, 1}, Case{0.5, 200, 63}, Case{0.5, 20, 70},
                                           Case{0.3, 1000, 0}, Case{0.3, 1000, 37}, Case{0.3, 65, 64},
                                           Case{0, 300, 0}, Case{0.999, 5000, 2}, Case{0.5, 70000, 0}));

TEST(FakeQuantizeKernel, PartsAreTheWhole) {
  constexpr std::int64_t kCount = 500;
  const Floats x = normals(kCount, 5), full = normals(kCount, 6);
  const FakeQuantizeSpec spec{.scale = 0.2f, .zero_point = 7, .low = 0, .high = 15};
  for (const double keep : {0.5, 0.3}) {
    const DropMask mask{42, keep};
    Floats whole(kCount), parts(kCount), mixed(kCount), mixed_parts(kCount);
    fake_quantize(x.data(), whole.data(), kCount, spec, mask);
    mix(x.data(), full.data(), mixed.data(), kCount, mask);
    for (const auto& [begin, end] : {std::pair{0, 70}, {70, 71}, {71, 320}, {320, 500}}) {
      fake_quantize(x.data() + begin, parts.data() + begin, end - begin, spec, mask, begin);
      mix(x.data() + begin, full.data() + begin, mixed_parts.data() + begin, end - begin, mask, begin);
    }
    EXPECT_EQ(whole, parts);
    EXPECT_EQ(mixed, mixed_parts);
    for (std::size_t i = 0; i < kCount; ++i)
      EXPECT_EQ(mixed[i], kept(mask, static_cast<std::int64_t>(i)) ? x[i] : full[i]);
  }
}

TEST(FakeQuantizeKernel, DroppedElementsPass) {
  const Floats x{5, 6, 7}, grad_y{1, 2, 3};
  const FakeQuantizeSpec spec{.scale = 1, .zero_point = 0, .low = 0, .high = 1};
  Floats y(3), grad_x(3);
  fake_quantize(x.data(), y.data(), 3, spec, {.keep = 0});
  EXPECT_EQ(y, x);
  EXPECT_EQ(fake_quantize_backward(x.data(), grad_y.data(), grad_x.data(), 3, spec, {.keep = 0}), 0);
  EXPECT_EQ(grad_x, grad_y);
  EXPECT_EQ(fake_quantize_backward(x.data(), grad_y.data(), grad_x.data(), 3, spec, {}), 6);
  EXPECT_THAT(grad_x, ElementsAre(0, 0, 0));
}

}  // namespace
}  // namespace lithe
