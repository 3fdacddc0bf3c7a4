// Frames in, packets out. Internal to video/io.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "lithe/video/io/av.h"
#include "lithe/video/io/sample_planes.h"
#include "lithe/video/io/writer.h"

namespace lithe::av {

/// Formats that the encoder takes and frames can be turned into.
std::vector<AVPixelFormat> pixel_formats(const AVCodec* codec);

/// The encoder asked for, or the usual one of the container. Throws Error(Input) naming those that are there
/// if it is not among them, or the container cannot carry what it makes.
const AVCodec* choose_encoder(const std::string& wanted, const AVOutputFormat* container,
                              const std::string& path);

/// The format asked for, or that of the source, or the nearest to it; says in `notes` what is lost.
AVPixelFormat choose_pixel_format(const AVCodec* codec, const WriteOptions& options, const VideoInfo& like,
                                  const std::string& path, std::vector<std::string>& notes);

class Encoder {
 public:
  /// `time_unit` is that of the times given to `send`. Throws Error(Input) if the encoder refuses the
  /// options.
  Encoder(const WriteOptions& options, const VideoInfo& like, const AVOutputFormat* container,
          Rational time_unit, const std::string& path, std::vector<std::string>& notes);

  /// `frame` has the size of `like`.
  void send(const Frame& frame, std::int64_t time, std::int64_t duration);
  /// No more frames come.
  void send_end();
  /// Whether there was a packet; its times are in the encoder's unit.
  bool receive(AVPacket* packet);
  const AVCodecContext* context() const { return context_.get(); }

 private:
  void set_quality(const WriteOptions& options);
  void set_preset(const WriteOptions& options);
  std::string path_;
  const AVCodec* codec_;
  Codec context_;
  SamplePlanes samples_;
};

}  // namespace lithe::av
