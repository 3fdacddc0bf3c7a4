// Small videos made by formula.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "lithe/video/frame.h"

namespace lithe::test {

/// Coloured waves that move to the right by a pixel a frame.
inline std::vector<Frame> moving_waves(int count, int height, int width) {
  std::vector<Frame> frames;
  for (int t = 0; t < count; ++t) {
    Frame& frame = frames.emplace_back(height, width);
    for (int y = 0; y < height; ++y)
      for (int x = 0; x < width; ++x)
        for (int c = 0; c < 3; ++c)
          frame.at(y, x)[c] = static_cast<std::int16_t>(
              510 + 300 * std::sin(0.35 * (x - t) + c) * std::cos(0.27 * y + 2 * c) +
              100 * std::sin(0.9 * (x - t)));
  }
  return frames;
}

}  // namespace lithe::test
