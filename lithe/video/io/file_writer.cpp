#include "lithe/video/io/file_writer.h"

extern "C" {
#include <libavutil/mathematics.h>
}

#include <algorithm>
#include <limits>
#include <numeric>

#include "lithe/base/error.h"
#include "lithe/video/io/copied_streams.h"
#include "lithe/video/io/encoder.h"
#include "lithe/video/io/muxer.h"

namespace lithe {
namespace fs = std::filesystem;
namespace {

constexpr AVRational kMicroseconds{1, AV_TIME_BASE};
constexpr std::int64_t kLatest = std::int64_t{1} << 50;  // microseconds: some 35 years

/// MPEG-1, 2 and 4 count frames, not time.
bool counts_frames(const AVCodec* codec) {
  return codec->id == AV_CODEC_ID_MPEG1VIDEO || codec->id == AV_CODEC_ID_MPEG2VIDEO ||
         codec->id == AV_CODEC_ID_MPEG4;
}

/// The unit of written times. Where the source counts too coarsely for its rate, as Matroska does with
/// milliseconds, one that holds both its times and those that the rate asks for.
Rational written_unit(const VideoInfo& like, const AVCodec* codec) {
  const Rational frame{like.rate.denominator, like.rate.numerator}, unit = like.time_unit;
  if (unit.numerator <= 0 || unit.denominator <= 0 || counts_frames(codec)) return frame;
  if (like.variable_rate) return unit;
  std::int64_t above = 0, below = 0;
  if (__builtin_mul_overflow(frame.denominator, unit.denominator, &below) ||
      std::max(frame.numerator, unit.numerator) > INT32_MAX ||
      std::max(frame.denominator, unit.denominator) > INT32_MAX)
    return unit;
  above = std::gcd(frame.numerator * unit.denominator, unit.numerator * frame.denominator);
  const std::int64_t common = std::gcd(above, below);
  above /= common, below /= common;
  return above <= INT32_MAX && below <= INT32_MAX ? Rational{above, below} : unit;
}

class FileWriter : public VideoWriter {
 public:
  FileWriter(const fs::path& path, const WriteOptions& options, const VideoInfo& like,
             const std::optional<CopiedFile>& copied)
      : like_(like),
        container_(av::container_of(path)),
        unit_(av::av_rational(
            written_unit(like, av::choose_encoder(options.codec, container_, path.string())))),
        muxer_(path),
        encoder_object_(options, like, container_, av::rational(unit_), path.string(), notes_) {
    video_ = muxer_.add_stream();
    const int code = avcodec_parameters_from_context(video_->codecpar, encoder_object_.context());
    if (code < 0) av::refuse(code, path.string());
    video_->time_base = unit_;
    if (!like.variable_rate) video_->avg_frame_rate = encoder_object_.context()->framerate;
    video_->sample_aspect_ratio = encoder_object_.context()->sample_aspect_ratio;
    const std::string container = container_->name;
    if (video_->codecpar->codec_id == AV_CODEC_ID_HEVC && (container == "mp4" || container == "mov"))
      video_->codecpar->codec_tag = MKTAG('h', 'v', 'c', '1');  // the one that every player takes
    if (copied) {
      copied_.emplace(*copied, muxer_, notes_);
      copied_->describe_video(video_);
      cut_start_ = copied->cut_start;
    }
    if (like.interlaced) notes_.emplace_back("the source is interlaced; it is written as whole frames");
    encoder_ = encoder_object_.context()->codec->name;
    pixel_format_ = av_get_pix_fmt_name(encoder_object_.context()->pix_fmt);
  }

  void write(const Frame& frame, const FrameTime& time, const std::string&) override {
    if (frame.height != like_.height || frame.width != like_.width)
      fail("{}: a frame has {}x{} pixels, the video {}x{}", muxer_.name(), frame.height, frame.width,
           like_.height, like_.width);
    const std::int64_t at = placed(time);
    if (written_ > 0 && at <= last_)
      fail("{}: the time of frame {} ({:.6f} s) does not come after that of the one before", muxer_.name(),
           written_, time.seconds());
    const AVRational unit = time.unit.numerator > 0 ? av::av_rational(time.unit) : unit_;
    const std::int64_t usual = av_rescale_q(1, av_inv_q(av::av_rational(like_.rate)), unit_);
    const std::int64_t own = time.duration > 0 ? av_rescale_q(time.duration, unit, unit_) : 0;
    duration_ = std::max<std::int64_t>(own > 0 ? own : usual, 1);
    encoder_object_.send(frame, at, duration_);
    last_ = at;
    ++written_;
    drain();
  }

  void finish() override {
    if (written_ == 0) fail("{}: no frame was written", muxer_.name());
    encoder_object_.send_end();
    drain();
    if (copied_) copied_->finish(av_rescale_q(last_ + duration_, unit_, kMicroseconds));
    muxer_.finish();
  }

 private:
  /// When the frame is shown, in unit_, from the beginning of the written file.
  std::int64_t placed(const FrameTime& time) {
    const AVRational unit = time.unit.numerator > 0 ? av::av_rational(time.unit) : unit_;
    if (written_ == 0) begin(time, unit);
    std::int64_t since_first = av_rescale_q(time.ticks - first_ticks_, unit, unit_);
    if (since_first < 0) return -1;  // too large to count, too
    if (!like_.variable_rate) {
      // Times that were rounded to a coarse unit go back to where the rate has them.
      const AVRational frame = av_inv_q(av::av_rational(like_.rate));
      const std::int64_t number = av_rescale_q(time.ticks - first_ticks_, unit, frame);
      const std::int64_t exact = av_rescale_q(number, frame, unit_);
      if (std::abs(exact - since_first) <= av_rescale_q(1, unit, unit_)) since_first = exact;
    }
    return offset_ + since_first;
  }

  void begin(const FrameTime& time, AVRational unit) {
    first_ticks_ = time.ticks;
    std::int64_t zero = std::clamp(av_rescale_q(time.ticks, unit, kMicroseconds), -kLatest, kLatest);
    if (copied_ && !cut_start_ && copied_->start() < zero) {
      offset_ = av_rescale_q(zero - copied_->start(), kMicroseconds, unit_);
      zero = copied_->start();
    }
    if (copied_) copied_->begin(zero);
    muxer_.write_header();
  }

  void drain() {
    while (encoder_object_.receive(packet_.get())) {
      packet_->stream_index = video_->index;
      if (packet_->duration <= 0) packet_->duration = duration_;
      if (copied_) copied_->copy_until(av_rescale_q(packet_->dts, unit_, kMicroseconds));
      av_packet_rescale_ts(packet_.get(), unit_, video_->time_base);
      muxer_.write(packet_.get());
    }
  }

  VideoInfo like_;
  const AVOutputFormat* container_;
  AVRational unit_;
  av::Muxer muxer_;
  av::Encoder encoder_object_;
  std::optional<av::CopiedStreams> copied_;
  AVStream* video_ = nullptr;
  av::Packet packet_ = av::new_packet();
  bool cut_start_ = false;
  std::int64_t first_ticks_ = 0, offset_ = 0, last_ = 0, duration_ = 1, written_ = 0;
};

}  // namespace

std::unique_ptr<VideoWriter> create_video_file(const fs::path& path, const WriteOptions& options,
                                               const VideoInfo& like,
                                               const std::optional<CopiedFile>& copied) {
  return std::make_unique<FileWriter>(path, options, like, copied);
}

}  // namespace lithe
