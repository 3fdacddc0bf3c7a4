// Frames as tensors and back; contrast and sharpness against the numbers of the specification, section 10.7.
#include "lithe/stylize/pixels.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <numeric>

#include "lithe/base/random.h"
#include "lithe/stylize/control_pictures.h"
#include "message_of.h"

namespace lithe {
namespace {

using testing::HasSubstr;

Frame noise(int height, int width, std::uint64_t seed) {
  Frame frame(height, width);
  Rng rng(seed);
  for (std::int16_t& value : frame.pixels) value = static_cast<std::int16_t>(rng.below(kFrameMaximum + 1));
  return frame;
}

/// v(y, x, c) = (16 y^2 + 5 x^2 + 40 c + 7 x y) mod 256, 5 x 6.
Frame published() {
  Frame frame(5, 6);
  for (int y = 0; y < 5; ++y)
    for (int x = 0; x < 6; ++x)
      for (int c = 0; c < 3; ++c)
        frame.at(y, x)[c] =
            static_cast<std::int16_t>((16 * y * y + 5 * x * x + 40 * c + 7 * x * y) % 256 * kFrameScale);
  return frame;
}

TEST(Pixels, Contrast) {
  const std::array<int, 3> levels[] = {{154, 198, 242}, {169, 229, 255}};
  const double ratios[] = {1.1, 1.5};
  for (int k = 0; k < 2; ++k) {
    Frame frame = published();
    EXPECT_EQ(frame.at(2, 3)[0], 151 * kFrameScale);
    adjust_contrast(frame, ratios[k]);
    for (std::size_t c = 0; c < 3; ++c)  // the published levels are cut to whole ones
      EXPECT_EQ(frame.at(2, 3)[c] / kFrameScale, levels[k][c]) << ratios[k] << " channel " << c;
  }
}

TEST(Pixels, Sharpness) {
  const std::array<int, 3> levels[] = {{152, 194, 237}, {171, 251, 255}, {191, 255, 255}};
  const double ratios[] = {1.1, 3, 5};
  for (int k = 0; k < 3; ++k) {
    Frame frame = published();
    adjust_sharpness(frame, ratios[k]);
    // The published blur is rounded to whole levels, which the ratio then magnifies.
    const double slack = 1 + 0.5 * (ratios[k] - 1);
    for (std::size_t c = 0; c < 3; ++c)
      EXPECT_NEAR(frame.at(2, 3)[c] / static_cast<double>(kFrameScale), levels[k][c], slack) << ratios[k];
    EXPECT_EQ(frame.at(0, 3)[1], published().at(0, 3)[1]) << "the border stays";
  }
  Frame same = published(), even(4, 4);
  adjust_sharpness(same, 1);
  EXPECT_EQ(same, published());
  std::fill(even.pixels.begin(), even.pixels.end(), std::int16_t{300});
  const Frame before = even;
  adjust_sharpness(even, 5);
  EXPECT_EQ(even, before);
  EXPECT_THAT(test::message_of([&] { adjust_sharpness(same, -1); }), HasSubstr("sharpness"));
  EXPECT_THAT(test::message_of([&] { adjust_contrast(same, std::nan("")); }), HasSubstr("contrast"));
}

TEST(Pixels, TensorsAndBack) {
  const std::vector<Frame> frames{noise(5, 7, 1), noise(5, 7, 2)};
  const at::Tensor pixels = pixels_of(frames);
  EXPECT_EQ(pixels.sizes(), (at::IntArrayRef{2, 3, 5, 7}));
  EXPECT_NEAR(pixels[1][2][3][4].item<double>(), frames[1].at(3, 4)[2] / 510.0 - 1, 1e-6);
  EXPECT_EQ(frames_of(pixels), frames);
  EXPECT_GE(pixels_of(frames, 0, 1).min().item<double>(), 0);

  const at::Tensor wild = at::tensor(std::vector<double>{-3, 0.001, 3}, at::kDouble).reshape({1, 3, 1, 1});
  EXPECT_EQ(frames_of(wild)[0].pixels, (std::vector<std::int16_t>{0, 511, 1020}));
  EXPECT_THAT(test::message_of([] { frames_of(at::full({1, 3, 1, 1}, std::nan(""))); }), HasSubstr("NaN"));
  EXPECT_THAT(test::message_of([] { frames_of(at::zeros({1, 4, 1, 1})); }), HasSubstr("[1, 4, 1, 1]"));
  EXPECT_THAT(test::message_of([] { pixels_of({Frame(2, 2), Frame(2, 3)}); }), HasSubstr("frame 1 is 3x2"));
  EXPECT_THAT(test::message_of([] { pixels_of({}); }), HasSubstr("no frames"));
}

TEST(Pixels, FitsTheMiddle) {
  const Frame wide = noise(6, 20, 3);
  const Frame cut = fit_frame(wide, 6, 8);
  for (int column = 0; column < 8; ++column) EXPECT_EQ(cut.at(4, column)[1], wide.at(4, column + 6)[1]);
  EXPECT_EQ(fit_frame(wide, 6, 20), wide);

  Frame flat(9, 9);
  std::fill(flat.pixels.begin(), flat.pixels.end(), std::int16_t{1000});
  for (const int size : {3, 16, 40}) {
    const Frame fitted = fit_frame(flat, size, 2 * size);
    EXPECT_EQ(fitted.height, size);
    EXPECT_EQ(fitted.width, 2 * size);
    for (const std::int16_t value : fitted.pixels) EXPECT_EQ(value, 1000);
  }
  EXPECT_EQ(floor_to_multiple(63, 8), 56);
  EXPECT_EQ(floor_to_multiple(64, 8), 64);
  EXPECT_EQ(floor_to_multiple(5, 8), 8);
  EXPECT_THAT(test::message_of([&] { fit_frame(flat, 0, 3); }), HasSubstr("3x0"));
}

TEST(ControlPictures, EdgesOfASquare) {
  Frame frame(24, 24);
  for (int y = 8; y < 16; ++y)
    for (int x = 8; x < 16; ++x)
      for (int c = 0; c < 3; ++c) frame.at(y, x)[c] = kFrameMaximum;
  const Frame edges = canny_edges(frame);
  int white = 0;
  for (int y = 0; y < 24; ++y)
    for (int x = 0; x < 24; ++x) {
      const int value = edges.at(y, x)[1];
      EXPECT_TRUE(value == 0 || value == kFrameMaximum);
      if (value == 0) continue;
      ++white;
      const int away = std::max(std::abs(2 * y - 23), std::abs(2 * x - 23));
      EXPECT_NEAR(away, 8, 2) << "at the border of the square";
    }
  EXPECT_GT(white, 20);
  EXPECT_LT(white, 64);
  EXPECT_THAT(test::message_of([&] { canny_edges(frame, 200, 100); }), HasSubstr("thresholds"));
}

}  // namespace
}  // namespace lithe
