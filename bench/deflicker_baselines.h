// Simple ways to calm a video, for comparison: each frame becomes a mean or median of its neighbours.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <opencv2/core.hpp>
#include <vector>

#include "lithe/video/flow.h"
#include "lithe/video/frame.h"
#include "lithe/video/planes.h"

namespace lithe::bench {

inline constexpr int kReach = 7;  // frames on each side

inline std::vector<Frame> temporal_median(const std::vector<Frame>& frames) {
  std::vector<Frame> result;
  const int count = static_cast<int>(frames.size());
  for (int t = 0; t < count; ++t) {
    const int first = std::max(0, t - kReach), last = std::min(count - 1, t + kReach);
    Frame out(frames[0].height, frames[0].width);
    std::vector<std::int16_t> values(static_cast<std::size_t>(last - first + 1));
    const auto half = static_cast<std::ptrdiff_t>(values.size() / 2);
    for (std::size_t i = 0; i < out.pixels.size(); ++i) {
      for (int n = first; n <= last; ++n)
        values[static_cast<std::size_t>(n - first)] = frames[static_cast<std::size_t>(n)].pixels[i];
      std::nth_element(values.begin(), values.begin() + half, values.end());
      int value = values[static_cast<std::size_t>(half)];
      if (values.size() % 2 == 0)
        value = (value + *std::max_element(values.begin(), values.begin() + half) + 1) / 2;
      out.pixels[i] = static_cast<std::int16_t>(value);
    }
    result.push_back(std::move(out));
  }
  return result;
}

/// From frame t to frame n.
using FlowBetween = std::function<Flow(int t, int n)>;

/// Each pixel becomes the mean of itself and of what the flow finds in the neighbours, where it is valid.
inline std::vector<Frame> flow_mean(const std::vector<Frame>& frames, const FlowBetween& flow) {
  std::vector<Frame> result;
  const int count = static_cast<int>(frames.size());
  for (int t = 0; t < count; ++t) {
    cv::Mat sum = to_float(frames[static_cast<std::size_t>(t)]);
    cv::Mat weight(sum.size(), CV_32F, cv::Scalar(1));
    for (int n = std::max(0, t - kReach); n <= std::min(count - 1, t + kReach); ++n) {
      if (n == t) continue;
      const Flow there = flow(t, n);
      const cv::Mat moved =
          warp(to_float(frames[static_cast<std::size_t>(n)]), there.displacement, Interpolation::Cubic);
      cv::add(sum, moved, sum, there.valid);
      cv::add(weight, cv::Scalar(1), weight, there.valid);
    }
    cv::Mat weights;
    cv::merge(std::vector<cv::Mat>{weight, weight, weight}, weights);
    result.push_back(to_frame(sum / weights));
  }
  return result;
}

/// Without any motion.
inline std::vector<Frame> temporal_mean(const std::vector<Frame>& frames) {
  const Flow none{cv::Mat(frames[0].height, frames[0].width, CV_32FC2, cv::Scalar::all(0)),
                  cv::Mat(frames[0].height, frames[0].width, CV_8U, cv::Scalar(255))};
  return flow_mean(frames, [&](int, int) { return none; });
}

}  // namespace lithe::bench
