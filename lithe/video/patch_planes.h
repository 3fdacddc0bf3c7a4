// Frames laid out for the patch kernels.
#pragma once

#include <cstdint>
#include <vector>

#include "lithe/kernels/patch_image.h"
#include "lithe/video/frame.h"

namespace lithe {

/// Guide and style interleaved, with a border of zeros. May be set again and again.
class PatchPlane {
 public:
  /// `border`: pixels, half of the largest patch. Without a style its numbers are 0.
  void set(const Frame& guide, const Frame* style, int border);
  PatchImage image() const { return {values_.data() + origin_, stride_}; }
  /// The red of the style at (0, 0); pixels are 8 numbers apart, rows `row_step`.
  std::int16_t* style() { return values_.data() + origin_ + 4; }
  std::int64_t row_step() const { return stride_ * 8; }

 private:
  std::vector<std::int16_t> values_;
  std::int64_t stride_ = 0, origin_ = 0;
};

/// A style that patches vote with.
class VotePlane {
 public:
  void set(const Frame& style, int border);
  VoteImage image() const { return {values_.data() + origin_, stride_}; }

 private:
  std::vector<std::int16_t> values_;
  std::int64_t stride_ = 0, origin_ = 0;
};

}  // namespace lithe
