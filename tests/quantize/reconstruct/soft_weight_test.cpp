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

}  // namespace
}  // namespace lithe
