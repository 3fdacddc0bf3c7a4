// Reading videos frame by frame: files of every container that FFmpeg reads, and folders of pictures.
//
//   const auto video = VideoReader::open("in.mp4");
//   for (Frame frame; video->read(frame);) ...
//
// FFmpeg's messages go into the errors thrown here instead of to standard error, for the whole process.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lithe/base/progress.h"
#include "lithe/video/frame.h"
#include "lithe/video/io/video_info.h"

namespace lithe {

struct ReadOptions {
  std::int64_t start = 0;   // the first frame to read, from 0
  std::int64_t most = -1;   // frames; -1: to the end
  bool drop_alpha = false;  // otherwise a frame that is transparent anywhere is refused
  bool accept_damage =
      false;  // otherwise frames that do not decode cleanly, and files cut short, are refused
  FrameRate folder_rate{30, 1};  // pictures in folders have no times of their own
  int threads = 0;               // of the decoder; 0: as many as it likes
};

/// The file whose sound, subtitles, chapters and tags go along with written frames.
struct CopiedFile {
  std::filesystem::path path;
  bool cut_start = false;  // what comes before the first written frame is left out
  bool cut_end = false;    // and what comes after the last
  double longest = -1;     // seconds that the frames will last at most; -1 unknown
  bool accept_damage = false;
};

class VideoReader {
 public:
  /// A file, or a folder of pictures (see is_image_name) in the order of their names, where numbers count as
  /// numbers: f2.png before f10.png. Throws Error(Input) if there is no video or no frame in it, or pictures
  /// are larger than 16,384 a side or 2^27 pixels.
  static std::unique_ptr<VideoReader> open(const std::filesystem::path& path,
                                           const ReadOptions& options = {});
  virtual ~VideoReader() = default;

  const VideoInfo& info() const { return info_; }
  /// The next frame, upright; false at the end. 8-bit pictures come as exactly four times their values;
  /// limited ranges are widened, and values outside clipped. Throws Error(Input) with the frame's number,
  /// counted from 0, if it does not decode, differs in size from the first or is transparent.
  virtual bool read(Frame& frame) = 0;
  /// Passes over a frame without converting it; false at the end.
  virtual bool skip() = 0;
  /// Of the frame last read.
  const FrameTime& time() const { return time_; }
  /// Of the frame last read, counted from the start of the video; -1 before.
  std::int64_t number() const { return number_; }
  /// Of the picture last read, without its folder; empty for files of videos.
  const std::string& name() const { return name_; }
  /// What a writer shall copy beside the frames that these options give; nothing for folders.
  virtual std::optional<CopiedFile> copied_file() const { return std::nullopt; }

 protected:
  VideoInfo info_;
  FrameTime time_;
  std::int64_t number_ = -1;
  std::string name_;
};

/// The pictures in a folder in natural order (see VideoReader::open); hidden files are left out. Throws
/// Error(Input) if the folder cannot be listed.
std::vector<std::filesystem::path> picture_files(const std::filesystem::path& folder);

/// The frames that reading with these options would give: counted exactly by decoding, which also finds
/// damage before long work begins. Throws what reading would throw, but for transparent frames and damage of
/// pictures in folders, of which only the headers are looked at.
std::int64_t count_frames(const std::filesystem::path& path, const ReadOptions& options = {},
                          Progress* progress = nullptr);

}  // namespace lithe
