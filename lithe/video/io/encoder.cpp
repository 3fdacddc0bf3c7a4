#include "lithe/video/io/encoder.h"

extern "C" {
#include <libavutil/opt.h>
}

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <string_view>

#include "lithe/base/error.h"
#include "lithe/video/io/frame_samples.h"

namespace lithe::av {
namespace {

bool is_lossless(const AVCodec* codec) {
  const AVCodecDescriptor* d = avcodec_descriptor_get(codec->id);
  return d && !(d->props & AV_CODEC_PROP_LOSSY);
}

/// CRF that hides the loss from the eye, on each encoder's own scale.
double default_crf(std::string_view encoder) {
  if (encoder.starts_with("libx264")) return 18;
  if (encoder == "libx265" || encoder == "libvpx-vp9") return 20;
  return 22;
}

/// What the written samples mean: as in the source, or, where that has RGB, as is usual.
VideoColour written_colour(const VideoInfo& like, AVPixelFormat format) {
  const AVPixFmtDescriptor* d = av_pix_fmt_desc_get(format);
  VideoColour out = like.colour;
  if (d->flags & AV_PIX_FMT_FLAG_RGB) {
    out.matrix = AVCOL_SPC_RGB;
    out.range = AVCOL_RANGE_JPEG;
    out.siting = AVCHROMA_LOC_UNSPECIFIED;
    return out;
  }
  const AVPixelFormat source = like.folder ? AV_PIX_FMT_RGB24 : av_get_pix_fmt(like.pixel_format.c_str());
  const AVPixFmtDescriptor* s = av_pix_fmt_desc_get(source);
  const bool from_yuv =
      s && !(s->flags & (AV_PIX_FMT_FLAG_RGB | AV_PIX_FMT_FLAG_PAL)) && s->nb_components >= 3;
  if (from_yuv) {
    if (like.pixel_format.starts_with("yuvj")) out.range = AVCOL_RANGE_JPEG;
    return out;
  }
  out.matrix = AVCOL_SPC_BT709;
  out.range = AVCOL_RANGE_MPEG;
  out.siting = AVCHROMA_LOC_LEFT;
  if (out.primaries == AVCOL_PRI_UNSPECIFIED) out.primaries = AVCOL_PRI_BT709;
  if (out.transfer == AVCOL_TRC_UNSPECIFIED) out.transfer = AVCOL_TRC_BT709;
  return out;
}

}  // namespace

Encoder::Encoder(const WriteOptions& options, const VideoInfo& like, const AVOutputFormat* container,
                 Rational time_unit, const std::string& path, std::vector<std::string>& notes)
    : path_(path), codec_(choose_encoder(options.codec, container, path)), context_(new_codec(codec_)) {
  const AVPixelFormat format = choose_pixel_format(codec_, options, like, path, notes);
  const VideoColour colour = written_colour(like, format);
  AVCodecContext* c = context_.get();
  c->height = like.height;
  c->width = like.width;
  c->pix_fmt = format;
  c->time_base = av_rational(time_unit);
  c->framerate = av_rational(like.rate);
  c->sample_aspect_ratio = av_rational(like.sample_aspect);
  c->color_range = static_cast<AVColorRange>(colour.range);
  c->colorspace = static_cast<AVColorSpace>(colour.matrix);
  c->color_primaries = static_cast<AVColorPrimaries>(colour.primaries);
  c->color_trc = static_cast<AVColorTransferCharacteristic>(colour.transfer);
  c->chroma_sample_location = static_cast<AVChromaLocation>(colour.siting);
  c->thread_count = options.threads;
  c->strict_std_compliance = FF_COMPLIANCE_UNOFFICIAL;  // MJPEG of limited range and the like
  if (container->flags & AVFMT_GLOBALHEADER) c->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
  if (std::strcmp(codec_->name, "libx265") == 0) av_opt_set(c->priv_data, "x265-params", "log-level=none", 0);
  if (codec_->id == AV_CODEC_ID_FFV1) {  // the version with checksums
    c->level = 3;
    av_opt_set(c->priv_data, "slicecrc", "1", 0);
  }
  set_quality(options);
  set_preset(options);
  samples_.layout = sample_layout(format, like.height, like.width, colour, path);
  const int code = avcodec_open2(c, codec_, nullptr);
  if (code < 0)
    refuse(code, fmt::format("{}: {} cannot encode {}x{} {}", path, codec_->name, like.height, like.width,
                             av_get_pix_fmt_name(format)));
}

void Encoder::set_quality(const WriteOptions& options) {
  AVCodecContext* c = context_.get();
  const bool given = options.quality >= 0;
  if (is_lossless(codec_)) {
    if (given) fail("{}: {} is lossless and takes no quality; leave --quality out", path_, codec_->name);
    return;
  }
  if (av_opt_find(c->priv_data, "crf", nullptr, 0, 0)) {
    c->bit_rate = 0;
    const double crf = given ? options.quality : default_crf(codec_->name);
    const double worst = codec_->id == AV_CODEC_ID_H264 || codec_->id == AV_CODEC_ID_HEVC ? 51 : 63;
    if (crf > worst || av_opt_set(c->priv_data, "crf", fmt::format("{}", crf).c_str(), 0) < 0)
      fail("{}: {} takes no quality (CRF) of {}; give one from 0 to {}, such as {}", path_, codec_->name, crf,
           worst, default_crf(codec_->name));
    return;
  }
  if (!given && codec_->id != AV_CODEC_ID_MJPEG && codec_->id != AV_CODEC_ID_MPEG4) return;
  c->flags |= AV_CODEC_FLAG_QSCALE;
  c->global_quality = static_cast<int>(FF_QP2LAMBDA * (given ? options.quality : 2));
}

void Encoder::set_preset(const WriteOptions& options) {
  AVCodecContext* c = context_.get();
  if (av_opt_find(c->priv_data, "row-mt", nullptr, 0, 0)) av_opt_set(c->priv_data, "row-mt", "1", 0);
  if (options.preset.empty()) return;
  for (const char* key : {"preset", "cpu-used"}) {
    if (!av_opt_find(c->priv_data, key, nullptr, 0, 0)) continue;
    if (av_opt_set(c->priv_data, key, options.preset.c_str(), 0) < 0)
      fail("{}: {} has no preset {}; {}", path_, codec_->name, options.preset,
           std::string_view(key) == "preset" ? "give one such as slow, or another that it knows"
                                             : "give a number such as 2");
    return;
  }
  fail("{}: {} has no presets; leave --preset out", path_, codec_->name);
}

void Encoder::send(const Frame& frame, std::int64_t time, std::int64_t duration) {
  Picture picture = new_picture();
  AVCodecContext* c = context_.get();
  picture->format = c->pix_fmt;
  picture->height = c->height;
  picture->width = c->width;
  picture->color_range = c->color_range;
  picture->colorspace = c->colorspace;
  picture->color_primaries = c->color_primaries;
  picture->color_trc = c->color_trc;
  picture->chroma_location = c->chroma_sample_location;
  picture->sample_aspect_ratio = c->sample_aspect_ratio;
  picture->pts = time;
#if LIBAVUTIL_VERSION_INT >= AV_VERSION_INT(57, 30, 100)
  picture->duration = duration;
#else
  picture->pkt_duration = duration;
#endif
  int code = av_frame_get_buffer(picture.get(), 0);
  if (code < 0) refuse(code, path_);
  for (const AVBufferRef* buffer : picture->buf)
    if (buffer) std::memset(buffer->data, 0, buffer->size);
  frame_to_samples(frame, samples_);
  pack(samples_, picture.get());
  code = avcodec_send_frame(c, picture.get());
  if (code < 0) refuse(code, path_ + ": the encoder failed");
}

void Encoder::send_end() {
  const int code = avcodec_send_frame(context_.get(), nullptr);
  if (code < 0 && code != AVERROR_EOF) refuse(code, path_ + ": the encoder failed");
}

bool Encoder::receive(AVPacket* packet) {
  const int code = avcodec_receive_packet(context_.get(), packet);
  if (code == AVERROR(EAGAIN) || code == AVERROR_EOF) return false;
  if (code < 0) refuse(code, path_ + ": the encoder failed");
  return true;
}

}  // namespace lithe::av
