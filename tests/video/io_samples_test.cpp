// Colours as numbers: ITU-T H.273 and the recommendations it names.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "lithe/base/random.h"
#include "lithe/video/io/orientation.h"
#include "lithe/video/io/sample_planes.h"

namespace lithe {
namespace {

struct Matrix {
  double kr, kb;
};
constexpr Matrix k601{0.299, 0.114}, k709{0.2126, 0.0722}, k2020{0.2627, 0.0593};

SampleLayout yuv(int height, int width, Matrix m, bool full, int bits = 8, int shrink_x = 0,
                 int shrink_y = 0) {
  SampleLayout layout;
  layout.height = height;
  layout.width = width;
  layout.model = SampleModel::Yuv;
  layout.bits = {bits, bits, bits};
  layout.full_range = full;
  layout.kr = m.kr;
  layout.kb = m.kb;
  layout.shrink_x = shrink_x;
  layout.shrink_y = shrink_y;
  return layout;
}

std::array<int, 3> written(const std::array<int, 3>& rgb, const SampleLayout& layout) {
  Frame frame(1, 1);
  for (std::size_t c = 0; c < 3; ++c) frame.pixels[c] = static_cast<std::int16_t>(4 * rgb[c]);
  SamplePlanes samples{layout, {}};
  frame_to_samples(frame, samples);
  return {samples.planes[0][0], samples.planes[1][0], samples.planes[2][0]};
}

using Samples = std::array<int, 3>;

TEST(SamplePlanes, PublishedColourBars) {
  const SampleLayout sd = yuv(1, 1, k601, false), hd = yuv(1, 1, k709, false), jpeg = yuv(1, 1, k601, true);
  EXPECT_EQ(written({255, 255, 255}, sd), (Samples{235, 128, 128}));
  EXPECT_EQ(written({0, 0, 0}, sd), (Samples{16, 128, 128}));
  EXPECT_EQ(written({255, 0, 0}, sd), (Samples{81, 90, 240}));
  EXPECT_EQ(written({0, 255, 0}, sd), (Samples{145, 54, 34}));
  EXPECT_EQ(written({0, 0, 255}, sd), (Samples{41, 240, 110}));
  EXPECT_EQ(written({255, 0, 0}, hd), (Samples{63, 102, 240}));
  EXPECT_EQ(written({0, 255, 0}, hd), (Samples{173, 42, 26}));
  EXPECT_EQ(written({0, 0, 255}, hd), (Samples{32, 240, 118}));
  EXPECT_EQ(written({255, 0, 0}, jpeg), (Samples{76, 85, 255}));
  EXPECT_EQ(written({255, 255, 255}, jpeg), (Samples{255, 128, 128}));
  EXPECT_EQ(written({255, 255, 255}, yuv(1, 1, k709, false, 10)), (Samples{940, 512, 512}));
  EXPECT_EQ(written({255, 0, 0}, yuv(1, 1, k709, false, 10)), (Samples{250, 409, 960}));
}

TEST(SamplePlanes, ReadingFollowsTheFormulaInEveryDepthAndMatrix) {
  Rng rng(1);
  for (const Matrix m : {k601, k709, k2020})
    for (const bool full : {false, true})
      for (const int bits : {8, 9, 10, 12, 16}) {
        SamplePlanes samples{yuv(40, 40, m, full, bits), {}};
        samples.resize();
        for (auto& plane : samples.planes)
          for (std::uint16_t& value : plane) value = static_cast<std::uint16_t>(rng.below(1u << bits));
        Frame frame;
        samples_to_frame(samples, frame);
        const double top = std::exp2(bits) - 1, unit = std::exp2(bits - 8), grey = 128 * unit;
        double worst = 0;
        for (std::size_t i = 0; i < 1600; ++i) {
          const double y =
              full ? samples.planes[0][i] / top : (samples.planes[0][i] - 16 * unit) / (219 * unit);
          const double span = full ? top : 224 * unit;
          const double blue = y + (2 - 2 * m.kb) * (samples.planes[1][i] - grey) / span;
          const double red = y + (2 - 2 * m.kr) * (samples.planes[2][i] - grey) / span;
          const double green = (y - m.kr * red - m.kb * blue) / (1 - m.kr - m.kb);
          for (const auto& [c, value] : {std::pair{0, red}, {1, green}, {2, blue}})
            worst = std::max(worst, std::abs(std::clamp(value, 0.0, 1.0) * kFrameMaximum -
                                             frame.pixels[i * 3 + static_cast<std::size_t>(c)]));
        }
        EXPECT_LT(worst, 0.5 + 0.2) << bits << " bits, full " << full;
      }
}

TEST(SamplePlanes, ColoursInGamutComeBackExactly) {
  Rng rng(2);
  for (const int bits : {8, 10})
    for (const bool full : {false, true}) {
      const int unit = 1 << (bits - 8);
      SamplePlanes samples{yuv(50, 50, k709, full, bits), {}};
      samples.resize();
      for (std::size_t i = 0; i < 2500; ++i) {
        samples.planes[0][i] = static_cast<std::uint16_t>(100 * unit + rng.below(40 * unit));
        samples.planes[1][i] = static_cast<std::uint16_t>(110 * unit + rng.below(36 * unit));
        samples.planes[2][i] = static_cast<std::uint16_t>(110 * unit + rng.below(36 * unit));
      }
      Frame frame;
      samples_to_frame(samples, frame);
      SamplePlanes back{samples.layout, {}};
      frame_to_samples(frame, back);
      std::size_t different = 0;
      int worst = 0;
      for (std::size_t c = 0; c < 3; ++c)
        for (std::size_t i = 0; i < 2500; ++i) {
          const int difference = std::abs(samples.planes[c][i] - back.planes[c][i]);
          different += difference != 0;
          worst = std::max(worst, difference);
        }
      // Quarter levels are finer than 8 bits everywhere, and than 10 bits in all but chroma of full range.
      EXPECT_LE(worst, bits == 8 ? 0 : 1);
      EXPECT_LE(different, bits == 8 ? 0u : 600u) << "full " << full;
    }
}

TEST(SamplePlanes, EveryRgbValueComesBack) {
  for (const int bits : {8, 10, 16}) {
    SamplePlanes samples;
    samples.layout.height = 1;
    samples.layout.width = kFrameMaximum + 1;
    samples.layout.bits = {bits, bits, bits};
    Frame frame(1, kFrameMaximum + 1), back;
    for (int x = 0; x <= kFrameMaximum; ++x)
      for (int c = 0; c < 3; ++c)
        frame.at(0, x)[c] =
            static_cast<std::int16_t>(bits == 8 ? x / 4 * 4 : (c * 300 + x) % (kFrameMaximum + 1));
    frame_to_samples(frame, samples);
    EXPECT_EQ(samples.planes[0][4], (4 * ((1 << bits) - 1) + 510) / 1020);  // four quarters are one level
    samples_to_frame(samples, back);
    EXPECT_EQ(back, frame) << bits;
  }
}

TEST(SamplePlanes, GreyIsTheSameInAllChannels) {
  SamplePlanes samples;
  samples.layout.height = 1;
  samples.layout.width = 3;
  samples.layout.model = SampleModel::Grey;
  samples.resize();
  samples.planes[0] = {0, 128, 255};
  Frame frame;
  samples_to_frame(samples, frame);
  EXPECT_EQ(frame.pixels, (std::vector<std::int16_t>{0, 0, 0, 512, 512, 512, 1020, 1020, 1020}));
  samples.layout.full_range = false;
  samples.planes[0] = {16, 126, 235};
  samples_to_frame(samples, frame);
  EXPECT_EQ(frame.pixels[0], 0);
  EXPECT_EQ(frame.pixels[3], 512);  // 110 / 219 of 1020
  EXPECT_EQ(frame.pixels[6], 1020);
}

/// Cr that grows by one along x where it is sampled; R must grow evenly too, wherever that is.
TEST(SamplePlanes, ChromaIsInterpolatedWhereItWasSampled) {
  for (const bool centred : {false, true}) {
    SamplePlanes samples{yuv(2, 40, k601, true, 10, 1, 1), {}};
    samples.layout.centred_x = centred;
    samples.resize();
    for (int x = 0; x < 20; ++x) samples.row(2, 0)[x] = static_cast<std::uint16_t>(512 + 4 * x);
    std::fill(samples.planes[0].begin(), samples.planes[0].end(), std::uint16_t{400});
    std::fill(samples.planes[1].begin(), samples.planes[1].end(), std::uint16_t{512});
    Frame frame;
    samples_to_frame(samples, frame);
    for (int x = 4; x < 36; ++x) {
      const double chroma = 2 * (x - (centred ? 0.5 : 0.0));
      EXPECT_NEAR(frame.at(0, x)[0], (400 + 1.402 * chroma) * 1020 / 1023, 0.7) << x;
    }
    SamplePlanes back{samples.layout, {}};
    frame_to_samples(frame, back);
    for (int x = 2; x < 18; ++x)
      EXPECT_NEAR(back.row(2, 0)[x], 512 + 4 * x, 1) << x << " centred " << centred;
  }
}

TEST(SamplePlanes, OddSizesKeepTheirEdges) {
  SamplePlanes samples{yuv(5, 7, k709, false, 8, 1, 1), {}};
  EXPECT_EQ(samples.layout.columns(1), 4);
  EXPECT_EQ(samples.layout.rows(1), 3);
  Frame frame(5, 7), back;
  for (std::size_t i = 0; i < frame.pixels.size(); ++i)
    frame.pixels[i] = static_cast<std::int16_t>(i % 3 * 300 + 100);
  frame_to_samples(frame, samples);
  samples_to_frame(samples, back);
  for (std::size_t i = 0; i < frame.pixels.size(); ++i) EXPECT_NEAR(back.pixels[i], frame.pixels[i], 5) << i;
}

TEST(Orientation, MatricesOfFilesTurnPictures) {
  constexpr std::int32_t k1 = 1 << 16;
  Frame frame(1, 2);  // A B
  frame.pixels = {1, 1, 1, 2, 2, 2};
  const auto turned = [&](std::int32_t a, std::int32_t b, std::int32_t c, std::int32_t d) {
    const std::int32_t matrix[9] = {a, b, 0, c, d, 0, 0, 0, 1 << 30};
    return Orientation::from_matrix(matrix, "x");
  };
  EXPECT_TRUE(turned(k1, 0, 0, k1).upright());
  const Orientation clockwise = turned(0, k1, -k1, 0);
  EXPECT_EQ(clockwise.rotation(), 90);
  EXPECT_FALSE(clockwise.mirrored());
  const Frame up = oriented(frame, clockwise);
  ASSERT_EQ(up.height, 2);
  EXPECT_EQ(up.at(0, 0)[0], 1);
  EXPECT_EQ(up.at(1, 0)[0], 2);
  const Frame down = oriented(frame, turned(0, -k1, k1, 0));
  EXPECT_EQ(turned(0, -k1, k1, 0).rotation(), 270);
  EXPECT_EQ(down.at(0, 0)[0], 2);
  EXPECT_EQ(turned(-k1, 0, 0, -k1).rotation(), 180);
  EXPECT_EQ(oriented(frame, turned(-k1, 0, 0, -k1)).at(0, 0)[0], 2);
  EXPECT_TRUE(turned(-k1, 0, 0, k1).mirrored());
  EXPECT_EQ(turned(-k1, 0, 0, k1).rotation(), 0);
  EXPECT_THROW(turned(k1, k1, -k1, k1), std::exception);
}

}  // namespace
}  // namespace lithe
