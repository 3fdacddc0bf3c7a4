// Scores of single pictures.
#include <algorithm>
#include <cmath>
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>

#include "lithe/base/error.h"
#include "lithe/video/planes.h"
#include "lithe/video/video_score.h"

namespace lithe {
namespace {

constexpr double kMost = 100;  // dB, of pictures that are equal
constexpr int kWindow = 11;
constexpr double kSigma = 1.5;

void require_same(const char* what, const Frame& a, const Frame& b) {
  if (!a.same_size(b))
    fail("{}: frames of {}x{} and {}x{} pixels; give frames of one size", what, a.width, a.height, b.width,
         b.height);
}

/// The Gaussian mean where the window is inside.
cv::Mat window_mean(const cv::Mat& picture) {
  cv::Mat mean;
  cv::GaussianBlur(picture, mean, {kWindow, kWindow}, kSigma);
  constexpr int kEdge = kWindow / 2;
  return mean(cv::Rect(kEdge, kEdge, picture.cols - 2 * kEdge, picture.rows - 2 * kEdge)).clone();
}

double mean_of_channels(const cv::Mat& picture) {
  const cv::Scalar mean = cv::mean(picture);
  return (mean[0] + mean[1] + mean[2]) / 3;
}

}  // namespace

double mean_square_error(const Frame& a, const Frame& b) {
  require_same("mean square error", a, b);
  double sum = 0;
  for (std::size_t i = 0; i < a.pixels.size(); ++i) {
    const double difference = a.pixels[i] - b.pixels[i];
    sum += difference * difference;
  }
  return sum / static_cast<double>(a.pixels.size()) / kFrameMaximum / kFrameMaximum;
}

double psnr_of(double mean_square_error) {
  return mean_square_error > 0 ? std::min(kMost, -10 * std::log10(mean_square_error)) : kMost;
}

double ssim(const Frame& a, const Frame& b) {
  require_same("SSIM", a, b);
  if (std::min(a.height, a.width) < kWindow)
    fail("SSIM: frames of {}x{} pixels are smaller than its window of {}", a.width, a.height, kWindow);
  cv::Mat x, y;  // double: variances are small differences
  as_mat(a).convertTo(x, CV_64F, 1.0 / kFrameMaximum);
  as_mat(b).convertTo(y, CV_64F, 1.0 / kFrameMaximum);
  const cv::Mat mx = window_mean(x), my = window_mean(y);
  const cv::Mat xx = window_mean(x.mul(x)) - mx.mul(mx), yy = window_mean(y.mul(y)) - my.mul(my),
                xy = window_mean(x.mul(y)) - mx.mul(my);
  const cv::Scalar c1 = cv::Scalar::all(0.01 * 0.01), c2 = cv::Scalar::all(0.03 * 0.03);
  const cv::Mat luminance = 2 * mx.mul(my) + c1, structure = 2 * xy + c2;
  const cv::Mat lights = mx.mul(mx) + my.mul(my) + c1, spreads = xx + yy + c2;
  cv::Mat map;
  cv::divide(luminance.mul(structure), lights.mul(spreads), map);
  return mean_of_channels(map);
}

double sharpness(const Frame& frame) {
  cv::Mat edges;
  cv::Laplacian(to_float(frame), edges, CV_32F, 1, 1.0 / kFrameScale, 0, cv::BORDER_REPLICATE);
  return mean_of_channels(cv::abs(edges));
}

}  // namespace lithe
