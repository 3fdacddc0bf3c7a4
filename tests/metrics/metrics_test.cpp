#include "lithe/metrics/metrics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "lithe/base/error.h"

namespace lithe {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

at::Tensor rows(const std::vector<float>& values, std::int64_t width) {
  return at::tensor(values).reshape({-1, width});
}

TEST(TopK, CountsTiesAndNaN) {
  const at::Tensor scores = rows({3, 1, 2, 0,  // order 0 2 1 3
                                  1, 1, 1, 1,  // a tie: the lower index is better
                                  0, kNaN, 5, 1},
                                 4);
  const at::Tensor labels = at::tensor({2, 1, 2}, at::kLong);
  EXPECT_EQ(count_top_k(scores, labels, 1), 0);
  EXPECT_EQ(count_top_k(scores, labels, 2), 2);
  EXPECT_EQ(count_top_k(scores, at::tensor({0, 0, 2}, at::kLong), 1), 2);
  EXPECT_THROW(count_top_k(scores, at::tensor({0, 0, 4}, at::kLong), 1), Error);
  EXPECT_THROW(count_top_k(scores, at::tensor({0, 0}, at::kLong), 1), Error);
}

TEST(CrossEntropy, ByHand) {
  // Row 1: softmax(0, ln 3) = (1/4, 3/4). Row 2: equal logits.
  const at::Tensor logits = rows({0, std::log(3.f), 100, 100}, 2);
  const double expected = -std::log(0.75) - std::log(0.5);
  EXPECT_NEAR(cross_entropy_sum(logits, at::tensor({1, 0}, at::kLong)), expected, 1e-6);
  EXPECT_NEAR(cross_entropy_sum(rows({0.25, 0.75, 0.5, 0.5}, 2), at::tensor({1, 0}, at::kLong), true),
              expected, 1e-6);
}

TEST(Psnr, ByHand) {
  const at::Tensor a = at::zeros({3, 4, 4}), b = at::full({3, 4, 4}, 16.0);
  // 10 log10(255^2 / 256)
  EXPECT_NEAR(psnr(a, b), 24.0486, 1e-3);
  EXPECT_NEAR(psnr(a, at::full({3, 4, 4}, 0.1, at::kDouble), 1.0), 20.0, 1e-9);
  EXPECT_TRUE(std::isinf(psnr(a, a)));
  EXPECT_THROW(psnr(a, at::zeros({3, 4, 5})), Error);
}

TEST(Ssim, ConstantPlanesByHand) {
  // Without variance the structure term is 1 and (2 m n + C1) / (m^2 + n^2 + C1) remains, C1 = 6.5025.
  const at::Tensor a = at::full({16, 20}, 100.0), b = at::full({16, 20}, 120.0);
  EXPECT_NEAR(ssim(a, b), (2 * 100 * 120 + 6.5025) / (100 * 100 + 120 * 120 + 6.5025), 1e-9);
  EXPECT_NEAR(ssim(a, a), 1.0, 1e-12);
}

TEST(Ssim, OneWindowByHand) {
  // One 11x11 window: the Gaussian-weighted moments, summed here term by term.
  at::Tensor x = at::empty({11, 11}, at::kDouble), y = at::empty({11, 11}, at::kDouble);
  double weight_sum = 0, mx = 0, my = 0, xx = 0, yy = 0, xy = 0;
  for (int i = 0; i < 11; ++i)
    for (int j = 0; j < 11; ++j) {
      const double a = (i * 37 + j * 11) % 256, b = (i * 37 + j * 13 + 5) % 256;
      x[i][j] = a;
      y[i][j] = b;
      const double w = std::exp(-((i - 5) * (i - 5) + (j - 5) * (j - 5)) / 4.5);
      weight_sum += w;
      mx += w * a, my += w * b, xx += w * a * a, yy += w * b * b, xy += w * a * b;
    }
  mx /= weight_sum, my /= weight_sum, xx /= weight_sum, yy /= weight_sum, xy /= weight_sum;
  const double c1 = 6.5025, c2 = 58.5225;
  const double expected = (2 * mx * my + c1) * (2 * (xy - mx * my) + c2) /
                          ((mx * mx + my * my + c1) * (xx - mx * mx + yy - my * my + c2));
  EXPECT_NEAR(ssim(x, y), expected, 1e-9);
  EXPECT_THROW(ssim(x.narrow(0, 0, 10), y.narrow(0, 0, 10)), Error);
}

TEST(Luma, StudioRange) {
  const at::Tensor white = luma_bt601(at::full({3, 1, 1}, 255.0));
  EXPECT_NEAR(white.item<double>(), 235.0, 1e-9);
  EXPECT_NEAR(luma_bt601(at::zeros({3, 1, 1})).item<double>(), 16.0, 1e-9);
  const at::Tensor green = at::tensor({0.0, 255.0, 0.0}).reshape({3, 1, 1});
  EXPECT_NEAR(luma_bt601(green).item<double>(), 16 + 128.553, 1e-4);
  EXPECT_THROW(luma_bt601(at::zeros({1, 2, 2})), Error);
}

TEST(Shave, TakesTheBorder) {
  EXPECT_EQ(shave(at::zeros({3, 10, 8}), 2).sizes(), (std::vector<std::int64_t>{3, 6, 4}));
  EXPECT_THROW(shave(at::zeros({3, 10, 8}), 4), Error);
}

TEST(Sqnr, ByHand) {
  const at::Tensor reference = at::tensor({3.0, 4.0}), value = at::tensor({3.0, 3.5});
  EXPECT_NEAR(sqnr_db(reference, value), 20.0, 1e-9);  // 25 over 0.25
  EXPECT_TRUE(std::isinf(sqnr_db(reference, reference)));
}

TEST(Difference, AbsoluteAndRelative) {
  const Difference d = difference(at::tensor({1.0f, 2.0f, -3.5f}), at::tensor({1.0f, 2.5f, -4.0f}));
  EXPECT_DOUBLE_EQ(d.max_abs, 0.5);
  EXPECT_DOUBLE_EQ(d.max_rel, 0.125);
  EXPECT_NEAR(d.mean_abs, 1.0 / 3, 1e-12);
  EXPECT_TRUE(d.finite);
  EXPECT_EQ(difference(at::tensor({kNaN, INFINITY}), at::tensor({kNaN, INFINITY})).max_abs, 0);
  EXPECT_FALSE(difference(at::tensor({kNaN}), at::tensor({1.f})).finite);
  EXPECT_TRUE(std::isinf(difference(at::tensor({1.f}), at::tensor({0.f})).max_rel));
}

TEST(ArgmaxAgreement, CountsRows) {
  EXPECT_DOUBLE_EQ(argmax_agreement(rows({1, 2, 2, 1, 0, 1, 5, 4}, 2), rows({0, 9, 1, 2, 0, 3, 2, 1}, 2)),
                   0.75);
}

}  // namespace
}  // namespace lithe
