// Turning pictures upright.
#pragma once

#include <cstdint>
#include <string>

#include "lithe/video/frame.h"

namespace lithe {

/// out(y, x) = in(y, x), with x and y exchanged first, then mirrored.
struct Orientation {
  bool exchange = false;  // rows become columns
  bool flip_x = false, flip_y = false;
  bool upright() const { return !exchange && !flip_x && !flip_y; }
  /// Degrees clockwise, 0, 90, 180 or 270, before mirroring left to right.
  int rotation() const;
  bool mirrored() const { return exchange != (flip_x != flip_y); }

  /// Of a display matrix of 9 numbers as in MP4 files (ISO/IEC 14496-12, section 8.3.2). Throws Error(Input)
  /// naming `name` if it is not a turn by a multiple of 90 degrees, perhaps mirrored.
  static Orientation from_matrix(const std::int32_t* matrix, const std::string& name);
};

Frame oriented(const Frame& frame, const Orientation& orientation);

}  // namespace lithe
