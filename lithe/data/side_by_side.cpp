#include "lithe/data/side_by_side.h"

#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

#include "lithe/base/error.h"

namespace lithe {
namespace {

cv::Mat bgr_of(const at::Tensor& pixels, int magnify) {
  const at::Tensor colour = pixels.size(0) == 1 ? pixels.expand({3, -1, -1}) : pixels;
  const at::Tensor bytes = colour.clamp(0, 255).round().to(at::kByte).flip(0).permute({1, 2, 0}).contiguous();
  const cv::Mat view(static_cast<int>(bytes.size(0)), static_cast<int>(bytes.size(1)), CV_8UC3,
                     bytes.data_ptr());
  cv::Mat large;
  cv::resize(view, large, cv::Size(), magnify, magnify, cv::INTER_NEAREST);
  return large;
}

}  // namespace

std::string side_by_side_png(const std::vector<LabelledPicture>& pictures, int magnify) {
  if (pictures.empty()) fail("there are no pictures to show");
  constexpr int kGap = 8, kHead = 22;
  const at::Tensor& first = pictures[0].pixels;
  for (const LabelledPicture& one : pictures)
    if (one.pixels.dim() != 3 || one.pixels.sizes() != first.sizes() ||
        (first.size(0) != 1 && first.size(0) != 3))
      fail("pictures side by side must have one size and one or three channels");
  const int height = static_cast<int>(first.size(1)) * magnify,
            width = static_cast<int>(first.size(2)) * magnify;
  const int count = static_cast<int>(pictures.size());
  cv::Mat canvas(height + kHead, count * width + (count - 1) * kGap, CV_8UC3, cv::Scalar(255, 255, 255));
  for (int i = 0; i < count; ++i) {
    const int left = i * (width + kGap);
    bgr_of(pictures[static_cast<std::size_t>(i)].pixels, magnify)
        .copyTo(canvas(cv::Rect(left, kHead, width, height)));
    cv::putText(canvas, pictures[static_cast<std::size_t>(i)].label, cv::Point(left + 2, kHead - 7),
                cv::FONT_HERSHEY_SIMPLEX, 0.45, cv::Scalar(0, 0, 0), 1, cv::LINE_AA);
  }
  std::vector<unsigned char> bytes;
  if (!cv::imencode(".png", canvas, bytes)) fail_system("the pictures could not be encoded");
  return {bytes.begin(), bytes.end()};
}

}  // namespace lithe
