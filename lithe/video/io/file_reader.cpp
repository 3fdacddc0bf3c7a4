#include "lithe/video/io/file_reader.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "lithe/base/error.h"
#include "lithe/video/io/decoder.h"
#include "lithe/video/io/frame_samples.h"
#include "lithe/video/io/orientation.h"

namespace lithe {
namespace fs = std::filesystem;
namespace {

std::int64_t duration_of(const AVFrame* picture) {
#if LIBAVUTIL_VERSION_INT >= AV_VERSION_INT(57, 30, 100)
  return picture->duration;
#else
  return picture->pkt_duration;
#endif
}

bool is_interlaced(const AVFrame* picture) {
#ifdef AV_FRAME_FLAG_INTERLACED
  return picture->flags & AV_FRAME_FLAG_INTERLACED;
#else
  return picture->interlaced_frame != 0;
#endif
}

/// `one` where it says something, else `other`.
VideoColour first_known(const VideoColour& one, const VideoColour& other) {
  VideoColour out = one;
  if (out.range == AVCOL_RANGE_UNSPECIFIED) out.range = other.range;
  if (out.matrix == AVCOL_SPC_UNSPECIFIED) out.matrix = other.matrix;
  if (out.primaries == AVCOL_PRI_UNSPECIFIED) out.primaries = other.primaries;
  if (out.transfer == AVCOL_TRC_UNSPECIFIED) out.transfer = other.transfer;
  if (out.siting == AVCHROMA_LOC_UNSPECIFIED) out.siting = other.siting;
  return out;
}

class FileReader : public VideoReader {
 public:
  FileReader(const fs::path& path, const ReadOptions& options)
      : path_(path), options_(options), decoder_(path, options.threads, options.accept_damage) {
    picture_ = decoder_.next();
    if (!picture_) fail("{}: there is no frame in it that decodes", path.string());
    describe();
    if (info_.alpha && !options_.drop_alpha && !alpha_decodes_)
      fail("{}: the video is transparent, which is lost; leave that out (--drop-alpha)", path.string());
  }

  bool read(Frame& frame) override {
    if (!advance()) return false;
    convert(frame);
    return true;
  }
  bool skip() override { return advance(); }
  std::optional<CopiedFile> copied_file() const override {
    const bool cut_end = options_.most >= 0;
    const double longest = cut_end ? static_cast<double>(options_.most) / info_.rate.value() : -1;
    return CopiedFile{path_, options_.start > 0, cut_end, longest, options_.accept_damage};
  }

 private:
  void describe() {
    const AVStream* stream = decoder_.stream();
    AVFormatContext* format = decoder_.file().get();
    const AVCodecParameters* p = stream->codecpar;
    const auto pixels = static_cast<AVPixelFormat>(picture_->format);
    const AVPixFmtDescriptor* description = av_pix_fmt_desc_get(pixels);
    if (const std::int32_t* matrix = av::display_matrix(stream))
      orientation_ = Orientation::from_matrix(matrix, path_.string());
    height_ = picture_->height;
    width_ = picture_->width;
    info_.height = orientation_.exchange ? width_ : height_;
    info_.width = orientation_.exchange ? height_ : width_;
    info_.rotation = orientation_.rotation();
    info_.mirrored = orientation_.mirrored();

    const AVRational average = stream->avg_frame_rate, base = stream->r_frame_rate;
    info_.time_unit = av::rational(stream->time_base);
    info_.variable_rate =
        average.num > 0 && base.num > 0 && std::abs(av_q2d(average) / av_q2d(base) - 1) > 1e-3;
    info_.rate =
        av::rational(info_.variable_rate ? average : av_guess_frame_rate(format, decoder_.stream(), nullptr));
    if (info_.rate.numerator <= 0) info_.rate = {25, 1};  // nothing in the file says; FFmpeg's own choice
    if (format->duration > 0) info_.seconds = static_cast<double>(format->duration) / AV_TIME_BASE;

    colour_ = av::colour_of(p);
    info_.colour = first_known(av::colour_of(picture_), colour_);
    colour_ = info_.colour;
    samples_.layout = av::sample_layout(pixels, height_, width_, colour_, path_.string());
    format_ = pixels;
    info_.bits = samples_.layout.bits[0];
    const AVDictionaryEntry* beside = av_dict_get(stream->metadata, "alpha_mode", nullptr, 0);
    alpha_decodes_ = !(beside && std::string(beside->value) == "1");
    info_.alpha = (description->flags & AV_PIX_FMT_FLAG_ALPHA) || !alpha_decodes_;
    info_.interlaced = is_interlaced(picture_) ||
                       (p->field_order != AV_FIELD_UNKNOWN && p->field_order != AV_FIELD_PROGRESSIVE);
    info_.codec = avcodec_get_name(p->codec_id);
    info_.pixel_format = description->name;
    info_.container = format->iformat->name;
    Rational aspect =
        av::rational(av_guess_sample_aspect_ratio(format, decoder_.stream(), const_cast<AVFrame*>(picture_)));
    if (orientation_.exchange && aspect.numerator > 0) std::swap(aspect.numerator, aspect.denominator);
    info_.sample_aspect = aspect;
    for (unsigned i = 0; i < format->nb_streams; ++i) {
      const AVMediaType type = format->streams[i]->codecpar->codec_type;
      if (format->streams[i] == stream) continue;
      (type == AVMEDIA_TYPE_AUDIO      ? info_.audio_streams
       : type == AVMEDIA_TYPE_SUBTITLE ? info_.subtitle_streams
                                       : info_.other_streams) += 1;
    }
  }

  /// The next picture of the file. The first one was decoded when it was opened.
  bool next() {
    if (fresh_)
      fresh_ = false;
    else
      picture_ = picture_ ? decoder_.next() : nullptr;
    if (!picture_) return false;
    ++number_;
    if (picture_->height != height_ || picture_->width != width_)
      fail("{}: frame {} has {}x{} pixels, those before {}x{}; cut the video there", path_.string(), number_,
           picture_->height, picture_->width, height_, width_);
    keep_time();
    return true;
  }

  void keep_time() {
    const Rational unit = av::rational(decoder_.stream()->time_base);
    const double usual = std::min(1 / (info_.rate.value() * unit.value()), 1e12);
    const std::int64_t step = std::max<std::int64_t>(std::llround(usual), 1);
    const std::int64_t duration = duration_of(picture_);
    std::int64_t ticks = picture_->best_effort_timestamp;
    const bool known = ticks != AV_NOPTS_VALUE && std::abs(ticks) < std::int64_t{1} << 53;
    if (number_ == 0 && !known) ticks = 0;
    // Frames without a time of their own follow at the usual distance; those that were rounded onto the one
    // before, as closely as can be told.
    if (number_ > 0 && !known) ticks = time_.ticks + step;
    if (number_ > 0 && ticks <= time_.ticks) ticks = time_.ticks + 1;
    time_ = {ticks, duration > 0 && duration < std::int64_t{1} << 53 ? duration : 0, unit};
  }

  bool advance() {
    if (options_.most >= 0 && taken_ >= options_.most) return false;
    while (number_ + 1 < options_.start)
      if (!next())
        fail("{}: reading is to begin at frame {}, but there are only {}", path_.string(), options_.start,
             number_ + 1);
    if (!next()) {
      if (taken_ == 0)
        fail("{}: reading is to begin at frame {}, but there are only {}", path_.string(), options_.start,
             number_ + 1);
      return false;
    }
    ++taken_;
    return true;
  }

  void convert(Frame& frame) {
    const auto pixels = static_cast<AVPixelFormat>(picture_->format);
    const VideoColour colour = first_known(av::colour_of(picture_), info_.colour);
    if (pixels != format_ || !(colour == colour_)) {
      samples_.layout = av::sample_layout(pixels, height_, width_, colour, path_.string());
      format_ = pixels;
      colour_ = colour;
    }
    if (!options_.drop_alpha && !av::is_opaque(picture_))
      fail("{}: frame {} is transparent in places, which is lost; leave that out (--drop-alpha)",
           path_.string(), number_);
    av::unpack(picture_, samples_);
    if (orientation_.upright()) {
      samples_to_frame(samples_, frame);
    } else {
      samples_to_frame(samples_, lying_);
      frame = oriented(lying_, orientation_);
    }
  }

  fs::path path_;
  ReadOptions options_;
  av::Decoder decoder_;
  const AVFrame* picture_ = nullptr;
  bool fresh_ = true, alpha_decodes_ = true;
  std::int64_t taken_ = 0;
  int height_ = 0, width_ = 0;  // as decoded
  Orientation orientation_;
  AVPixelFormat format_ = AV_PIX_FMT_NONE;
  VideoColour colour_;
  SamplePlanes samples_;
  Frame lying_;
};

}  // namespace

std::unique_ptr<VideoReader> open_video_file(const fs::path& path, const ReadOptions& options) {
  return std::make_unique<FileReader>(path, options);
}

}  // namespace lithe
