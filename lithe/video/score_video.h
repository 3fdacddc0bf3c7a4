// The measures of video_score.h for videos on disk.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "lithe/base/progress.h"
#include "lithe/video/io/reader.h"
#include "lithe/video/video_score.h"

namespace lithe {

/// Videos are files or folders of pictures; all are read with the same options, frame by frame together.
struct ScoreVideoJob {
  std::filesystem::path video;
  std::filesystem::path against;    // another video, measured the same way; detail is relative to it
  std::filesystem::path guide;      // motion is estimated on it, else on the reference, else on the video
  std::filesystem::path reference;  // what the video ought to be
  std::filesystem::path flows;      // folder of .flo files, the flow from each frame to the next
  ReadOptions read;
  ScoreOptions options;
};

struct VideoComparison {
  VideoScore score;
  std::optional<VideoScore> against;
  std::int64_t first = 0;  // number of the first frame
};

/// Throws Error(Input) naming the file where one cannot be read, or sizes or numbers of frames differ.
VideoComparison score_video(const ScoreVideoJob& job, Progress& progress);

}  // namespace lithe
