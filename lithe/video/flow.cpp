#include "lithe/video/flow.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <opencv2/core.hpp>
#include <opencv2/video/tracking.hpp>

#include "lithe/base/error.h"
#include "lithe/video/planes.h"

namespace lithe {
namespace {

constexpr int kLeastSide = 16;  // of pictures that have a pyramid

int preset_of(FlowPreset preset) {
  switch (preset) {
    case FlowPreset::Ultrafast:
      return cv::DISOpticalFlow::PRESET_ULTRAFAST;
    case FlowPreset::Fast:
      return cv::DISOpticalFlow::PRESET_FAST;
    case FlowPreset::Medium:
      break;
  }
  return cv::DISOpticalFlow::PRESET_MEDIUM;
}

cv::Mat grey(const Frame& frame) {
  cv::Mat bytes;
  brightness(frame).convertTo(bytes, CV_8U, 1.0 / kFrameScale);
  return bytes;
}

cv::Mat inside(const cv::Mat& displacement) {
  cv::Mat valid(displacement.size(), CV_8U);
  const auto right = static_cast<float>(displacement.cols - 1),
             low = static_cast<float>(displacement.rows - 1);
  for (int y = 0; y < displacement.rows; ++y)
    for (int x = 0; x < displacement.cols; ++x) {
      const auto d = displacement.at<cv::Vec2f>(y, x);
      const float column = static_cast<float>(x) + d[0], row = static_cast<float>(y) + d[1];
      valid.at<std::uint8_t>(y, x) = column >= 0 && row >= 0 && column <= right && row <= low ? 255 : 0;
    }
  return valid;
}

/// Of the cubic kernel with a = -0.5 (Keys 1981), which repeats parabolas.
std::array<float, 4> cubic_weights(float f) {
  return {((-0.5F * f + 1) * f - 0.5F) * f, (1.5F * f - 2.5F) * f * f + 1, ((-1.5F * f + 2) * f + 0.5F) * f,
          (0.5F * f - 0.5F) * f * f};
}

std::array<float, 4> linear_weights(float f) {
  return {0, 1 - f, f, 0};
}

/// Four taps each way around `at` (column, row); `index(i, n)` brings an index inside.
template <typename Pixel, typename Index>
Pixel tap(const cv::Mat& picture, cv::Vec2f at, Interpolation interpolation, const Index& index) {
  const float left = std::floor(at[0]), top = std::floor(at[1]);
  const bool cubic = interpolation == Interpolation::Cubic;
  const auto across = cubic ? cubic_weights(at[0] - left) : linear_weights(at[0] - left);
  const auto down = cubic ? cubic_weights(at[1] - top) : linear_weights(at[1] - top);
  Pixel sum{};
  for (int j = 0; j < 4; ++j) {
    const float weight = down[static_cast<std::size_t>(j)];
    if (weight == 0) continue;
    const auto* row = picture.ptr<Pixel>(index(static_cast<int>(top) - 1 + j, picture.rows));
    for (int i = 0; i < 4; ++i)
      sum += row[index(static_cast<int>(left) - 1 + i, picture.cols)] *
             (weight * across[static_cast<std::size_t>(i)]);
  }
  return sum;
}

template <typename Pixel, typename Position, typename Index>
cv::Mat sampled(const cv::Mat& picture, cv::Size size, Interpolation interpolation, const Position& position,
                const Index& index) {
  cv::Mat out(size, picture.type());
  for (int y = 0; y < size.height; ++y)
    for (int x = 0; x < size.width; ++x)
      out.at<Pixel>(y, x) = tap<Pixel>(picture, position(y, x), interpolation, index);
  return out;
}

template <typename Position, typename Index>
cv::Mat sampled_any(const cv::Mat& picture, cv::Size size, Interpolation interpolation,
                    const Position& position, const Index& index) {
  if (picture.type() == CV_32F) return sampled<float>(picture, size, interpolation, position, index);
  if (picture.type() == CV_32FC2) return sampled<cv::Vec2f>(picture, size, interpolation, position, index);
  if (picture.type() == CV_32FC3) return sampled<cv::Vec3f>(picture, size, interpolation, position, index);
  fail("a picture of OpenCV's type {} cannot be warped; give float32 with 1 to 3 channels", picture.type());
}

}  // namespace

Flow dis_flow(const Frame& from, const Frame& to, FlowPreset preset) {
  if (!from.same_size(to))
    fail("flow: frames of {}x{} and {}x{} pixels; give frames of one size", from.width, from.height, to.width,
         to.height);
  if (std::min(from.height, from.width) < kLeastSide)
    fail("flow: frames of {}x{} pixels are too small; the shorter side must have {}", from.width, from.height,
         kLeastSide);
  cv::Mat displacement;
  cv::DISOpticalFlow::create(preset_of(preset))->calc(grey(from), grey(to), displacement);
  return {displacement, inside(displacement)};
}

Flow checked_flow(const Frame& from, const Frame& to, FlowPreset preset) {
  Flow flow = dis_flow(from, to, preset);
  flow.valid = agreeing(flow, dis_flow(to, from, preset));
  return flow;
}

cv::Mat agreeing(const Flow& forward, const Flow& backward) {
  const cv::Mat back = warp(backward.displacement, forward.displacement);
  cv::Mat valid = forward.valid.clone();
  for (int y = 0; y < valid.rows; ++y)
    for (int x = 0; x < valid.cols; ++x) {
      const auto f = forward.displacement.at<cv::Vec2f>(y, x), b = back.at<cv::Vec2f>(y, x);
      const cv::Vec2f sum = f + b;
      if (sum.dot(sum) > 0.01 * (f.dot(f) + b.dot(b)) + 0.5) valid.at<std::uint8_t>(y, x) = 0;
    }
  return valid;
}

cv::Mat warp(const cv::Mat& picture, const cv::Mat& displacement, Interpolation interpolation) {
  if (displacement.type() != CV_32FC2 || displacement.size() != picture.size())
    fail("warp: a flow of {}x{} pixels for a picture of {}x{}; give one of the same size", displacement.cols,
         displacement.rows, picture.cols, picture.rows);
  // Kept near the picture, where every index is an int.
  const auto wide = static_cast<float>(picture.cols), high = static_cast<float>(picture.rows);
  const auto position = [&](int y, int x) {
    const auto d = displacement.at<cv::Vec2f>(y, x);
    const float column = static_cast<float>(x) + d[0], row = static_cast<float>(y) + d[1];
    return cv::Vec2f(std::isnan(column) ? 0 : std::clamp(column, -2.F, wide + 1),
                     std::isnan(row) ? 0 : std::clamp(row, -2.F, high + 1));
  };
  return sampled_any(picture, picture.size(), interpolation, position,
                     [](int i, int n) { return std::clamp(i, 0, n - 1); });
}

cv::Mat sample_mirrored(const cv::Mat& picture, const cv::Mat& positions) {
  return sampled_any(
      picture, positions.size(), Interpolation::Cubic,
      [&](int y, int x) { return positions.at<cv::Vec2f>(y, x); },
      [](int i, int n) { return cv::borderInterpolate(i, n, cv::BORDER_REFLECT_101); });
}

}  // namespace lithe
