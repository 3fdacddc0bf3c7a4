// A whole video in the style of a few of its frames.
//
// The interpolation mode of FastBlend (Duan et al., 2023): each frame is put together from the key frames
// before and after it, matched to places where the two agree.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "lithe/base/progress.h"
#include "lithe/video/deflicker.h"
#include "lithe/video/frame.h"
#include "lithe/video/match.h"

namespace lithe {

struct KeyFrame {
  std::int64_t number = 0;  // in the video
  Frame guide, style;       // the video's frame, and what shall become of it
};

struct KeyFrameOptions {
  MatchOptions match{.patch = 15};
  // Beyond the published method; each can be switched off.
  bool exact_keys =
      true;  // key frames come out as they are, and keys agree the less the nearer a frame is to one
  bool fractions = true;  // matches are refined to fractions of a pixel
  bool weigh = true;      // keys count by how well their guides agree with the frame's
  int threads = 1;

  static KeyFrameOptions published();
};

/// Frames first..frames-1 of the video whose frames `guide` gives, by key frames in ascending order. Progress
/// counts frames. Throws Error(Input) if there is no key frame, numbers do not ascend or lie outside the
/// video, or sizes differ.
void interpolate_keys(const ReadFrame& guide, std::int64_t frames, const std::vector<KeyFrame>& keys,
                      const KeyFrameOptions& options, const WriteFrame& write, Progress& progress,
                      std::int64_t first = 0);

/// Which frame each picture stands for: that of the same name in a folder of pictures, else that of the
/// number in the picture's name ("0012.png", "frame_12.png"). Pictures come back in the order of their
/// frames. Throws Error(Input) naming the picture that stands for no frame, or for the same one as another.
struct KeyFile {
  std::int64_t number = 0;
  std::filesystem::path path;
};
std::vector<KeyFile> find_key_files(const std::filesystem::path& folder,
                                    const std::vector<std::string>& names, std::int64_t frames);

}  // namespace lithe
