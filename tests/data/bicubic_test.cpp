#include "lithe/data/bicubic.h"

#include <gtest/gtest.h>

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

TEST(Bicubic, AxesAreApart) {
  at::manual_seed(1);
  const at::Tensor x = at::rand({3, 17, 23}, at::kDouble);
  const at::Tensor both = resize_bicubic(x, 8, 40);
  EXPECT_LT(gap(both, resize_bicubic(resize_bicubic(x, 17, 40), 8, 40)), 1e-10);
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
