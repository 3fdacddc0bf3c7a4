// A picture of a video in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace lithe {

/// Quarter grey levels: 8-bit value v is 4 v, so that pictures of 8 and of 10 bits are both exact and means
/// of pictures lose little; and differences of two values fit the 16-bit lanes of the patch kernels.
inline constexpr int kFrameScale = 4;
inline constexpr int kFrameMaximum = 255 * kFrameScale;

/// RGB, values 0..kFrameMaximum, [height][width][3].
struct Frame {
  int height = 0, width = 0;
  std::vector<std::int16_t> pixels;

  Frame() = default;
  Frame(int rows, int columns)
      : height(rows), width(columns), pixels(static_cast<std::size_t>(rows) * columns * 3) {}

  std::int16_t* at(int row, int column) {
    return pixels.data() + (static_cast<std::size_t>(row) * width + column) * 3;
  }
  const std::int16_t* at(int row, int column) const {
    return pixels.data() + (static_cast<std::size_t>(row) * width + column) * 3;
  }
  bool same_size(const Frame& other) const { return height == other.height && width == other.width; }
  friend bool operator==(const Frame&, const Frame&) = default;
};

}  // namespace lithe
