#include "lithe/video/io/reader.h"

#include <algorithm>
#include <cmath>

#include "lithe/base/error.h"
#include "lithe/video/io/file_reader.h"

namespace lithe {
namespace fs = std::filesystem;

std::unique_ptr<VideoReader> VideoReader::open(const fs::path& path, const ReadOptions& options) {
  if (options.start < 0) fail("{}: reading cannot begin at frame {}", path.string(), options.start);
  if (options.most == 0) fail("{}: no frame is asked for; at least one is needed", path.string());
  std::error_code ignored;
  return fs::is_directory(path, ignored) ? open_picture_folder(path, options)
                                         : open_video_file(path, options);
}

std::int64_t count_frames(const fs::path& path, const ReadOptions& options, Progress* progress) {
  Progress silent;
  Progress& report = progress ? *progress : silent;
  const auto video = VideoReader::open(path, options);
  const VideoInfo& info = video->info();
  auto expected = info.frames >= 0
                      ? info.frames
                      : std::llround(std::min(info.seconds * info.rate.value(), 1e15)) - options.start;
  if (options.most >= 0) expected = std::min<std::int64_t>(expected, options.most);
  report.start("counting frames", std::max<std::int64_t>(expected, 1));
  std::int64_t frames = 0;
  for (; video->skip(); ++frames) report.advance();
  report.finish();
  return frames;
}

}  // namespace lithe
