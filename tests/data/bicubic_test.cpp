#include "lithe/data/bicubic.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "lithe/base/error.h"
#include "lithe/data/dataset.h"

namespace lithe {
namespace {

at::Tensor row(std::initializer_list<double> values) {
  return at::tensor(std::vector<double>(values), at::kDouble).view({1, -1});
}

double gap(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

// Worked out by hand from the kernel: at twice the size the taps are those at 1/4 and 3/4.
TEST(Bicubic, DoublesByTheKernel) {
  const double near = 1.5 / 64 - 2.5 / 16 + 1, far = 1.5 * 27 / 64 - 2.5 * 9 / 16 + 1;
  const double outer = -0.5 * 125 / 64 + 2.5 * 25 / 16 - 5 + 2,
               last = -0.5 * 343 / 64 + 2.5 * 49 / 16 - 7 + 2;
  EXPECT_NEAR(near + far + outer + last, 1, 1e-12);
  // Pixel 4 of ten lies at 1.75: between pixels 1 and 2, nearer to 2.
  const at::Tensor x = row({3, 1, 4, 1, 5}), y = resize_bicubic(x, 1, 10);
  EXPECT_NEAR(y[0][4].item<double>(), last * 3 + far * 1 + near * 4 + outer * 1, 1e-12);
  // Pixel 0 at -0.25: beyond the border the first pixel is repeated.
  EXPECT_NEAR(y[0][0].item<double>(), last * 3 + far * 3 + near * 3 + outer * 1, 1e-12);
}

// Halving stretches the kernel: eight taps at distances 1/4, 3/4, 5/4, 7/4 of the stretched one.
TEST(Bicubic, HalvesWithAntialiasing) {
  const double taps[] = {0.8671875, 0.2265625, -0.0703125, -0.0234375};
  const at::Tensor x = row({0, 0, 0, 0, 8, 0, 0, 0, 0, 0}), y = resize_bicubic(x, 1, 5);
  // Pixel 4 lies 0.5, 1.5 (inside pixels 2 and 1), 2.5, 3.5 from the centres of pixels of five.
  EXPECT_NEAR(y[0][2].item<double>(), 8 * taps[0] / 2, 1e-12);
  EXPECT_NEAR(y[0][1].item<double>(), 8 * taps[1] / 2, 1e-12);
  EXPECT_NEAR(y[0][3].item<double>(), 8 * taps[2] / 2, 1e-12);
  EXPECT_NEAR(y[0][0].item<double>(), 8 * taps[3] / 2, 1e-12);
}

TEST(Bicubic, KeepsWhatIsEven) {
  const at::Tensor flat = at::full({3, 13, 7}, 41.5);
  for (const std::int64_t size : {1, 4, 7, 26, 39}) {
    const at::Tensor out = resize_bicubic(flat, size, 5);
    EXPECT_EQ(out.size(-2), size);
    EXPECT_LT(gap(out, at::full_like(out, 41.5)), 1e-10);
  }
  const at::Tensor x = at::arange(20, at::kDouble).view({4, 5});
  EXPECT_TRUE(at::equal(resize_bicubic(x, 4, 5), x));
}

// A ramp stays one inside.
TEST(Bicubic, KeepsRamps) {
  const at::Tensor ramp = at::arange(48, at::kDouble).view({1, 48});
  for (const std::int64_t factor : {2, 3, 4}) {
    const at::Tensor small = resize_bicubic(ramp, 1, 48 / factor);
    const auto scale = static_cast<double>(factor);
    for (std::int64_t i = 3; i < 48 / factor - 3; ++i)
      EXPECT_NEAR(small[0][i].item<double>(), (static_cast<double>(i) + 0.5) * scale - 0.5, 1e-9);
  }
}

/// By the definition: each pixel is the mean of all pixels of the picture continued without end by its
/// outermost ones, weighed by the stretched kernel of both distances.
long double by_definition(const at::Tensor& plane, std::int64_t height, std::int64_t width, std::int64_t y,
                          std::int64_t x) {
  const auto kernel = [](long double distance) {
    const long double a = std::abs(distance);
    if (a <= 1) return (1.5L * a - 2.5L) * a * a + 1;
    return a <= 2 ? ((-0.5L * a + 2.5L) * a - 4) * a + 2 : 0.0L;
  };
  const std::int64_t rows = plane.size(0), columns = plane.size(1);
  const auto accessor = plane.accessor<double, 2>();
  const auto weigh = [&](std::int64_t from, std::int64_t out, std::int64_t in, std::int64_t place) {
    const long double scale = static_cast<long double>(out) / static_cast<long double>(in);
    const long double centre = (static_cast<long double>(place) + 0.5L) / scale - 0.5L;
    return kernel(std::min(scale, 1.0L) * (centre - static_cast<long double>(from)));
  };
  long double sum = 0, weights = 0;
  for (std::int64_t i = -rows; i < 2 * rows; ++i)
    for (std::int64_t j = -columns; j < 2 * columns; ++j) {
      const long double weight = weigh(i, height, rows, y) * weigh(j, width, columns, x);
      weights += weight;
      sum += weight *
             accessor[std::clamp<std::int64_t>(i, 0, rows - 1)][std::clamp<std::int64_t>(j, 0, columns - 1)];
    }
  return sum / weights;
}

TEST(Bicubic, IsWhatItsDefinitionSays) {
  at::manual_seed(1);
  const at::Tensor planes = at::rand({2, 17, 23}, at::kDouble);
  for (const auto& [height, width] : {std::pair{8, 40}, {34, 46}, {51, 7}, {5, 5}, {17, 6}}) {
    const at::Tensor out = resize_bicubic(planes, height, width);
    ASSERT_EQ(out.sizes(), (at::IntArrayRef{2, height, width}));
    for (std::int64_t c = 0; c < 2; ++c)
      for (std::int64_t y = 0; y < height; ++y)
        for (std::int64_t x = 0; x < width; ++x)
          ASSERT_NEAR(out[c][y][x].item<double>(),
                      static_cast<double>(by_definition(planes[c], height, width, y, x)), 1e-12)
              << height << "x" << width << " at " << y << ", " << x;
  }
}

/// Twelve rows of twelve whole numbers of 0 to 255.
at::Tensor small_picture() {
  at::Tensor picture = at::empty({1, 12, 12}, at::kFloat);
  for (std::int64_t y = 0; y < 12; ++y)
    for (std::int64_t x = 0; x < 12; ++x)
      picture[0][y][x] = (7 * y * y + 13 * x * x + 29 * x * y + 11 * (31 * y % 17)) % 256;
  return picture;
}

std::vector<int> bytes_of(const at::Tensor& picture) {
  const at::Tensor whole = picture.to(at::kInt).contiguous();
  return {whole.data_ptr<int>(), whole.data_ptr<int>() + whole.numel()};
}

// Worked out in exact fractions from the definition, halves up after each axis.
TEST(Bicubic, GoldenPictures) {
  const at::Tensor picture = small_picture();
  const auto shrunk = [&](std::int64_t scale) {
    return bytes_of(resize_picture(picture, 12 / scale, 12 / scale));
  };
  EXPECT_EQ(shrunk(2), (std::vector<int>{84,  95,  155, 151, 133, 72,  183, 112, 147, 143, 178, 122,
                                         131, 120, 140, 114, 167, 115, 155, 116, 125, 164, 142, 141,
                                         109, 102, 168, 100, 144, 149, 126, 95,  142, 141, 125, 133}));
  EXPECT_EQ(shrunk(3), (std::vector<int>{106, 139, 155, 105, 143, 127, 141, 140, 127, 134, 142, 143, 110, 130,
                                         131, 139}));
  EXPECT_EQ(shrunk(4), (std::vector<int>{118, 146, 120, 135, 136, 143, 114, 136, 137}));
  EXPECT_NEAR(resize_bicubic(picture, 6, 6).sum().item<double>(), 303403.0 / 64, 1e-9);
  EXPECT_NEAR(resize_bicubic(picture, 4, 4).sum().item<double>(), 4614764.0 / 2187, 1e-9);
  EXPECT_NEAR(resize_bicubic(picture, 3, 3).sum().item<double>(), 77680299.0 / 65536, 1e-9);
  const at::Tensor corner = picture.narrow(1, 0, 4).narrow(2, 0, 4);
  const auto rows = [&](std::int64_t scale) {
    const at::Tensor large = resize_picture(corner, 4 * scale, 4 * scale)[0];
    return std::pair{bytes_of(large[0]), bytes_of(large[2 * scale + 1])};
  };
  EXPECT_EQ(rows(2), (std::pair{std::vector<int>{0, 0, 0, 10, 39, 72, 106, 122},
                                std::vector<int>{144, 168, 222, 200, 103, 81, 135, 161}}));
  EXPECT_EQ(rows(3), (std::pair{std::vector<int>{0, 0, 0, 0, 0, 14, 34, 55, 78, 101, 118, 123},
                                std::vector<int>{144, 149, 176, 211, 220, 174, 102, 61, 86, 142, 184, 193}}));
  EXPECT_EQ(rows(4), (std::pair{std::vector<int>{0, 0, 0, 0, 0, 0, 4, 16, 31, 47, 63, 81, 99, 113, 121, 123},
                                std::vector<int>{146, 148, 158, 181, 207, 220, 207, 160, 104, 62, 57, 88, 133,
                                                 174, 192, 196}}));
}

TEST(Bicubic, PicturesAreOfEightBits) {
  at::manual_seed(2);
  const at::Tensor x = 255 * (at::rand({3, 8, 8}) > 0.5).to(at::kFloat);
  const at::Tensor y = resize_picture(x, 16, 16);
  EXPECT_GE(y.min().item<double>(), 0);
  EXPECT_LE(y.max().item<double>(), 255);
  EXPECT_TRUE(at::equal(y, y.round()));
  EXPECT_THROW(resize_bicubic(at::zeros({0, 4}), 2, 2), Error);
}

// The pictures of the benchmarks were shrunk by MATLAB.
TEST(Bicubic, MakesTheInputsOfTheBenchmarks) {
  const char* root = std::getenv("LITHE_DATA");
  const std::filesystem::path set = std::filesystem::path(root ? root : "") / "sr/Set5";
  if (!root || !std::filesystem::exists(set)) GTEST_SKIP() << "LITHE_DATA names no folder with sr/Set5";
  for (const std::int64_t scale : {2, 4}) {
    const DatasetPtr pairs = open_dataset((set / ("x" + std::to_string(scale))).string());
    ASSERT_EQ(pairs->size(), 5);
    for (std::int64_t i = 0; i < pairs->size(); ++i) {
      const Sample sample = pairs->get(i);
      const at::Tensor low = sample.inputs.begin()->second * 255;
      const at::Tensor high =
          (sample.target * 255).narrow(1, 0, low.size(1) * scale).narrow(2, 0, low.size(2) * scale);
      const at::Tensor made = resize_picture(high, low.size(1), low.size(2));
      EXPECT_TRUE(at::equal(made, low.round())) << sample.name;
    }
  }
}

}  // namespace
}  // namespace lithe
