// Deflickering from file to file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "lithe/base/progress.h"
#include "lithe/video/deflicker.h"
#include "lithe/video/io/reader.h"
#include "lithe/video/io/writer.h"

namespace lithe {

/// Videos are files or folders of pictures.
struct DeflickerJob {
  std::filesystem::path style;   // what flickers
  std::filesystem::path guide;   // what it was made from; empty: the video guides itself (see own_guide)
  std::filesystem::path output;  // a file or a folder
  DeflickerOptions options;
  ReadOptions read;
  WriteOptions write;
  bool fit = false;               // a guide of another size is resized, and the longer video is cut
  std::int64_t memory_bytes = 0;  // more is refused before the work; 0: no bound
  int shrink = 1;                 // pictures are reduced by this factor, for previews
  /// Finished frames are kept in this folder until the result is written, so that work which stopped goes on
  /// there; empty: they go straight into the result.
  std::filesystem::path spool;
  bool resume = false;  // go on with what is in the spool, instead of replacing it
  /// Sees the frames before and after, in order, from the first that this run makes.
  std::function<void(std::int64_t number, const Frame& guide, const Frame& before, const Frame& after)>
      on_frame;
};

struct DeflickerOutcome {
  VideoInfo info;  // of the style
  std::int64_t frames = 0, resumed_frames = 0, pairs = 0;
  std::vector<std::int64_t> scenes;
  double seconds = 0;  // of matching and blending
  std::string encoder, pixel_format;
  std::vector<std::string> notes;  // what was adapted, resized or left out
};

/// Throws Error(Input) for videos that cannot be read or do not fit one another, before anything takes long,
/// and Error(System) if the disk is full; what is in the spool then stays.
DeflickerOutcome deflicker_video(const DeflickerJob& job, Progress& progress);

/// The guide of a video that has none: the frame with its fine texture, where flicker mostly is, smoothed
/// away.
Frame own_guide(const Frame& frame);

}  // namespace lithe
