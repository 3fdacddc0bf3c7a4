// Samples of a video frame, and their way to and from Frame.
//
// Y = Kr R + Kg G + Kb B, Cb = (B - Y) / (2 - 2 Kb), Cr = (R - Y) / (2 - 2 Kr), scaled to the range of values
// (ITU-T H.273, section 8.3). Subsampled chroma is interpolated linearly, and averaged over a triangle or a
// box, at the places where it was sampled. Integer arithmetic: equal everywhere.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "lithe/video/frame.h"

namespace lithe {

enum class SampleModel { Rgb, Yuv, Grey };

/// How samples are laid out and what they mean.
struct SampleLayout {
  int height = 0, width = 0;
  SampleModel model = SampleModel::Rgb;
  std::array<int, 3> bits{8, 8, 8};  // 1..16, of each component; of YUV all the same, 8..16
  int shrink_x = 0, shrink_y = 0;    // log2 of the subsampling of chroma, 0..2 (to be written: 0..1)
  bool full_range = true;            // RGB is always full
  double kr = 0.2126, kb = 0.0722;
  bool centred_x = false, centred_y = true;  // chroma lies between its pixels, else on the first of them

  int components() const { return model == SampleModel::Grey ? 1 : 3; }
  /// Of component c.
  int rows(int c) const { return c > 0 ? -(-height >> shrink_y) : height; }
  int columns(int c) const { return c > 0 ? -(-width >> shrink_x) : width; }
};

/// One plane a component: R, G, B or Y, Cb, Cr or Y, [rows(c)][columns(c)].
struct SamplePlanes {
  SampleLayout layout;
  std::array<std::vector<std::uint16_t>, 3> planes;

  /// Planes of the layout's sizes.
  void resize();
  std::uint16_t* row(int c, int y) {
    return planes[static_cast<std::size_t>(c)].data() + static_cast<std::size_t>(y) * layout.columns(c);
  }
  const std::uint16_t* row(int c, int y) const {
    return planes[static_cast<std::size_t>(c)].data() + static_cast<std::size_t>(y) * layout.columns(c);
  }
};

/// Frames take the size of the planes; values out of range are clipped.
void samples_to_frame(const SamplePlanes& planes, Frame& frame);

/// `planes.layout` says what to make: RGB or YUV of at least 8 bits, and the frame's size.
void frame_to_samples(const Frame& frame, SamplePlanes& planes);

}  // namespace lithe
