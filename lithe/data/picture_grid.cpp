#include "lithe/data/picture_grid.h"

#include <algorithm>
#include <cmath>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>
#include <vector>

#include "lithe/base/error.h"

namespace lithe {
namespace {

constexpr std::int64_t kMostPixels = std::int64_t{1} << 28;

/// [c, h, w] in bytes, RGB or gray, as OpenCV has it.
cv::Mat to_mat(const at::Tensor& picture) {
  const at::Tensor last = picture.permute({1, 2, 0}).contiguous();
  cv::Mat rgb(static_cast<int>(last.size(0)), static_cast<int>(last.size(1)),
              last.size(2) == 1 ? CV_8UC1 : CV_8UC3, last.data_ptr());
  cv::Mat out;
  if (last.size(2) == 1)
    rgb.copyTo(out);
  else
    cv::cvtColor(rgb, out, cv::COLOR_RGB2BGR);
  return out;
}

std::string encode(const cv::Mat& picture) {
  std::vector<unsigned char> bytes;
  if (!cv::imencode(".png", picture, bytes)) fail_system("the picture could not be encoded");
  return {bytes.begin(), bytes.end()};
}

}  // namespace

std::string picture_png(const at::Tensor& picture) {
  return encode(to_mat(picture));
}

GridSize grid_size(std::int64_t count, const std::vector<std::int64_t>& shape, std::int64_t columns,
                   std::int64_t magnify) {
  if (columns < 0 || magnify < 1 || magnify > 1024)
    fail("a grid needs a column, and pixels 1 to 1024 times as large");
  GridSize out{.columns = columns, .gap = std::max<std::int64_t>(1, magnify / 2)};
  if (columns == 0) out.columns = static_cast<std::int64_t>(std::ceil(std::sqrt(static_cast<double>(count))));
  out.columns = std::min(out.columns, count);
  const std::int64_t rows = (count + out.columns - 1) / out.columns;
  const std::int64_t height = shape.at(1) * magnify + out.gap, width = shape.at(2) * magnify + out.gap;
  if (height > kMostPixels / rows || width > kMostPixels / (height * rows) / out.columns)
    fail("a grid of {} pictures would have more than {} pixels; ask for fewer, or smaller ones", count,
         kMostPixels);
  out.height = rows * height + out.gap;
  out.width = out.columns * width + out.gap;
  return out;
}

std::string grid_png(const at::Tensor& pictures, std::int64_t columns, std::int64_t magnify) {
  if (pictures.dim() != 4 || pictures.scalar_type() != at::kByte || pictures.size(0) < 1 ||
      (pictures.size(1) != 1 && pictures.size(1) != 3) || pictures.size(2) < 1 || pictures.size(3) < 1)
    fail("a grid is made of gray or RGB pictures, 8 bits a channel");
  const std::int64_t n = pictures.size(0);
  const GridSize size = grid_size(n, pictures.sizes().slice(1).vec(), columns, magnify);
  const std::int64_t gap = size.gap, height = pictures.size(2) * magnify + gap,
                     width = pictures.size(3) * magnify + gap;
  const bool gray = pictures.size(1) == 1;
  cv::Mat canvas(static_cast<int>(size.height), static_cast<int>(size.width), gray ? CV_8UC1 : CV_8UC3,
                 cv::Scalar::all(96));
  for (std::int64_t i = 0; i < n; ++i) {
    cv::Mat large;
    cv::resize(to_mat(pictures[i]), large, {}, static_cast<double>(magnify), static_cast<double>(magnify),
               cv::INTER_NEAREST);
    const cv::Rect place(static_cast<int>(i % size.columns * width + gap),
                         static_cast<int>(i / size.columns * height + gap), large.cols, large.rows);
    large.copyTo(canvas(place));
  }
  return encode(canvas);
}

}  // namespace lithe
