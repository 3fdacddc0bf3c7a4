#include "lithe/kernels/soft_round.h"

#include <gmock/gmock.h>

#include <array>
#include <cmath>
#include <vector>

#include "kernels/vector_targets.h"
#include "lithe/base/random.h"

namespace lithe {
namespace {

using ::testing::ElementsAre;
using ::testing::FloatNear;
using ::testing::Pointwise;
using Floats = std::vector<float>;

const Floats kWeight{0.31f, -0.52f, 0.07f, 0.94f, -0.11f, 0.02f, 0.26f, -0.33f};  // 2 x 4
const Floats kVariables{-4, -3, -2.5f, -1, -0.5f, 0, 0.5f, 1, 2.3978953f, 2.5f, 3, 4};

/// A weight with what a SoftRound points to.
struct Rounded {
  Floats base, scale, zero_point, v;
  SoftRound round;

  Rounded(const Floats& weight, std::int64_t outer, std::int64_t channels, std::int64_t inner, Floats scales,
          Floats zero_points, float high)
      : scale(std::move(scales)), zero_point(std::move(zero_points)) {
    for (std::size_t i = 0; i < weight.size(); ++i) {
      const std::size_t channel = i / static_cast<std::size_t>(inner) % static_cast<std::size_t>(channels);
      const float level = weight[i] / scale[channel];
      base.push_back(std::floor(level) + zero_point[channel]);
      v.push_back(initial_v(level - std::floor(level)));
    }
    round = {outer, channels, inner, base.data(), scale.data(), zero_point.data(), 0, high, v.data()};
  }
  Rounded(const Rounded& other)
      : base(other.base), scale(other.scale), zero_point(other.zero_point), v(other.v), round(other.round) {
    round.base = base.data();
    round.scale = scale.data();
    round.zero_point = zero_point.data();
    round.v = v.data();
  }
  Rounded& operator=(const Rounded&) = delete;
};

/// Nothing but variables: the soft weight is h(v).
Rounded only_variables(const Floats& v) {
  Rounded result(Floats(v.size(), 0.0f), 1, 1, static_cast<std::int64_t>(v.size()), {1}, {0}, 1);
  result.v = v;
  result.round.v = result.v.data();
  return result;
}

/// Random codes of which some are clipped, and variables of which some are saturated.
Rounded random_weight(std::int64_t outer, std::int64_t channels, std::int64_t inner, std::uint64_t seed) {
  Rng rng(seed);
  Floats weight, scale, zero_point;
  for (std::int64_t c = 0; c < channels; ++c) {
    scale.push_back(static_cast<float>(0.05 + 0.1 * rng.uniform()));
    zero_point.push_back(static_cast<float>(rng.below(4)));
  }
  for (std::int64_t i = 0; i < outer * channels * inner; ++i)
    weight.push_back(static_cast<float>(0.3 * rng.normal()));
  Rounded result(weight, outer, channels, inner, scale, zero_point, 7);
  for (float& v : result.v) v = static_cast<float>(1.7 * rng.normal());
  return result;
}

Floats normals(std::size_t count, std::uint64_t seed, double scale = 1) {
  Rng rng(seed);
  Floats values(count);
  for (float& value : values) value = static_cast<float>(scale * rng.normal());
  return values;
}

TEST(SoftRound, GoldenRounding) {
  const Rounded weight = only_variables(kVariables);
  const Floats expected{0, 0, 0, 0.22272974f, 0.35304883f, 0.5f, 0.6469512f, 0.77727032f, 1, 1, 1, 1};
  Floats soft(kVariables.size());
  soft_weights(weight.round, soft.data());
  EXPECT_THAT(soft, Pointwise(FloatNear(1e-6f), expected));
  for (std::size_t i = 0; i < soft.size(); ++i) EXPECT_NEAR(soft_rounding(kVariables[i]), expected[i], 1e-6);
}

TEST(SoftRound, GoldenRegulariser) {
  const Rounded weight = only_variables(kVariables);
  EXPECT_NEAR(rounding_regulariser(weight.round, 20), 4.9999847, 5e-6);
  EXPECT_NEAR(rounding_regulariser(weight.round, 11), 4.9969473, 5e-6);
  EXPECT_NEAR(rounding_regulariser(weight.round, 2), 4.2122126, 5e-6);
  for (const float v : {-1.0f, 1.0f}) {
    const Rounded one = only_variables({v});
    EXPECT_NEAR(rounding_regulariser(one.round, 20), 0.99999243, 1e-6);
    EXPECT_NEAR(rounding_regulariser(one.round, 11), 0.99847502, 1e-6);
    EXPECT_NEAR(rounding_regulariser(one.round, 2), 0.692485, 1e-6);
  }
  const Rounded none = only_variables({});
  EXPECT_EQ(rounding_regulariser(none.round, 2), 0);
}

TEST(SoftRound, GoldenInitialisation) {
  const Rounded weight(kWeight, 1, 2, 4, {0.442866683f, 0.175033331f}, {1, 2}, 3);
  EXPECT_THAT(weight.v, Pointwise(FloatNear(5e-6f), Floats{0.6930904f, 1.2169505f, -1.294744f, -1.4798781f,
                                                           -0.4348999f, -1.52618f, -0.0485719f, -1.524018f}));
  Floats soft(8), codes(8), hard(8);
  soft_weights(weight.round, soft.data());
  EXPECT_THAT(soft, Pointwise(FloatNear(1e-6f), Floats{0.31f, -0.4428667f, 0.07f, 0.8857334f, -0.11f, 0.02f,
                                                       0.1750333f, -0.33f}));
  hard_codes(weight.round, codes.data());
  for (std::size_t i = 0; i < 8; ++i) hard[i] = (codes[i] - weight.zero_point[i / 4]) * weight.scale[i / 4];
  EXPECT_THAT(hard, Pointwise(FloatNear(1e-6f), Floats{0.4428667f, -0.4428667f, 0, 0.8857334f, -0.1750333f, 0,
                                                       0.1750333f, -0.3500667f}));
}

TEST(SoftRound, SoftWeightsBeginAtTheWeight) {
  for (int k = 0; k < 1000; ++k) {
    const float fraction = static_cast<float>(k) / 1000;
    EXPECT_NEAR(soft_rounding(initial_v(fraction)), fraction, 1e-6) << fraction;
  }
}

/// The tiny linear layer whose three steps are known: rows of `x`, targets from the weight itself.
struct Layer {
  static constexpr std::array<std::array<float, 4>, 3> kRows{
      {{1, 2, -1, 0.5f}, {0, -1, 0.5f, 2}, {0.3f, 0.3f, 0.3f, 0.3f}}};

  /// Sum over outputs, mean over rows of the squared error, and its gradient by w.
  static double loss(const Floats& w, Floats& gradient) {
    double total = 0;
    std::fill(gradient.begin(), gradient.end(), 0.0f);
    for (const auto& row : kRows)
      for (std::size_t o = 0; o < 2; ++o) {
        double error = 0;
        for (std::size_t k = 0; k < 4; ++k) error += (w[4 * o + k] - kWeight[4 * o + k]) * row[k];
        total += error * error / 3;
        for (std::size_t k = 0; k < 4; ++k) gradient[4 * o + k] += static_cast<float>(2 * error * row[k] / 3);
      }
    return total;
  }
};

TEST(SoftRound, GoldenThreeSteps) {
  Rounded weight(kWeight, 1, 2, 4, {0.4866666f, 0.1966667f}, {1, 2}, 3);
  Floats soft(8), gradient(8), grad_v(8), first(8), second(8);
  soft_weights(weight.round, soft.data());
  const double losses[3] = {0.00367681845, 0.00365698989, 0.00363723771};
  const double regularisers[3] = {0.078832306, 0.0788244531, 0.0788165629};
  for (int t = 1; t <= 3; ++t) {
    EXPECT_NEAR(Layer::loss(soft, gradient), losses[t - 1], 1e-5 * losses[t - 1]);
    if (t == 1) {
      soft_round_gradient(weight.round, gradient.data(), 0.01f, 20, grad_v.data());
      EXPECT_THAT(grad_v,
                  Pointwise(FloatNear(1e-7f), Floats{0.00642744f, -0.00352588f, -0.00494047f, -0.00495131f,
                                                     0.00224475f, 0.00425018f, 3.27e-10f, -0.00134045f}));
    }
    const SoftRoundStep step{.lr = 1e-3, .step = t, .regulariser_weight = 0.01f, .regulariser_beta = 20};
    const double value =
        soft_round_step(weight.round, {first.data(), second.data()}, step, gradient.data(), soft.data());
    EXPECT_NEAR(0.01 * value, regularisers[t - 1], 1e-6);
  }
  EXPECT_THAT(weight.v,
              Pointwise(FloatNear(5e-6f), Floats{0.46181321f, 1.81488049f, -1.36343575f, 1.81488299f,
                                                 -0.20138782f, -1.60230267f, -0.6116935f, -0.60859734f}));
}

struct Layout {
  std::int64_t outer, channels, inner;
};
// Convolutions, depthwise ones, linear layers with channels last, one scale for all, and odd ends.
void compare_with_reference(const Layout& layout) {
  const auto [outer, channels, inner] = layout;
  Rounded fast = random_weight(outer, channels, inner, 11);
  Rounded slow = fast;
  const std::size_t count = fast.v.size();
  const Floats grad_w = normals(count, 12);
  Floats actual(count), expected(count);
  soft_weights(fast.round, actual.data());
  soft_weights_reference(fast.round, expected.data());
  EXPECT_THAT(actual, Pointwise(FloatNear(1e-6f), expected));

  for (const float beta : {20.0f, 5.5f, 2.0f}) {
    const double sum = rounding_regulariser_reference(fast.round, beta);
    EXPECT_NEAR(rounding_regulariser(fast.round, beta), sum, 1e-6 * sum + 1e-9);
    for (const float regulariser : {0.0f, 0.1f}) {
      soft_round_gradient(fast.round, grad_w.data(), regulariser, beta, actual.data());
      soft_round_gradient_reference(fast.round, grad_w.data(), regulariser, beta, expected.data());
      EXPECT_THAT(actual, Pointwise(FloatNear(2e-6f), expected));
    }
  }

  Floats first(count), second(count), slow_first(count), slow_second(count);
  Floats grad_scale(static_cast<std::size_t>(channels)), slow_grad_scale(grad_scale);
  for (int t = 1; t <= 5; ++t) {
    const SoftRoundStep step{
        .lr = 1e-2, .step = t, .regulariser_weight = t < 3 ? 0 : 0.05f, .regulariser_beta = 8};
    const Floats gradient = normals(count, 20 + static_cast<std::uint64_t>(t));
    const double value = soft_round_step(fast.round, {first.data(), second.data()}, step, gradient.data(),
                                         actual.data(), grad_scale.data());
    const double slow_value =
        soft_round_step_reference(slow.round, {slow_first.data(), slow_second.data()}, step, gradient.data(),
                                  expected.data(), slow_grad_scale.data());
    EXPECT_NEAR(value, slow_value, 2e-6 * slow_value);
    EXPECT_EQ(value == 0, t < 3 || count == 0);
    EXPECT_THAT(fast.v, Pointwise(FloatNear(1e-5f), slow.v));
    EXPECT_THAT(first, Pointwise(FloatNear(1e-6f), slow_first));
    EXPECT_THAT(second, Pointwise(FloatNear(1e-6f), slow_second));
    EXPECT_THAT(actual, Pointwise(FloatNear(2e-6f), expected));
    for (std::size_t c = 0; c < grad_scale.size(); ++c)
      EXPECT_NEAR(grad_scale[c], slow_grad_scale[c], 1e-5 * std::sqrt(static_cast<double>(count)));
  }
}

class SoftRoundKernel : public ::testing::TestWithParam<Layout> {};

TEST_P(SoftRoundKernel, EqualsTheReference) {
  on_every_target([&] { compare_with_reference(GetParam()); });
}

INSTANTIATE_TEST_SUITE_P(Layouts, SoftRoundKernel,
                         ::testing::Values(Layout{1, 8, 27}, Layout{1, 5, 9}, Layout{1, 3, 400},
                                           Layout{70, 10, 1}, Layout{3, 300, 1}, Layout{4, 6, 25},
                                           Layout{1, 1, 700}, Layout{1, 1, 1}, Layout{2, 3, 1},
                                           Layout{1, 7, 0}, Layout{1, 256, 2}));

// Central differences of the soft weights and of the regulariser, where no clip is near.
TEST(SoftRound, GradientIsTheSlope) {
  Rounded weight(Floats(40, 0.0f), 2, 4, 5, {0.1f, 0.2f, 0.3f, 0.4f}, {3, 3, 3, 3}, 7);
  for (std::size_t i = 0; i < 40; ++i) weight.v[i] = -2.2f + 0.11f * static_cast<float>(i);
  const Floats grad_w = normals(40, 3);
  Floats grad_v(40), w(40);
  soft_round_gradient(weight.round, grad_w.data(), 0.05f, 4, grad_v.data());
  const auto objective = [&] {
    soft_weights(weight.round, w.data());
    double total = 0;
    for (std::size_t i = 0; i < 40; ++i) total += static_cast<double>(grad_w[i] * w[i]);
    return total + 0.05 * rounding_regulariser(weight.round, 4);
  };
  for (std::size_t i = 0; i < 40; ++i) {
    const float v = weight.v[i];
    weight.v[i] = v + 0.01f;
    const double above = objective();
    weight.v[i] = v - 0.01f;
    const double below = objective();
    weight.v[i] = v;
    EXPECT_NEAR(grad_v[i], (above - below) / 0.02, 2e-4) << i;
  }
}

TEST(SoftRound, SaturatedAndClippedStandStill) {
  // Saturated at both ends; clipped above by its code; free.
  Rounded weight(Floats(4, 0.0f), 1, 1, 4, {1}, {0}, 3);
  weight.base = {1, 1, 3, 1};
  weight.v = {-5, 5, 0.5f, 0.5f};
  weight.round.base = weight.base.data();
  weight.round.v = weight.v.data();
  const Floats grad_w(4, 1.0f);
  Floats grad_v(4), w(4), first(4), second(4);
  soft_round_gradient(weight.round, grad_w.data(), 0, 20, grad_v.data());
  EXPECT_EQ(grad_v[0], 0);
  EXPECT_EQ(grad_v[1], 0);
  EXPECT_EQ(grad_v[2], 0);
  EXPECT_GT(grad_v[3], 0.1f);
  soft_round_gradient(weight.round, grad_w.data(), 1, 2, grad_v.data());
  EXPECT_EQ(grad_v[0], 0);
  EXPECT_EQ(grad_v[1], 0);
  EXPECT_LT(grad_v[2], -0.1f);  // the regulariser alone
  soft_round_step(weight.round, {first.data(), second.data()}, {.lr = 0.1, .step = 1}, grad_w.data(),
                  w.data());
  EXPECT_THAT(weight.v, ElementsAre(-5, 5, 0.5f, FloatNear(0.4f, 1e-5f)));
  EXPECT_THAT(w, ElementsAre(1, 2, 3, FloatNear(1 + soft_rounding(0.4f), 1e-6f)));
}

TEST(SoftRound, NotANumberIsSeen) {
  Rounded weight = random_weight(1, 2, 10, 4);
  weight.v[3] = 0.1f;
  weight.base[3] = 4;
  weight.v[7] = std::nanf("");
  Floats grad_w(20, 0.5f), w(20), first(20), second(20);
  grad_w[3] = std::nanf("");
  soft_round_step(weight.round, {first.data(), second.data()}, {}, grad_w.data(), w.data());
  for (std::size_t i = 0; i < 20; ++i) EXPECT_EQ(std::isnan(w[i]), i == 3 || i == 7) << i;
}

TEST(SoftRound, FarVariablesAreSaturated) {
  const Rounded weight = only_variables({-1e30f, -200, 200, 1e30f, -INFINITY, INFINITY});
  Floats soft(6);
  soft_weights(weight.round, soft.data());
  EXPECT_THAT(soft, ElementsAre(0, 0, 1, 1, 0, 1));
  EXPECT_EQ(rounding_regulariser(weight.round, 20), 0);

  Rounded many = only_variables(Floats(40, 50.0f));
  const Floats grad_w(40, 1.0f);
  Floats grad_v(40, 1.0f);
  EXPECT_EQ(rounding_regulariser(many.round, 3), 0);
  soft_round_gradient(many.round, grad_w.data(), 1, 3, grad_v.data());
  EXPECT_EQ(grad_v, Floats(40, 0.0f));
  many.v[3] = std::nanf("");
  EXPECT_TRUE(std::isnan(rounding_regulariser(many.round, 3)));
}

TEST(SoftRound, CountsTheUndecided) {
  const Rounded weight = only_variables(kVariables);
  EXPECT_EQ(undecided(weight.round), 5);
  EXPECT_EQ(undecided(weight.round, 0.3f), 3);
  EXPECT_EQ(undecided(weight.round, 0.49f), 1);
}

}  // namespace
}  // namespace lithe
