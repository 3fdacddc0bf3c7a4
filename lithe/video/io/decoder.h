// The pictures of a video file, one after the other. Internal to video/io.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <string>

#include "lithe/video/io/av.h"

namespace lithe::av {

class Decoder {
 public:
  /// Opens the best video stream of the file. Throws Error(Input) if there is none, this FFmpeg cannot decode
  /// it, or the file ends before what its header tells of.
  Decoder(const std::filesystem::path& path, int threads, bool accept_damage);

  /// The next picture, which stays valid until the next call; nullptr at the end. Throws Error(Input) with
  /// the number of the picture, from 0, if it is damaged (or of one close to it: decoders work ahead).
  const AVFrame* next();

  InputFile& file() { return file_; }
  AVStream* stream() const { return file_.stream(index_); }
  const AVCodec* codec() const { return codec_; }
  std::int64_t decoded() const { return decoded_; }

 private:
  void feed();
  void check_end() const;
  [[noreturn]] void refuse_damage(std::int64_t number, const std::string& why) const;
  InputFile file_;
  int index_ = -1;
  const AVCodec* codec_ = nullptr;
  std::atomic<int> errors_{0};  // that the decoder told of
  bool told_only_ = false;      // of damage, it says nothing else
  Codec context_;
  Packet packet_ = new_packet();
  Picture picture_ = new_picture();
  bool accept_damage_ = false, flushed_ = false;
  std::int64_t sent_ = 0, decoded_ = 0;
  double last_end_ = 0;  // seconds, of all streams
};

}  // namespace lithe::av
