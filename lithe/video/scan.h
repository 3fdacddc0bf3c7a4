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

/// What takes the colours of the frame before to those of a frame, and the variance of the error with which
/// the level of the whole frame is known, in squared quarter grey levels.
struct ColourStep {
  ColourMap map;
  double variance = 0;
};

/// Rounded to the nearest and clipped.
Frame apply(const ColourMap& map, const Frame& frame);

/// Sees that the frames of a video and its guide have one size; throws Error(Input) naming the frame.
class SizeCheck {
 public:
  void next(const Frame& style, const Frame& guide);
  std::int64_t number() const { return number_; }  // of the next frame

 private:
  std::int64_t number_ = 0;
  int height_ = 0, width_ = 0;
};

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
  /// Frames on each side that colours are evened out over, at most; where that is no more than
  /// `blend_window`, which averages anyway, or where the differences cannot be told well enough, they are
  /// left as they are.
  std::int64_t colour_window = 60;
  std::int64_t blend_window = 15;
};

/// Frames are shown to it in order; it keeps a small copy of the last one.
class VideoScanner {
 public:
  explicit VideoScanner(ScanOptions options);
  ~VideoScanner();
  /// Throws as SizeCheck.
  void add(const Frame& guide, const Frame& style);
  VideoScan finish() const;

 private:
  struct Last;
  ScanOptions options_;
  SizeCheck sizes_;
  std::unique_ptr<Last> last_;
  std::vector<bool> begins_scene_;
  std::vector<ColourStep> steps_;
};

/// From maps between neighbours to maps onto the average of up to `window` frames on each side. Averages do
/// not reach over lasting changes of brightness, as when a lamp is switched on.
std::vector<ColourMap> even_out(const std::vector<ColourStep>& steps, std::int64_t window);

/// How many frames on each side even out flicker best. Averages of many frames hold less flicker, but errors
/// of the steps add up along the way: with flicker of variance f and steps of variance e, averages over n
/// frames are off by f / n + e n / 6.
std::int64_t best_window(const std::vector<ColourStep>& steps, std::int64_t most);

}  // namespace lithe
