// Pictures as the patch kernels read them, and places in them.
#pragma once

#include <cstdint>

namespace lithe {

/// Row and column of a pixel in one number, so that places of one offset in neighbouring columns differ by 1.
using Place = std::int32_t;

constexpr Place place_at(int row, int column) {
  return static_cast<Place>(row << 16 | column);
}
constexpr int place_row(Place place) {
  return place >> 16;
}
constexpr int place_column(Place place) {
  return place & 0xFFFF;
}
inline constexpr int kLargestSide = 16384;

/// Larger patches could overflow the sums: 45 * 45 pixels of two squared differences of 1020 fill 32 bits.
inline constexpr int kLargestPatch = 45;

/// Pixels behind the last one of a picture that vectors may read.
inline constexpr int kPatchSlack = 64;

/// Guide and style side by side: eight numbers a pixel, R G B 0 of the guide and R G B 0 of the style, each
/// 0..1020. Around the picture lie zeros, at least half a patch wide.
struct PatchImage {
  const std::int16_t* origin = nullptr;  // pixel (0, 0)
  std::int64_t stride = 0;               // pixels from a row to the next

  const std::int16_t* at(std::int64_t row, std::int64_t column) const {
    return origin + (row * stride + column) * 8;
  }
};

/// Style alone: R G B 1, and zeros around the picture, at least half a patch wide.
struct VoteImage {
  const std::int16_t* origin = nullptr;
  std::int64_t stride = 0;

  const std::int16_t* at(std::int64_t row, std::int64_t column) const {
    return origin + (row * stride + column) * 4;
  }
};

}  // namespace lithe
