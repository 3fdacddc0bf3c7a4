// The baseline that every table of super-resolution starts with.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "lithe/engine/executor.h"
#include "lithe/metrics/evaluate.h"
#include "open_edsr.h"

namespace lithe {
namespace {

// 33.66 dB and 0.9299 on Set5 at x2 (Kim et al., "Accurate Image Super-Resolution Using Very Deep
// Convolutional Networks", CVPR 2016, table 3).
TEST(BicubicBaseline, IsThatOfThePapers) {
  const at::NoGradGuard no_grad;
  const char* root = std::getenv("LITHE_DATA");
  const std::filesystem::path set = std::filesystem::path(root ? root : "") / "sr/Set5/x2";
  if (!root || !std::filesystem::exists(set)) GTEST_SKIP() << "LITHE_DATA names no folder with sr/Set5/x2";
  Executor executor(test::open_edsr());
  const Evaluation score = evaluate(executor, open_dataset(set.string()), {.batch = 1, .threads = 1});
  ASSERT_EQ(score.n, 5);
  EXPECT_NEAR(score.bicubic_psnr_y.value(), 33.66, 0.02);
  EXPECT_NEAR(score.bicubic_ssim_y.value(), 0.9299, 0.0005);
}

}  // namespace
}  // namespace lithe
