#include "lithe/data/picture_grid.h"

#include <gtest/gtest.h>

#include "lithe/base/error.h"
#include "lithe/data/image.h"

namespace lithe {
namespace {

cv::Mat decoded(const std::string& png) {
  return decode_image(std::as_bytes(std::span<const char>(png)), "grid", Channels::AsInFile);
}

TEST(PictureGrid, PlacesPicturesInRows) {
  const at::Tensor pictures =
      at::stack({at::full({1, 2, 3}, 10), at::full({1, 2, 3}, 20), at::full({1, 2, 3}, 30)}).to(at::kByte);
  const cv::Mat grid = decoded(grid_png(pictures, 2, 4));  // gap 2
  EXPECT_EQ(grid.rows, 2 * (2 * 4 + 2) + 2);
  EXPECT_EQ(grid.cols, 2 * (3 * 4 + 2) + 2);
  EXPECT_EQ(grid.at<std::uint8_t>(2, 2), 10);
  EXPECT_EQ(grid.at<std::uint8_t>(2, 2 + 14), 20);
  EXPECT_EQ(grid.at<std::uint8_t>(2 + 10, 2), 30);
  EXPECT_EQ(grid.at<std::uint8_t>(2 + 10, 2 + 14), 96);  // nothing there
}

TEST(PictureGrid, KeepsColours) {
  at::Tensor picture = at::zeros({3, 1, 1}, at::kByte);
  picture[0][0][0] = 200;  // red
  const cv::Mat one = decoded(picture_png(picture));
  ASSERT_EQ(one.channels(), 3);
  EXPECT_EQ(one.at<cv::Vec3b>(0, 0), cv::Vec3b(200, 0, 0));  // decode_image gives RGB
}

TEST(PictureGrid, RefusesWhatIsNoGrid) {
  EXPECT_THROW(grid_png(at::zeros({2, 2, 4, 4}, at::kByte)), Error);
  EXPECT_THROW(grid_png(at::zeros({2, 1, 4, 4})), Error);
  EXPECT_THROW(grid_png(at::zeros({2, 1, 4, 4}, at::kByte), 1, 0), Error);
  EXPECT_THROW(grid_png(at::zeros({1, 1, 1, 1}, at::kByte).expand({1, 1, 30000, 30000}), 1, 1024), Error);
}

}  // namespace
}  // namespace lithe
