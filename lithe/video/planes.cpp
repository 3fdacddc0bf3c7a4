#include "lithe/video/planes.h"

#include <opencv2/core.hpp>

namespace lithe {

cv::Mat to_float(const Frame& frame) {
  cv::Mat picture;
  as_mat(frame).convertTo(picture, CV_32F);
  return picture;
}

Frame to_frame(const cv::Mat& picture) {
  Frame frame(picture.rows, picture.cols);
  cv::Mat target = as_mat(frame);
  picture.convertTo(target, CV_16S);
  cv::min(target, cv::Scalar::all(kFrameMaximum), target);
  cv::max(target, cv::Scalar::all(0), target);
  return frame;
}

cv::Mat brightness(const Frame& frame) {
  cv::Mat mean;
  cv::transform(to_float(frame), mean, cv::Matx13f(1.F / 3, 1.F / 3, 1.F / 3));
  return mean;
}

}  // namespace lithe
