#include "lithe/video/restore_detail.h"

#include <algorithm>
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>

#include "lithe/video/planes.h"

namespace lithe {
namespace {

constexpr int kNeighbourhood = 15;
constexpr float kMost = 2;
constexpr float kNothing = 1;  // variance of bands, in squared quarter grey levels, that is left alone

/// Mean over the neighbourhood and the channels of a * b.
cv::Mat correlation(const cv::Mat& a, const cv::Mat& b) {
  cv::Mat result;
  cv::transform(a.mul(b), result, cv::Matx13f(1.F / 3, 1.F / 3, 1.F / 3));
  cv::blur(result, result, {kNeighbourhood, kNeighbourhood}, {-1, -1}, cv::BORDER_REPLICATE);
  return result;
}

/// The amplified band. The own frame is part of the average; for the regression it is taken out, since noise
/// correlates with itself.
cv::Mat amplified(const cv::Mat& average, const cv::Mat& own, const cv::Mat& share) {
  const cv::Mat with_own = correlation(average, own), squares = correlation(average, average);
  const cv::Mat own_squares = correlation(own, own);
  cv::Mat result = average.clone();
  for (int row = 0; row < average.rows; ++row)
    for (int column = 0; column < average.cols; ++column) {
      const float part = std::min(share.at<float>(row, column), 0.9F);
      const float both = with_own.at<float>(row, column), self = own_squares.at<float>(row, column);
      // Of the others, (average - part own) / (1 - part), with the own frame and with themselves; both times
      // (1 - part)^2.
      const float covariance = (both - part * self) * (1 - part);
      const float variance = squares.at<float>(row, column) - 2 * part * both + part * part * self;
      if (variance < kNothing || covariance <= variance) continue;
      const float factor = covariance / variance;  // of the others
      result.at<cv::Vec3f>(row, column) *= std::min(1 / (part + (1 - part) / factor), kMost);
    }
  return result;
}

cv::Mat blurred(const cv::Mat& picture, double sigma) {
  cv::Mat result;
  cv::GaussianBlur(picture, result, {}, sigma, sigma, cv::BORDER_REPLICATE);
  return result;
}

}  // namespace

Frame restore_detail(const Frame& average, const Frame& own, const cv::Mat& share) {
  cv::Mat base = to_float(average), own_base = to_float(own);
  cv::Mat detail = cv::Mat::zeros(base.size(), CV_32FC3);
  for (const double sigma : {0.8, 1.6}) {
    const cv::Mat lower = blurred(base, sigma), own_lower = blurred(own_base, sigma);
    detail += amplified(base - lower, own_base - own_lower, share);
    base = lower;
    own_base = own_lower;
  }
  return to_frame(base + detail);
}

}  // namespace lithe
