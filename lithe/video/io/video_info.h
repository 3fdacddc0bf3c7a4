// What a video is besides its pixels.
#pragma once

#include <cstdint>
#include <string>

namespace lithe {

/// A fraction; 0/1 where unknown. The denominator is positive.
struct Rational {
  std::int64_t numerator = 0, denominator = 1;
  double value() const { return static_cast<double>(numerator) / static_cast<double>(denominator); }
  friend bool operator==(const Rational&, const Rational&) = default;
};

/// Frames a second.
using FrameRate = Rational;

/// When a frame is shown, exactly: `ticks` times `unit` seconds, on the clock of its video.
struct FrameTime {
  std::int64_t ticks = 0;
  std::int64_t duration = 0;  // ticks; 0 where unknown
  Rational unit{0, 1};
  double seconds() const { return static_cast<double>(ticks) * unit.value(); }
  friend bool operator==(const FrameTime&, const FrameTime&) = default;
};

/// How samples stand for colours: code points of ITU-T H.273, which are FFmpeg's too.
struct VideoColour {
  int range = 0;      // 0 unknown, 1 limited (16..235), 2 full
  int matrix = 2;     // 0 RGB, 1 BT.709, 2 unknown, 5 and 6 BT.601, 9 BT.2020, ...
  int primaries = 2;  // kept, not used
  int transfer = 2;   // kept, not used
  int siting = 0;     // of subsampled chroma: 0 unknown, 1 left, 2 centre, 3 top left
  friend bool operator==(const VideoColour&, const VideoColour&) = default;
};

struct VideoInfo {
  int height = 0, width = 0;  // upright: after rotation
  FrameRate rate;             // of pictures in folders: the one asked for
  bool variable_rate =
      false;           // as far as headers and the first frames tell; times of frames are always their own
  Rational time_unit;  // of the times of its frames; 0 unknown
  std::int64_t frames = -1;  // that reading gives; -1: unknown until they are counted (see count_frames)
  double seconds = 0;        // what the file promises; 0 unknown
  int bits = 8;              // of a channel, in the file
  bool alpha = false;        // whether the pixel format has it
  int rotation = 0;          // degrees clockwise, and then mirrored or not, that reading has applied
  bool mirrored = false;     // left to right
  bool interlaced = false;
  bool folder = false;                         // of pictures
  std::string codec, pixel_format, container;  // FFmpeg's names; of folders the ending of the first file
  Rational sample_aspect;                      // width to height of an upright pixel
  VideoColour colour;
  int audio_streams = 0, subtitle_streams = 0, other_streams = 0;
};

}  // namespace lithe
