#include "lithe/quantize/reconstruct/reconstruction_loss.h"

#include <gtest/gtest.h>

namespace lithe {
namespace {

// By hand and by PyTorch, for one sample of two channels of 2x2.
const at::Tensor kOutput = at::tensor({1.f, 2.f, 3.f, 4.f, 0.f, 1.f, 0.f, 1.f}).view({1, 2, 2, 2});
const at::Tensor kWanted = at::tensor({1.5f, 2.f, 2.f, 4.f, 0.f, 0.f, 1.f, 1.f}).view({1, 2, 2, 2});
const at::Tensor kGradient = at::tensor({.5f, 1.f, 2.f, 1.f, 1.f, 1.f, 1.f, 3.f}).view({1, 2, 2, 2});

TEST(ReconstructionLoss, IsTheMeanOverPositionsOfTheSumOverChannels) {
  EXPECT_EQ(positions(kOutput), 4);
  EXPECT_EQ(positions(at::zeros({5, 7})), 5);
  EXPECT_EQ(positions(at::zeros({2, 3, 7})), 6);  // tokens
  const double factor = 1 / positions(kOutput);
  EXPECT_NEAR(reconstruction_loss(kOutput, kWanted, {}, {.factor = factor}).value, 0.8125, 1e-6);
  EXPECT_NEAR(
      reconstruction_loss(kOutput, kWanted, kGradient, {.fisher = Fisher::Diagonal, .factor = factor}).value,
      1.515625, 1e-6);
  EXPECT_NEAR(
      reconstruction_loss(kOutput, kWanted, kGradient, {.fisher = Fisher::Full, .factor = factor}).value,
      0.0225781258, 1e-8);
}

TEST(ReconstructionLoss, GradientsAreThoseOfTheValue) {
  const double factor = 0.3, step = 1e-2;
  for (const Fisher fisher : {Fisher::None, Fisher::Diagonal, Fisher::Full})
    for (const double exponent : {2.0, 2.4}) {
      const ReconstructionLossOptions options{.fisher = fisher, .exponent = exponent, .factor = factor};
      const at::Tensor importance = fisher == Fisher::None ? at::Tensor() : kGradient;
      const at::Tensor gradient = reconstruction_loss(kOutput, kWanted, importance, options).gradient;
      for (const std::int64_t i : {0, 2, 5}) {
        at::Tensor up = kOutput.clone(), down = kOutput.clone();
        up.view({-1})[i] += step;
        down.view({-1})[i] -= step;
        const double slope = (reconstruction_loss(up, kWanted, importance, options).value -
                              reconstruction_loss(down, kWanted, importance, options).value) /
                             (2 * step);
        EXPECT_NEAR(gradient.view({-1})[i].item<float>(), slope, 2e-3 * std::abs(slope) + 1e-5);
      }
    }
}

}  // namespace
}  // namespace lithe
