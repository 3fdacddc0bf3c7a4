// A container being written. Internal to video/io.
#pragma once

#include <filesystem>
#include <string>

#include "lithe/base/file.h"
#include "lithe/video/io/av.h"

namespace lithe::av {

/// The container that the file's extension names. Throws Error(Input) naming usual ones if there is none.
const AVOutputFormat* container_of(const std::filesystem::path& path);

/// Appears at `path` whole or not at all (see AtomicFile).
class Muxer {
 public:
  explicit Muxer(const std::filesystem::path& path);
  ~Muxer();
  Muxer(const Muxer&) = delete;
  Muxer& operator=(const Muxer&) = delete;

  AVFormatContext* get() const { return format_; }
  const std::string& name() const { return name_; }
  AVStream* add_stream();
  /// After all streams were added.
  void write_header();
  /// Times are in the stream's unit (after write_header); takes the packet's content. Throws Error(System) if
  /// the disk is full.
  void write(AVPacket* packet);
  void finish();

 private:
  void check(int code) const;
  std::string name_;
  AtomicFile file_;
  AVFormatContext* format_ = nullptr;
};

}  // namespace lithe::av
