#include "lithe/video/weighted_frame.h"

#include <algorithm>
#include <cmath>

namespace lithe {

void FrameSum::add(const WeightedFrame& frame, const cv::Mat& trust) {
  add(frame, trust, 1);
}

void FrameSum::subtract(const WeightedFrame& frame) {
  add(frame, {}, -1);
}

void FrameSum::add(const WeightedFrame& frame, const cv::Mat& trust, int sign) {
  const std::size_t pixels = frame.picture.pixels.size() / 3;
  if (sums_.empty()) {
    height_ = frame.picture.height;
    width_ = frame.picture.width;
    sums_.resize(3 * pixels);
    weights_.resize(pixels);
  }
  varies_ = varies_ || !frame.weights.empty() || !trust.empty();
  const auto* trusted = trust.empty() ? nullptr : trust.ptr<float>();
  for (std::size_t i = 0; i < pixels; ++i) {
    int weight = frame.weights.empty() ? frame.uniform : frame.weights[i];
    // Never nothing, so that averages have no holes for interpolation to pull in.
    if (trusted) weight = std::max(1, static_cast<int>(std::lround(static_cast<float>(weight) * trusted[i])));
    weight *= sign;
    weights_[i] += weight;
    for (std::size_t c = 3 * i; c < 3 * i + 3; ++c) sums_[c] += weight * frame.picture.pixels[c];
  }
}

WeightedFrame FrameSum::average() const {
  WeightedFrame result{.picture = Frame(height_, width_), .uniform = weights_.empty() ? 0 : weights_[0]};
  if (varies_) result.weights.resize(weights_.size());
  for (std::size_t i = 0; i < weights_.size(); ++i) {
    const std::int32_t weight = weights_[i];
    if (varies_) result.weights[i] = static_cast<std::uint16_t>(std::min(weight, 65535));
    if (weight == 0) continue;
    for (std::size_t c = 3 * i; c < 3 * i + 3; ++c)
      result.picture.pixels[c] = static_cast<std::int16_t>((2 * sums_[c] + weight) / (2 * weight));
  }
  return result;
}

cv::Mat FrameSum::share_of_one() const {
  cv::Mat share(height_, width_, CV_32F);
  auto* to = share.ptr<float>();
  for (std::size_t i = 0; i < weights_.size(); ++i)
    to[i] = static_cast<float>(kWholeFrame) / static_cast<float>(std::max(weights_[i], kWholeFrame));
  return share;
}

}  // namespace lithe
