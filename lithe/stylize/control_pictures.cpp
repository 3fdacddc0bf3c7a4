#include "lithe/stylize/control_pictures.h"

#include <opencv2/imgproc.hpp>

#include "lithe/base/error.h"

namespace lithe {

Frame canny_edges(const Frame& frame, double low, double high) {
  if (!(low >= 0 && low <= high))
    fail("thresholds of edges from {} to {}: the first must not be larger", low, high);
  Frame out(frame.height, frame.width);
  if (frame.pixels.empty()) return out;
  cv::Mat levels, grey, edges;
  cv::Mat(frame.height, frame.width, CV_16SC3, const_cast<std::int16_t*>(frame.pixels.data()))
      .convertTo(levels, CV_8U, 1.0 / kFrameScale);
  cv::cvtColor(levels, grey, cv::COLOR_RGB2GRAY);
  cv::Canny(grey, edges, low, high);
  for (int y = 0; y < out.height; ++y)
    for (int x = 0; x < out.width; ++x)
      for (int c = 0; c < 3; ++c)
        out.at(y, x)[c] =
            edges.at<std::uint8_t>(y, x) ? static_cast<std::int16_t>(kFrameMaximum) : std::int16_t{0};
  return out;
}

std::vector<Frame> canny_edges(const std::vector<Frame>& frames, double low, double high) {
  std::vector<Frame> out;
  for (const Frame& frame : frames) out.push_back(canny_edges(frame, low, high));
  return out;
}

}  // namespace lithe
