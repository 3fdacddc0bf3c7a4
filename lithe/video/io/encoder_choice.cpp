// Which encoder and which pixel format a video is written with.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "lithe/base/error.h"
#include "lithe/video/io/encoder.h"
#include "lithe/video/io/frame_samples.h"

namespace lithe::av {
namespace {

std::string joined(const std::vector<std::string>& names) {
  return fmt::format("{}", fmt::join(names, ", "));
}

bool carries(const AVOutputFormat* container, const AVCodec* codec) {
  return avformat_query_codec(container, codec->id, FF_COMPLIANCE_UNOFFICIAL) != 0;
}

/// Of the encoders that people use, those that are there and the container can carry.
std::vector<std::string> usual_encoders(const AVOutputFormat* container) {
  constexpr std::array<const char*, 10> kUsual{"libx264",   "libx264rgb", "libx265", "libvpx-vp9",
                                               "libsvtav1", "libaom-av1", "ffv1",    "prores_ks",
                                               "mjpeg",     "mpeg4"};
  std::vector<std::string> names;
  for (const char* name : kUsual) {
    const AVCodec* codec = avcodec_find_encoder_by_name(name);
    if (codec && carries(container, codec)) names.emplace_back(name);
  }
  return names;
}

const AVCodec* find_encoder(const std::string& name) {
  if (const AVCodec* codec = avcodec_find_encoder_by_name(name.c_str())) return codec;
  const AVCodecDescriptor* descriptor = avcodec_descriptor_get_by_name(name.c_str());  // h264, vp9, ...
  return descriptor ? avcodec_find_encoder(descriptor->id) : nullptr;
}

bool is_rgb(const AVPixFmtDescriptor* format) {
  return format->flags & (AV_PIX_FMT_FLAG_RGB | AV_PIX_FMT_FLAG_PAL);
}

bool has(const std::vector<AVPixelFormat>& formats, AVPixelFormat format) {
  return std::find(formats.begin(), formats.end(), format) != formats.end();
}

AVPixelFormat nearest(const std::vector<AVPixelFormat>& formats, AVPixelFormat source) {
  AVPixelFormat best = AV_PIX_FMT_NONE;
  for (const AVPixelFormat format : formats)
    best = av_find_best_pix_fmt_of_2(best, format, source, 0, nullptr);
  return best;
}

/// Of formats of full range by name, the one that leaves the range open.
AVPixelFormat without_range(AVPixelFormat format) {
  switch (format) {
    case AV_PIX_FMT_YUVJ420P:
      return AV_PIX_FMT_YUV420P;
    case AV_PIX_FMT_YUVJ422P:
      return AV_PIX_FMT_YUV422P;
    case AV_PIX_FMT_YUVJ444P:
      return AV_PIX_FMT_YUV444P;
    case AV_PIX_FMT_YUVJ440P:
      return AV_PIX_FMT_YUV440P;
    default:
      return format;
  }
}

/// Grey videos and RGB have no subsampling that could be kept: they are written in 4:2:0, which every player
/// shows, or as RGB where the encoder is there to lose nothing.
AVPixelFormat for_rgb(const AVCodec* codec, const std::vector<AVPixelFormat>& formats, AVPixelFormat source,
                      int bits) {
  const auto any_rgb = std::any_of(formats.begin(), formats.end(),
                                   [](AVPixelFormat f) { return is_rgb(av_pix_fmt_desc_get(f)); });
  const AVCodecDescriptor* d = avcodec_descriptor_get(codec->id);
  const bool lossless = d && !(d->props & AV_CODEC_PROP_LOSSY);
  if (any_rgb && (lossless || std::string_view(codec->name) == "libx264rgb"))
    return nearest(formats, source != AV_PIX_FMT_NONE ? source
                            : bits > 8                ? AV_PIX_FMT_RGB48
                                                      : AV_PIX_FMT_RGB24);
  if (bits > 8 && has(formats, AV_PIX_FMT_YUV420P10)) return AV_PIX_FMT_YUV420P10;
  return nearest(formats, bits > 8 ? AV_PIX_FMT_YUV420P10 : AV_PIX_FMT_YUV420P);
}

/// Codecs that round odd sides up themselves.
bool takes_odd_sides(AVCodecID id) {
  return id == AV_CODEC_ID_VP8 || id == AV_CODEC_ID_VP9 || id == AV_CODEC_ID_AV1 || id == AV_CODEC_ID_FFV1 ||
         id == AV_CODEC_ID_MJPEG;
}

}  // namespace

std::vector<AVPixelFormat> pixel_formats(const AVCodec* codec) {
  const AVPixelFormat* all = nullptr;
#if LIBAVCODEC_VERSION_INT >= AV_VERSION_INT(61, 13, 100)
  const void* list = nullptr;
  if (avcodec_get_supported_config(nullptr, codec, AV_CODEC_CONFIG_PIX_FORMAT, 0, &list, nullptr) >= 0)
    all = static_cast<const AVPixelFormat*>(list);
#else
  all = codec->pix_fmts;
#endif
  std::vector<AVPixelFormat> out;
  for (; all && *all != AV_PIX_FMT_NONE; ++all)
    if (is_writable(*all) && without_range(*all) == *all) out.push_back(*all);
  return out;
}

const AVCodec* choose_encoder(const std::string& wanted, const AVOutputFormat* container,
                              const std::string& path) {
  const std::string_view format = container->name;
  std::string name = wanted;
  if (name.empty() && format == "webm") name = "libvpx-vp9";
  if (name.empty() && (format == "mp4" || format == "mov" || format == "matroska")) name = "libx264";
  const AVCodec* codec = name.empty() ? avcodec_find_encoder(container->video_codec) : find_encoder(name);
  const std::string there = joined(usual_encoders(container));
  if (!codec || codec->type != AVMEDIA_TYPE_VIDEO)
    fail("{}: this FFmpeg has no encoder {}; there are {} (--codec)", path, name.empty() ? "for it" : name,
         there);
  if (!carries(container, codec))
    fail("{}: {} files cannot carry what {} makes; there are {} (--codec), or write another kind of file",
         path, format, codec->name, there);
  if (pixel_formats(codec).empty())
    fail("{}: {} takes none of the pixel formats that frames can be turned into; there are {} (--codec)",
         path, codec->name, there);
  return codec;
}

AVPixelFormat choose_pixel_format(const AVCodec* codec, const WriteOptions& options, const VideoInfo& like,
                                  const std::string& path, std::vector<std::string>& notes) {
  const std::vector<AVPixelFormat> formats = pixel_formats(codec);
  const AVPixelFormat source =
      like.folder ? AV_PIX_FMT_NONE : without_range(av_get_pix_fmt(like.pixel_format.c_str()));
  const AVPixFmtDescriptor* described = av_pix_fmt_desc_get(source);
  AVPixelFormat chosen = AV_PIX_FMT_NONE;
  if (!options.pixel_format.empty()) {
    chosen = av_get_pix_fmt(options.pixel_format.c_str());
    if (!has(formats, chosen)) {
      std::vector<std::string> names;
      for (const AVPixelFormat format : formats) names.emplace_back(av_get_pix_fmt_name(format));
      fail("{}: {} cannot write the pixel format {}; it can {}", path, codec->name, options.pixel_format,
           joined(names));
    }
  } else if (!described || is_rgb(described) || described->nb_components < 3) {
    const bool usable = described && is_rgb(described) && !(described->flags & AV_PIX_FMT_FLAG_PAL);
    chosen = for_rgb(codec, formats, usable ? source : AV_PIX_FMT_NONE, like.bits);
  } else {
    chosen = nearest(formats, source);
  }
  const AVPixFmtDescriptor* d = av_pix_fmt_desc_get(chosen);
  const bool odd = (d->log2_chroma_w && like.width % 2) || (d->log2_chroma_h && like.height % 2);
  if (odd && !takes_odd_sides(codec->id)) {
    const AVPixelFormat full =
        nearest(formats, d->comp[0].depth > 8 ? AV_PIX_FMT_YUV444P10 : AV_PIX_FMT_YUV444P);
    const AVPixFmtDescriptor* f = av_pix_fmt_desc_get(full);
    if (f->log2_chroma_w || f->log2_chroma_h || !options.pixel_format.empty())
      fail(
          "{}: {} needs even sides for {}, not {}x{}; cut a row or column off, or choose another encoder "
          "(--codec)",
          path, codec->name, d->name, like.height, like.width);
    notes.push_back(fmt::format("written as {} instead of {}, which needs even sides and not {}x{}", f->name,
                                d->name, like.height, like.width));
    chosen = full;
  }
  const int depth = av_pix_fmt_desc_get(chosen)->comp[0].depth;
  if (depth < std::min(like.bits, 10))
    notes.push_back(fmt::format("written with {} bits a channel, the source has {}", depth, like.bits));
  return chosen;
}

}  // namespace lithe::av
