// Pictures to match: textures with detail at all scales, a style of them, and known motion.
#pragma once

#include <array>
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>

#include "lithe/base/random.h"
#include "lithe/video/planes.h"

namespace lithe {

/// Noise of five scales around mid grey, CV_32FC3, in quarter grey levels.
inline cv::Mat texture(std::uint64_t seed, int side = 512) {
  constexpr std::array<int, 5> kNodes{4, 8, 16, 64, 512};
  constexpr std::array<double, 5> kAmplitudes{90, 60, 40, 25, 12};
  Rng rng(seed);
  cv::Mat sum(side, side, CV_32FC3, cv::Scalar::all(128));
  for (std::size_t i = 0; i < kNodes.size(); ++i) {
    cv::Mat nodes(kNodes[i], kNodes[i], CV_32FC3), wide;
    for (int y = 0; y < nodes.rows; ++y)
      for (int x = 0; x < nodes.cols; ++x)
        for (int c = 0; c < 3; ++c) nodes.at<cv::Vec3f>(y, x)[c] = static_cast<float>(rng.normal());
    cv::resize(nodes, wide, sum.size(), 0, 0, cv::INTER_CUBIC);
    sum += wide * (0.6 * kAmplitudes[i]);
  }
  cv::GaussianBlur(sum, sum, {}, 0.9);
  sum = cv::min(cv::max(sum, 0), 255);
  return sum * kFrameScale;
}

/// Blurred, with other colours, and darker at edges.
inline cv::Mat styled(const cv::Mat& picture) {
  cv::Mat blurred, edges;
  cv::GaussianBlur(picture, blurred, {}, 1);
  cv::Laplacian(picture, edges, CV_32F);
  cv::Mat out(picture.size(), CV_32FC3);
  constexpr std::array<int, 3> kFrom{2, 0, 1};
  constexpr std::array<float, 3> kGain{0.9f, 1.1f, 0.8f};
  for (int y = 0; y < out.rows; ++y)
    for (int x = 0; x < out.cols; ++x)
      for (int c = 0; c < 3; ++c)
        out.at<cv::Vec3f>(y, x)[c] =
            kGain[c] * blurred.at<cv::Vec3f>(y, x)[kFrom[c]] - 1.5f * std::abs(edges.at<cv::Vec3f>(y, x)[c]);
  return cv::min(cv::max(out, 0), kFrameMaximum);
}

/// Part of a picture.
inline Frame crop(const cv::Mat& picture, int row, int column, int height, int width) {
  return to_frame(picture(cv::Rect(column, row, width, height)).clone());
}

}  // namespace lithe
