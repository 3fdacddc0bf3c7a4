// Writing videos frame by frame: files of the usual containers, and folders of pictures.
//
//   const auto out = VideoWriter::create("out.mp4", {}, in->info(), in->copied_file());
//   while (in->read(frame)) out->write(frame, in->time());
//   out->finish();
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lithe/video/frame.h"
#include "lithe/video/io/reader.h"
#include "lithe/video/io/video_info.h"

namespace lithe {

struct WriteOptions {
  std::string codec;  // an encoder of FFmpeg; "": libx264, in WebM libvpx-vp9; folders: png, jpg, tif or bmp
  double quality =
      -1;  // CRF of the encoder (JPEG: 0..100); lower is better but for JPEG; -1: nearly lossless to the eye
  std::string pixel_format;  // "": that of the source where the encoder has it, else the nearest
  std::string preset;        // of the encoder, such as slow; cpu-used for libvpx
  int threads = 0;           // of the encoder; 0: as many as it likes
};

class VideoWriter {
 public:
  /// A folder where `path` ends in / or has no extension or is an existing folder, else a file. `like` says
  /// size, rate, bits and colour of what will be written, most often VideoReader::info of the source; of
  /// `copied` every stream but the video goes along unchanged, and so do chapters and tags. 10 bits stay 10
  /// bits where the encoder has them; with an odd side, chroma is not subsampled in codecs that cannot.
  /// Pictures have 16 bits if the source has more than 8.
  ///
  /// Throws Error(Input) if the encoder or the container is unknown or they do not go together, the folder
  /// above `path` is missing, or a folder holds files already; frames of another size than `like` are refused
  /// by write.
  static std::unique_ptr<VideoWriter> create(const std::filesystem::path& path, const WriteOptions& options,
                                             const VideoInfo& like,
                                             const std::optional<CopiedFile>& copied = std::nullopt);
  /// Without `finish`, nothing remains.
  virtual ~VideoWriter() = default;

  /// Times must rise, and are on the clock of the file that is copied from; they are kept exactly where the
  /// container can (Matroska and WebM count milliseconds). `name`: of the picture, for folders; its extension
  /// is replaced. Without: frame_000000 and so on. Throws Error(System) if the disk is full.
  virtual void write(const Frame& frame, const FrameTime& time, const std::string& name = "") = 0;
  /// Writes what is left, and gives the file or folder its name: it appears whole or not at all. Throws
  /// Error(Input) if no frame was written.
  virtual void finish() = 0;

  /// What the reader of the result should know, such as streams that the container cannot carry.
  const std::vector<std::string>& notes() const { return notes_; }
  /// The encoder and the pixel format that were chosen.
  const std::string& encoder() const { return encoder_; }
  const std::string& pixel_format() const { return pixel_format_; }

 protected:
  std::vector<std::string> notes_;
  std::string encoder_, pixel_format_;
};

}  // namespace lithe
