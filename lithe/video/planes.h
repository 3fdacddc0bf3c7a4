// Frames as OpenCV sees them.
#pragma once

#include <opencv2/core/mat.hpp>

#include "lithe/video/frame.h"

namespace lithe {

/// The frame's own pixels, CV_16SC3; valid as long as the frame is. OpenCV has no view of constant pixels.
inline cv::Mat as_mat(const Frame& frame) {
  return {frame.height, frame.width, CV_16SC3, const_cast<std::int16_t*>(frame.pixels.data())};
}

/// The frame in float32, CV_32FC3, in quarter grey levels.
cv::Mat to_float(const Frame& frame);

/// Rounded to the nearest and clipped to 0..kFrameMaximum; `picture` is CV_32FC3 or CV_16SC3.
Frame to_frame(const cv::Mat& picture);

/// The mean of the three channels, CV_32F.
cv::Mat brightness(const Frame& frame);

}  // namespace lithe
