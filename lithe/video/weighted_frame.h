// Averages of frames, of which each pixel knows how many frames it stands for.
#pragma once

#include <cstdint>
#include <opencv2/core/mat.hpp>
#include <vector>

#include "lithe/video/frame.h"

namespace lithe {

/// Weights count in 64ths of a frame.
inline constexpr int kWholeFrame = 64;

struct WeightedFrame {
  Frame picture;
  int uniform = kWholeFrame;           // the weight of all pixels, if `weights` is empty
  std::vector<std::uint16_t> weights;  // [height][width]
};

/// A sum in whole numbers: the same whatever the order.
class FrameSum {
 public:
  /// `trust` (CV_32F, 0..1; empty: 1) multiplies the weights.
  void add(const WeightedFrame& frame, const cv::Mat& trust = {});
  /// Takes out what was added with full trust.
  void subtract(const WeightedFrame& frame);
  bool empty() const { return sums_.empty(); }
  /// The average, each channel rounded to the nearest. Every pixel must have weight.
  WeightedFrame average() const;
  /// The weight of one frame in the average, 0..1 (CV_32F).
  cv::Mat share_of_one() const;

 private:
  void add(const WeightedFrame& frame, const cv::Mat& trust, int sign);
  int height_ = 0, width_ = 0;
  bool varies_ = false;  // some weights are not those of whole frames
  std::vector<std::int32_t> sums_, weights_;
};

}  // namespace lithe
