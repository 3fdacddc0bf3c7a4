#include "lithe/metrics/picture_score.h"

#include <gtest/gtest.h>

#include <cmath>

#include "lithe/base/error.h"
#include "lithe/metrics/metrics.h"

namespace lithe {
namespace {

at::Tensor random_bytes(const std::vector<std::int64_t>& shape, std::uint64_t seed) {
  at::manual_seed(seed);
  return at::randint(0, 256, shape, at::kFloat).to(at::kByte);
}

// In bands of rows as of the whole: one row more or less than a band, windows across the border.
TEST(PictureScore, OfBandsIsThatOfTheWhole) {
  for (const auto& [channels, height, width] :
       {std::tuple{3, 40, 33}, {3, 700, 250}, {1, 531, 400}, {3, 11, 11}, {3, 333, 12}, {1, 6000, 11}}) {
    const at::Tensor a = random_bytes({channels, height, width}, 1),
                     b = (a.to(at::kFloat) * 0.9f + 12).round().to(at::kByte);
    for (const std::int64_t border : {0, 3}) {
      const at::Tensor x = shave(a, border).to(at::kDouble), y = shave(b, border).to(at::kDouble);
      const at::Tensor x_y = channels == 3 ? luma_bt601(x) : x[0], y_y = channels == 3 ? luma_bt601(y) : y[0];
      const PictureScore score = score_picture(a, b, border);
      EXPECT_NEAR(score.psnr_rgb, psnr(x, y), 1e-9);
      EXPECT_NEAR(score.psnr_y, psnr(x_y, y_y), 1e-9);
      ASSERT_EQ(score.ssim_y.has_value(), x.size(1) >= 11 && x.size(2) >= 11);
      if (score.ssim_y) {
        EXPECT_NEAR(*score.ssim_y, ssim(x_y, y_y), 1e-9);
      }
    }
  }
}

TEST(PictureScore, OfEqualPictures) {
  const at::Tensor a = random_bytes({3, 20, 30}, 2);
  const PictureScore score = score_picture(a, a.clone(), 2);
  EXPECT_TRUE(std::isinf(score.psnr_y));
  EXPECT_TRUE(std::isinf(score.psnr_rgb));
  EXPECT_NEAR(score.ssim_y.value(), 1, 1e-12);
  EXPECT_THROW(score_picture(a, random_bytes({3, 20, 31}, 2), 0), Error);
  EXPECT_THROW(score_picture(a, a, 10), Error);
}

}  // namespace
}  // namespace lithe
