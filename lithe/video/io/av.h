// FFmpeg's objects with owners, and its failures as errors. Internal to video/io.
#pragma once

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/frame.h>
#include <libavutil/pixdesc.h>
}

#include <atomic>
#include <filesystem>
#include <memory>
#include <string>

#include "lithe/video/io/video_info.h"

namespace lithe::av {

inline constexpr int kMaxSide = 16384;
inline constexpr std::int64_t kMaxPixels = std::int64_t{1} << 27;

struct Free {
  void operator()(AVCodecContext* it) const { avcodec_free_context(&it); }
  void operator()(AVPacket* it) const { av_packet_free(&it); }
  void operator()(AVFrame* it) const { av_frame_free(&it); }
};
using Codec = std::unique_ptr<AVCodecContext, Free>;
using Packet = std::unique_ptr<AVPacket, Free>;
using Picture = std::unique_ptr<AVFrame, Free>;

/// Throw Error(System) when memory is short.
Packet new_packet();
Picture new_picture();
Codec new_codec(const AVCodec* codec);

/// From here on FFmpeg writes nothing to standard error in this process; the last error is kept for `reason`.
void hush();

/// From then on counts the errors that the codec tells of; `errors` outlives it.
void count_errors(AVCodecContext* codec, std::atomic<int>* errors);

/// What the code says, and the last error that FFmpeg told of; forgets the latter.
std::string reason(int code);

/// Throws Error(System) where the disk or memory failed, else Error(Input), with the reason appended.
[[noreturn]] void refuse(int code, const std::string& what);

/// A file opened for reading, with its streams found. Only the file itself is read: files that it refers to
/// are not.
class InputFile {
 public:
  /// Throws Error(Input) if it is no regular file, or nothing that FFmpeg knows.
  explicit InputFile(const std::filesystem::path& path);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  AVFormatContext* get() const { return format_; }
  AVFormatContext* operator->() const { return format_; }
  AVStream* stream(int index) const { return format_->streams[index]; }
  /// The next packet; false at the end. Throws Error(Input) if the file is damaged.
  bool read(AVPacket* packet);
  const std::string& name() const { return name_; }
  /// That FFmpeg told of while packets were read.
  int errors() const { return errors_; }

 private:
  void close();
  std::atomic<int> errors_{0};
  std::string name_;
  AVIOContext* io_ = nullptr;
  AVFormatContext* format_ = nullptr;
};

/// 16.16 and 2.30 fixed-point numbers that turn a picture upright; nullptr without.
const std::int32_t* display_matrix(const AVStream* stream);

/// Side data of a stream that says how to show it (brightness of the screen that it was graded on, sphere,
/// stereo), but for the display matrix.
void copy_presentation(const AVStream* from, AVStream* to);

inline Rational rational(AVRational value) {
  return value.den > 0 ? Rational{value.num, value.den} : Rational{};
}

/// The nearest fraction of 32-bit numbers.
AVRational av_rational(Rational value);

}  // namespace lithe::av
