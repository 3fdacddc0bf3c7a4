#include "lithe/video/io/muxer.h"

#include "lithe/base/error.h"

namespace lithe::av {

const AVOutputFormat* container_of(const std::filesystem::path& path) {
  const AVOutputFormat* found = av_guess_format(nullptr, path.filename().c_str(), nullptr);
  if (!found || (found->flags & AVFMT_NOFILE) || found->video_codec == AV_CODEC_ID_NONE ||
      std::string(found->name).find("image2") != std::string::npos)
    fail(
        "{}: not the name of a video; use one that ends in .mp4, .mkv, .webm or .mov, or that of a folder "
        "for "
        "pictures",
        path.string());
  return found;
}

Muxer::Muxer(const std::filesystem::path& path) : name_(path.string()), file_(path) {
  hush();
  const std::string url = "file:" + file_.temporary().string();
  int code = avformat_alloc_output_context2(&format_, container_of(path), nullptr, url.c_str());
  if (code >= 0) code = avio_open(&format_->pb, url.c_str(), AVIO_FLAG_WRITE);
  if (code < 0) {
    avformat_free_context(format_);
    refuse(code, name_ + ": cannot write");
  }
}

Muxer::~Muxer() {
  avio_closep(&format_->pb);
  avformat_free_context(format_);
}

AVStream* Muxer::add_stream() {
  AVStream* stream = avformat_new_stream(format_, nullptr);
  if (!stream) fail_system("out of memory for a video");
  return stream;
}

void Muxer::check(int code) const {
  if (code >= 0 && format_->pb) code = format_->pb->error;
  if (code < 0) refuse(code, name_ + ": cannot write");
}

void Muxer::write_header() {
  check(avformat_write_header(format_, nullptr));
}

void Muxer::write(AVPacket* packet) {
  check(av_interleaved_write_frame(format_, packet));
}

void Muxer::finish() {
  check(av_write_trailer(format_));
  avio_flush(format_->pb);
  check(0);
  check(avio_closep(&format_->pb));
  file_.commit();
}

}  // namespace lithe::av
