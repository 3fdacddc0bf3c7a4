#include "lithe/video/io/frame_samples.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>

#include "lithe/base/error.h"

namespace lithe::av {
namespace {

struct Weights {
  double kr, kb;
};

/// ITU-T H.273, table 4.
std::optional<Weights> luma_weights(int matrix) {
  switch (matrix) {
    case AVCOL_SPC_BT709:
      return Weights{0.2126, 0.0722};
    case AVCOL_SPC_FCC:
      return Weights{0.30, 0.11};
    case AVCOL_SPC_BT470BG:
    case AVCOL_SPC_SMPTE170M:
      return Weights{0.299, 0.114};
    case AVCOL_SPC_SMPTE240M:
      return Weights{0.212, 0.087};
    case AVCOL_SPC_BT2020_NCL:
      return Weights{0.2627, 0.0593};
    default:
      return std::nullopt;
  }
}

/// FFmpeg passes on numbers from files that its enumerations do not have.
template <typename Enumeration>
int known(const Enumeration& value, int count, int unknown) {
  int number = 0;
  static_assert(sizeof(number) == sizeof(value));
  std::memcpy(&number, &value, sizeof(number));
  return number >= 0 && number < count ? number : unknown;
}

int assumed_matrix(int height, int width) {
  const bool high_definition = std::max(height, width) > 1024 || std::min(height, width) > 576;
  return high_definition ? AVCOL_SPC_BT709 : AVCOL_SPC_SMPTE170M;
}

/// Formats whose samples are always of full range, as the name says.
bool is_full_by_name(AVPixelFormat format) {
  return format == AV_PIX_FMT_YUVJ420P || format == AV_PIX_FMT_YUVJ422P || format == AV_PIX_FMT_YUVJ444P ||
         format == AV_PIX_FMT_YUVJ440P || format == AV_PIX_FMT_YUVJ411P;
}

/// Of R, G, B and alpha in a palette, which holds 32-bit numbers 0xAARRGGBB.
int palette_byte(int component) {
  constexpr std::array<int, 4> kLittle{2, 1, 0, 3};
  const int byte = kLittle[static_cast<std::size_t>(component)];
  return std::endian::native == std::endian::little ? byte : 3 - byte;
}

int colour_components(const AVPixFmtDescriptor* format) {
  if (format->flags & AV_PIX_FMT_FLAG_PAL) return 3;
  return format->nb_components - ((format->flags & AV_PIX_FMT_FLAG_ALPHA) ? 1 : 0);
}

}  // namespace

SampleLayout sample_layout(AVPixelFormat format, int height, int width, const VideoColour& colour,
                           const std::string& name) {
  const AVPixFmtDescriptor* d = av_pix_fmt_desc_get(format);
  constexpr std::uint64_t kStrange = AV_PIX_FMT_FLAG_HWACCEL | AV_PIX_FMT_FLAG_BAYER | AV_PIX_FMT_FLAG_FLOAT;
  const std::string pixels = d ? d->name : "unknown";
  const bool strange =
      !d || (d->flags & kStrange) || format == AV_PIX_FMT_MONOWHITE || pixels.starts_with("xyz");
  const int components = strange ? 0 : colour_components(d);
  if (components != 1 && components != 3)
    fail("{}: the pixel format {} cannot be converted; convert the video first", name, pixels);

  SampleLayout out;
  out.height = height;
  out.width = width;
  for (std::size_t c = 0; c < 3; ++c) {
    const bool palette = d->flags & AV_PIX_FMT_FLAG_PAL;
    out.bits[c] = palette ? 8 : d->comp[std::min<std::size_t>(c, components - 1)].depth;
    if (out.bits[c] > 16)
      fail("{}: the pixel format {} cannot be converted; convert the video first", name, pixels);
  }
  if (d->flags & (AV_PIX_FMT_FLAG_RGB | AV_PIX_FMT_FLAG_PAL)) {
    out.model = SampleModel::Rgb;
    return out;
  }
  out.model = components == 1 ? SampleModel::Grey : SampleModel::Yuv;
  out.full_range = is_full_by_name(format) || colour.range == AVCOL_RANGE_JPEG ||
                   (components == 1 && colour.range == AVCOL_RANGE_UNSPECIFIED);
  if (components == 1) return out;

  int matrix = colour.matrix;
  if (matrix == AVCOL_SPC_UNSPECIFIED || matrix == AVCOL_SPC_RESERVED || matrix == AVCOL_SPC_RGB)
    matrix = assumed_matrix(height, width);
  const auto weights = luma_weights(matrix);
  if (!weights) {
    const char* matrix_name = av_color_space_name(static_cast<AVColorSpace>(matrix));
    fail("{}: the colour matrix {} cannot be converted; convert the video first", name,
         matrix_name ? matrix_name : "unknown");
  }
  out.kr = weights->kr;
  out.kb = weights->kb;
  out.shrink_x = d->log2_chroma_w;
  out.shrink_y = d->log2_chroma_h;
  // 4:2:0 alone knows chroma in the centre; other formats have it on the first pixel of its row.
  const bool halved_both = out.shrink_x == 1 && out.shrink_y == 1;
  out.centred_x = halved_both && colour.siting == AVCHROMA_LOC_CENTER;
  out.centred_y = !(halved_both && colour.siting == AVCHROMA_LOC_TOPLEFT);
  return out;
}

bool is_writable(AVPixelFormat format) {
  const AVPixFmtDescriptor* d = av_pix_fmt_desc_get(format);
  constexpr std::uint64_t kRefused = AV_PIX_FMT_FLAG_HWACCEL | AV_PIX_FMT_FLAG_BAYER | AV_PIX_FMT_FLAG_FLOAT |
                                     AV_PIX_FMT_FLAG_PAL | AV_PIX_FMT_FLAG_BITSTREAM | AV_PIX_FMT_FLAG_ALPHA;
  if (!d || (d->flags & kRefused) || d->nb_components != 3) return false;
  for (int c = 0; c < 3; ++c)
    if (d->comp[c].depth < 8 || d->comp[c].depth > 16) return false;
  return d->log2_chroma_w <= 1 && d->log2_chroma_h <= 1 && !std::string(d->name).starts_with("xyz");
}

VideoColour colour_of(const AVFrame* picture) {
  return {known(picture->color_range, AVCOL_RANGE_NB, AVCOL_RANGE_UNSPECIFIED),
          known(picture->colorspace, AVCOL_SPC_NB, AVCOL_SPC_UNSPECIFIED),
          known(picture->color_primaries, AVCOL_PRI_NB, AVCOL_PRI_UNSPECIFIED),
          known(picture->color_trc, AVCOL_TRC_NB, AVCOL_TRC_UNSPECIFIED),
          known(picture->chroma_location, AVCHROMA_LOC_NB, AVCHROMA_LOC_UNSPECIFIED)};
}

VideoColour colour_of(const AVCodecParameters* parameters) {
  return {known(parameters->color_range, AVCOL_RANGE_NB, AVCOL_RANGE_UNSPECIFIED),
          known(parameters->color_space, AVCOL_SPC_NB, AVCOL_SPC_UNSPECIFIED),
          known(parameters->color_primaries, AVCOL_PRI_NB, AVCOL_PRI_UNSPECIFIED),
          known(parameters->color_trc, AVCOL_TRC_NB, AVCOL_TRC_UNSPECIFIED),
          known(parameters->chroma_location, AVCHROMA_LOC_NB, AVCHROMA_LOC_UNSPECIFIED)};
}

void unpack(const AVFrame* picture, SamplePlanes& samples) {
  const AVPixFmtDescriptor* d = av_pix_fmt_desc_get(static_cast<AVPixelFormat>(picture->format));
  const bool palette = d->flags & AV_PIX_FMT_FLAG_PAL;
  samples.resize();
  for (int c = 0; c < samples.layout.components(); ++c)
    for (int y = 0; y < samples.layout.rows(c); ++y)
      av_read_image_line2(samples.row(c, y), const_cast<const std::uint8_t**>(picture->data),
                          picture->linesize, d, 0, y, palette ? palette_byte(c) : c,
                          samples.layout.columns(c), palette, 2);
}

void pack(const SamplePlanes& samples, AVFrame* picture) {
  const AVPixFmtDescriptor* d = av_pix_fmt_desc_get(static_cast<AVPixelFormat>(picture->format));
  for (int c = 0; c < samples.layout.components(); ++c)
    for (int y = 0; y < samples.layout.rows(c); ++y)
      av_write_image_line2(samples.row(c, y), picture->data, picture->linesize, d, 0, y, c,
                           samples.layout.columns(c), 2);
}

bool is_opaque(const AVFrame* picture) {
  const AVPixFmtDescriptor* d = av_pix_fmt_desc_get(static_cast<AVPixelFormat>(picture->format));
  const bool palette = d->flags & AV_PIX_FMT_FLAG_PAL;
  if (!(d->flags & AV_PIX_FMT_FLAG_ALPHA) && !palette) return true;
  const int component = palette ? palette_byte(3) : d->nb_components - 1;
  const int top = palette ? 255 : (1 << d->comp[component].depth) - 1;
  std::vector<std::uint16_t> row(static_cast<std::size_t>(picture->width));
  for (int y = 0; y < picture->height; ++y) {
    av_read_image_line2(row.data(), const_cast<const std::uint8_t**>(picture->data), picture->linesize, d, 0,
                        y, component, picture->width, palette, 2);
    if (std::any_of(row.begin(), row.end(), [&](std::uint16_t alpha) { return alpha < top; })) return false;
  }
  return true;
}

}  // namespace lithe::av
