#include "lithe/quantize/reconstruct/soft_weight.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "tests/quantize/helpers.h"

namespace lithe {
namespace {

using namespace testing_helpers;

/// 3 bits, one scale a row, every second weight 0.
struct Sparse {
  at::Tensor values = random_tensor({4, 6}, 3);
  QuantizedWeight weight{.constant = "w", .bits = 3};

  Sparse() {
    values.slice(1, 0, 6, 2).zero_();
    weight.quantizer = {
        .scale = at::full({4}, 0.3f), .zero_point = at::full({4}, 3.0f), .codes = {0, 7}, .axis = 0};
    weight.codes = encode(weight.quantizer, values);
  }
};

/// A loss that pulls every weight one way for so many steps.
at::Tensor learnt(bool composed, bool from_codes, bool learn_scale, double pull) {
  Sparse sparse;
  const auto soft =
      make_soft_weight(sparse.weight, sparse.values,
                       {.learn_scale = learn_scale, .from_codes = from_codes, .composed = composed});
  for (std::int64_t step = 1; step <= 60; ++step) {
    {
      const at::AutoGradMode grad(true);
      (soft->soft() * pull).sum().backward();
    }
    soft->step({.step = step, .rate = 0.1, .regulariser = 0.01, .exponent = 3, .scale_rate = 1e-3});
  }
  soft->harden(sparse.weight);
  return decode(sparse.weight.quantizer, sparse.weight.codes);
}

TEST(SoftWeight, ZerosStayZerosWhateverIsLearnt) {
  at::set_num_threads(1);
  const at::Tensor zeros = Sparse().values == 0;
  for (const bool composed : {false, true})
    for (const bool from_codes : {false, true})
      for (const bool learn_scale : {false, true}) {
        const at::Tensor up = learnt(composed, from_codes, learn_scale, -1),
                         down = learnt(composed, from_codes, learn_scale, 1);
        EXPECT_TRUE((up == 0).masked_select(zeros).all().item<bool>())
            << composed << from_codes << learn_scale;
        EXPECT_TRUE((down == 0).masked_select(zeros).all().item<bool>())
            << composed << from_codes << learn_scale;
        // All others moved by one code.
        EXPECT_TRUE((up > down).masked_select(zeros.logical_not()).any().item<bool>());
      }
}

/// W of two rows in 2 bits, with these scales and the zero-points 1 and 2.
QuantizedWeight two_rows(float first_scale, float second_scale, const at::Tensor& values) {
  QuantizedWeight weight{.constant = "w", .bits = 2};
  weight.quantizer = {.scale = at::tensor({first_scale, second_scale}),
                      .zero_point = at::tensor({1.0f, 2.0f}),
                      .codes = {0, 3},
                      .axis = 0};
  weight.codes = encode(weight.quantizer, values);
  return weight;
}

at::Tensor rows(std::vector<float> values, std::int64_t columns) {
  return at::tensor(values).view({-1, columns});
}

const std::vector<float> kW{0.31f, -0.52f, 0.07f, 0.94f, -0.11f, 0.02f, 0.26f, -0.33f};

// Starts at the float weight wherever its code is not clipped; hardened without a step it is the nearest.
TEST(SoftWeight, StartsAtTheWeightInsideTheCodes) {
  const at::Tensor values = rows(kW, 4);
  for (const bool composed : {false, true}) {
    QuantizedWeight weight = two_rows(0.442866683f, 0.175033331f, values);
    const auto soft = make_soft_weight(weight, values, {.composed = composed});
    const at::Tensor start =
        rows({0.31f, -0.4428667f, 0.07f, 0.8857334f, -0.11f, 0.02f, 0.1750333f, -0.33f}, 4);
    EXPECT_LT(largest_gap(soft->soft().detach(), start), 1e-6) << composed;
    soft->harden(weight);
    const at::Tensor hard =
        rows({0.4428667f, -0.4428667f, 0, 0.8857334f, -0.1750333f, 0, 0.1750333f, -0.3500667f}, 4);
    EXPECT_LT(largest_gap(decode(weight.quantizer, weight.codes), hard), 1e-6) << composed;
  }
}

// Three steps of Adam against numbers computed apart, regularised from the first step.
TEST(SoftWeight, ThreeStepsGiveTheKnownLosses) {
  const at::Tensor values = rows(kW, 4);
  const at::Tensor x = rows({1, 2, -1, 0.5f, 0, -1, 0.5f, 2, 0.3f, 0.3f, 0.3f, 0.3f}, 4);
  const at::Tensor y = at::matmul(x, values.t());
  const std::vector<double> losses{0.00367681845, 0.00365698989, 0.00363723771};
  const std::vector<double> regularisers{0.078832306, 0.0788244531, 0.0788165629};
  for (const bool composed : {false, true}) {
    const QuantizedWeight weight = two_rows(0.4866666f, 0.1966667f, values);
    const auto soft = make_soft_weight(weight, values, {.composed = composed});
    for (std::size_t step = 0; step < 3; ++step) {
      at::Tensor loss;
      {
        const at::AutoGradMode grad(true);
        loss = (at::matmul(x, soft->soft().t()) - y).square().sum(1).mean();
        loss.backward();
      }
      EXPECT_NEAR(loss.item<double>(), losses[step], 1e-5 * losses[step]) << composed << step;
      const double regulariser = soft->step(
          {.step = static_cast<std::int64_t>(step) + 1, .rate = 1e-3, .regulariser = 0.01, .exponent = 20});
      EXPECT_NEAR(0.01 * regulariser, regularisers[step], 1e-5 * regularisers[step]) << composed << step;
    }
  }
}

}  // namespace
}  // namespace lithe
