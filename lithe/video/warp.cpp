#include "lithe/video/warp.h"

#include <algorithm>
#include <cmath>
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>
#include <vector>

#include "lithe/video/flow.h"
#include "lithe/video/planes.h"

namespace lithe {
namespace {

constexpr int kSteps = 2;
constexpr int kWindow = 7;         // of a step, in pixels
constexpr float kLongestStep = 1;  // further away the linear model says nothing
constexpr float kFlat = 16;        // squared gradient of flat regions, which stay where they are

cv::Mat positions_of(const Field& field) {
  cv::Mat positions(field.height, field.width, CV_32FC2);
  for (int row = 0; row < field.height; ++row) {
    auto* to = positions.ptr<cv::Vec2f>(row);
    const std::size_t first = static_cast<std::size_t>(row) * field.width;
    for (int column = 0; column < field.width; ++column)
      to[column] = {static_cast<float>(field.columns[first + column]),
                    static_cast<float>(field.rows[first + column])};
  }
  return positions;
}

cv::Mat identity(cv::Size size) {
  cv::Mat positions(size, CV_32FC2);
  for (int row = 0; row < size.height; ++row)
    for (int column = 0; column < size.width; ++column)
      positions.at<cv::Vec2f>(row, column) = {static_cast<float>(column), static_cast<float>(row)};
  return positions;
}

/// Whole-pixel matches of a smooth motion hop between neighbours; their mean does not. Where they differ by
/// more than hops do, they stay.
cv::Mat smooth_hops(const cv::Mat& offsets) {
  const cv::Mat window = cv::Mat::ones(5, 5, CV_8U);
  cv::Mat highest, lowest, mean;
  cv::dilate(offsets, highest, window);
  cv::erode(offsets, lowest, window);
  cv::blur(offsets, mean, {5, 5}, {-1, -1}, cv::BORDER_REPLICATE);
  cv::Mat smooth = offsets.clone();
  for (int row = 0; row < offsets.rows; ++row)
    for (int column = 0; column < offsets.cols; ++column) {
      const cv::Vec2f range = highest.at<cv::Vec2f>(row, column) - lowest.at<cv::Vec2f>(row, column);
      if (std::max(range[0], range[1]) <= 2)
        smooth.at<cv::Vec2f>(row, column) = mean.at<cv::Vec2f>(row, column);
    }
  return smooth;
}

cv::Mat sample(const cv::Mat& source, const cv::Mat& positions, int method) {
  cv::Mat result;
  cv::remap(source, result, positions, cv::noArray(), method, cv::BORDER_REPLICATE);
  return result;
}

cv::Mat residual_of(const Frame& target_guide, const Frame& source_guide, const cv::Mat& positions) {
  cv::Mat difference;
  cv::subtract(to_float(target_guide), sample(to_float(source_guide), positions, cv::INTER_LINEAR),
               difference);
  cv::Mat squares;
  cv::transform(difference.mul(difference), squares, cv::Matx13f(1.F / 3, 1.F / 3, 1.F / 3));
  cv::blur(squares, squares, {5, 5}, {-1, -1}, cv::BORDER_REPLICATE);
  return squares;
}

/// One step for every pixel: the shift that lessens the difference of the guides in the window around it.
void step(cv::Mat& positions, const cv::Mat& target, const cv::Mat& source, const cv::Mat& across,
          const cv::Mat& down) {
  const cv::Mat difference = target - sample(source, positions, cv::INTER_LINEAR);
  const cv::Mat gx = sample(across, positions, cv::INTER_LINEAR),
                gy = sample(down, positions, cv::INTER_LINEAR);
  const auto mean_of = [](cv::Mat product) {
    cv::blur(product, product, {kWindow, kWindow}, {-1, -1}, cv::BORDER_REPLICATE);
    return product;
  };
  const cv::Mat xx = mean_of(gx.mul(gx)), xy = mean_of(gx.mul(gy)), yy = mean_of(gy.mul(gy));
  const cv::Mat xd = mean_of(gx.mul(difference)), yd = mean_of(gy.mul(difference));
  for (int row = 0; row < positions.rows; ++row) {
    auto* at = positions.ptr<cv::Vec2f>(row);
    for (int column = 0; column < positions.cols; ++column) {
      const float a = xx.at<float>(row, column) + kFlat, c = yy.at<float>(row, column) + kFlat;
      const float b = xy.at<float>(row, column);
      const float u = xd.at<float>(row, column), v = yd.at<float>(row, column);
      const float scale = 1 / (a * c - b * b);  // a c > b^2 by Cauchy's inequality
      at[column] += cv::Vec2f(std::clamp((c * u - b * v) * scale, -kLongestStep, kLongestStep),
                              std::clamp((a * v - b * u) * scale, -kLongestStep, kLongestStep));
    }
  }
}

}  // namespace

FineField refine(const Field& field, const Frame& source_guide, const Frame& target_guide) {
  const cv::Mat whole = positions_of(field);
  const cv::Mat here = identity(whole.size());
  cv::Mat fine = here + smooth_hops(whole - here);
  const cv::Mat source = brightness(source_guide), target = brightness(target_guide);
  cv::Mat across, down;
  cv::Sobel(source, across, CV_32F, 1, 0, 3, 1.0 / 8, 0, cv::BORDER_REPLICATE);
  cv::Sobel(source, down, CV_32F, 0, 1, 3, 1.0 / 8, 0, cv::BORDER_REPLICATE);
  for (int i = 0; i < kSteps; ++i) step(fine, target, source, across, down);
  const cv::Mat before = residual_of(target_guide, source_guide, whole);
  cv::Mat after = residual_of(target_guide, source_guide, fine);
  const cv::Mat worse = after > before;
  whole.copyTo(fine, worse);
  before.copyTo(after, worse);
  return {fine, after};
}

std::optional<Field> matches_by_flow(const Frame& source_guide, const Frame& target_guide) {
  if (std::min(target_guide.height, target_guide.width) < 16) return std::nullopt;
  const cv::Mat displacement = dis_flow(target_guide, source_guide, FlowPreset::Fast).displacement;
  Field field{.height = target_guide.height, .width = target_guide.width};
  for (int row = 0; row < field.height; ++row)
    for (int column = 0; column < field.width; ++column) {
      const auto away = displacement.at<cv::Vec2f>(row, column);
      const auto inside = [](float place, int size) {
        return static_cast<std::int16_t>(std::lround(std::clamp(place, 0.F, static_cast<float>(size - 1))));
      };
      field.columns.push_back(inside(static_cast<float>(column) + away[0], field.width));
      field.rows.push_back(inside(static_cast<float>(row) + away[1], field.height));
    }
  return field;
}

FineField whole_pixels(const Field& field, const Frame& source_guide, const Frame& target_guide) {
  const cv::Mat positions = positions_of(field);
  return {positions, residual_of(target_guide, source_guide, positions)};
}

std::vector<std::uint16_t> weights_at(const FineField& field, const std::vector<std::uint16_t>& weights) {
  const cv::Mat& positions = field.positions;
  std::vector<std::uint16_t> result;
  result.reserve(weights.size());
  for (int row = 0; row < positions.rows; ++row)
    for (int column = 0; column < positions.cols; ++column) {
      const auto at = positions.at<cv::Vec2f>(row, column);
      const int x = std::clamp(static_cast<int>(std::lround(at[0])), 0, positions.cols - 1);
      const int y = std::clamp(static_cast<int>(std::lround(at[1])), 0, positions.rows - 1);
      result.push_back(weights[static_cast<std::size_t>(y) * positions.cols + x]);
    }
  return result;
}

Frame sample_at(const FineField& field, const Frame& source) {
  return to_frame(sample(to_float(source), field.positions, cv::INTER_CUBIC));
}

namespace {

/// Differences of guides that say nothing: twice what is usual in this pair, and three grey levels. Pairs
/// that do not match at all, as across a cut that went unseen, have nothing usual.
float fair_residual(const FineField& field) {
  std::vector<float> sorted;
  sorted.reserve(field.residual.total() / 4 + 1);
  for (int row = 0; row < field.residual.rows; row += 2)
    for (int column = 0; column < field.residual.cols; column += 2)
      sorted.push_back(field.residual.at<float>(row, column));
  const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
  std::nth_element(sorted.begin(), middle, sorted.end());
  constexpr float kGrey = kFrameScale * kFrameScale;  // one squared grey level
  return 2 * std::min(*middle, 64 * kGrey) + 9 * kGrey;
}

}  // namespace

float flicker_variance(const FineField& field, const Frame& brought, const Frame& style) {
  cv::Mat difference;
  cv::subtract(as_mat(brought), as_mat(style), difference, cv::noArray(), CV_32F);
  const cv::Scalar mean = cv::mean(difference.mul(difference), field.residual <= fair_residual(field));
  return static_cast<float>(mean[0] + mean[1] + mean[2]) / 6;  // both flicker
}

cv::Mat trust(const FineField& field, float variance) {
  const float fair = fair_residual(field);
  const cv::Mat excess = cv::max(field.residual - fair, 0.0);
  return (fair + variance) / (excess + (fair + variance));
}

}  // namespace lithe
