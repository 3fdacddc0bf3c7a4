// What is learnt of a video before its frames are blended: where scenes begin, and how colours flicker.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "lithe/video/frame.h"

namespace lithe {

/// y = gain x + offset for each channel, in quarter grey levels.
struct ColourMap {
  std::array<float, 3> gain{1, 1, 1}, offset{};
  friend bool operator==(const ColourMap&, const ColourMap&) = default;
};

/// Rounded to the nearest and clipped.
Frame apply(const ColourMap& map, const Frame& frame);

struct VideoScan {
  std::int64_t frames = 0;
  std::vector<std::int64_t> scenes;  // the first frame of each; the first is 0
  /// What takes a frame's colours to the average of its scene's neighbouring frames; empty where not asked
  /// for.
  std::vector<ColourMap> colours;
};

struct ScanOptions {
  bool find_scenes = true;
  bool even_colours = true;
  std::int64_t colour_window = 60;  // frames on each side that colours are evened out over
};

/// Frames are shown to it in order; it keeps a small copy of the last one.
class VideoScanner {
 public:
  explicit VideoScanner(ScanOptions options);
  ~VideoScanner();
  void add(const Frame& guide, const Frame& style);
  VideoScan finish() const;

 private:
  struct Last;
  ScanOptions options_;
  std::unique_ptr<Last> last_;
  std::vector<bool> begins_scene_;
  std::vector<ColourMap> from_previous_;  // takes the colours of the frame before to those of this one
};

/// From maps between neighbours to maps onto the average of up to `window` frames on each side. Averages do
/// not reach over lasting changes of brightness, as when a lamp is switched on.
std::vector<ColourMap> even_out(const std::vector<ColourMap>& from_previous, std::int64_t window);

}  // namespace lithe
