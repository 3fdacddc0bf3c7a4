// Sound, subtitles and all that goes along with a video, from file to file without decoding. Internal to
// video/io.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "lithe/video/io/muxer.h"
#include "lithe/video/io/reader.h"

namespace lithe::av {

class CopiedStreams {
 public:
  /// Adds a stream to `muxer` for each one that its container can carry, and names the others in `notes`.
  /// Tags of the file go along too.
  CopiedStreams(const CopiedFile& copied, Muxer& muxer, std::vector<std::string>& notes);

  /// Title, language and the like of the video.
  void describe_video(AVStream* to) const;

  /// Microseconds on the file's clock at which its first stream begins; 0 if unknown.
  std::int64_t start() const;

  /// `zero`, in microseconds on the file's clock, becomes 0. Chapters are added here; call it before the
  /// header is written.
  void begin(std::int64_t zero);

  /// Copies what begins before `time`, in microseconds from `zero`.
  void copy_until(std::int64_t time);

  /// Copies the rest; of a file whose end is cut, what begins before `end`.
  void finish(std::int64_t end);

 private:
  void add(int index, std::vector<std::string>& notes);
  bool fetch();
  void place(AVPacket* packet);
  void put();
  void copy_chapters();

  CopiedFile copied_;
  InputFile file_;
  Muxer& muxer_;
  int video_ = -1;
  struct Track {
    int to = -1;  // the stream written; -1: not copied
    std::int64_t next = 0;
    std::int64_t last_dts = std::numeric_limits<std::int64_t>::min();
  };
  std::vector<Track> tracks_;
  Packet packet_ = new_packet();
  bool held_ = false, ended_ = false;  // whether packet_ is one that was fetched and not yet written
  bool keeps_lead_in_ = false;         // the container can start before 0
  std::int64_t zero_ = 0, end_ = std::numeric_limits<std::int64_t>::max();
  std::vector<std::string>& notes_;
};

}  // namespace lithe::av
