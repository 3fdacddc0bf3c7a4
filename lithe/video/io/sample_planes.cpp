#include "lithe/video/io/sample_planes.h"

#include <algorithm>
#include <cmath>

namespace lithe {
namespace {

constexpr int kInterpolated = 64;  // what the weights of interpolation add up to
constexpr int kReadShift = 19, kWriteShift = 32;

std::int16_t clipped(std::int32_t value) {
  return static_cast<std::int16_t>(std::clamp(value, 0, kFrameMaximum));
}

int maximum(int bits) {
  return (1 << bits) - 1;
}

/// Of pixel x the two chroma samples around it and their weights, which add up to 2 << shrink.
struct Between {
  std::int32_t first, second, first_weight, second_weight;
};
Between between(int x, int shrink, bool centred, int samples) {
  const int step = 2 << shrink;
  const int place = 2 * x - (centred ? (1 << shrink) - 1 : 0);
  const int index = place >= 0 ? place / step : -1;
  const int second_weight = place - index * step;
  return {std::clamp(index, 0, samples - 1), std::clamp(index + 1, 0, samples - 1), step - second_weight,
          second_weight};
}

/// Chroma of every pixel of a row, times kInterpolated.
class ChromaRow {
 public:
  ChromaRow(const SampleLayout& layout) : layout_(layout), blended_(layout.columns(1)) {
    for (int x = 0; x < layout.width; ++x)
      columns_.push_back(between(x, layout.shrink_x, layout.centred_x, layout.columns(1)));
  }
  void at(const SamplePlanes& planes, int c, int y, std::vector<std::int32_t>& out) {
    const Between rows = between(y, layout_.shrink_y, layout_.centred_y, layout_.rows(c));
    const std::uint16_t *first = planes.row(c, rows.first), *second = planes.row(c, rows.second);
    for (std::size_t x = 0; x < blended_.size(); ++x)
      blended_[x] = first[x] * rows.first_weight + second[x] * rows.second_weight;
    const std::int32_t scale = kInterpolated >> (layout_.shrink_x + layout_.shrink_y + 2);
    for (std::size_t x = 0; x < columns_.size(); ++x) {
      const Between& b = columns_[x];
      out[x] = (blended_[static_cast<std::size_t>(b.first)] * b.first_weight +
                blended_[static_cast<std::size_t>(b.second)] * b.second_weight) *
               scale;
    }
  }

 private:
  const SampleLayout& layout_;
  std::vector<Between> columns_;
  std::vector<std::int32_t> blended_;
};

/// Values of any number of bits become those of 10, so that products fit 32 bits.
struct TenBits {
  int left = 0, right = 0, half = 0;
  explicit TenBits(int bits) {
    left = std::max(10 - bits, 0);
    right = std::max(bits - 10, 0);
    half = right > 0 ? 1 << (right - 1) : 0;
  }
  std::int32_t operator()(std::int32_t value) const { return ((value << left) + half) >> right; }
};

struct ReadFactors {
  std::int32_t black, grey;  // of Y and of chroma, as TenBits times kInterpolated
  std::int32_t y, red, blue, green_from_red, green_from_blue;
};

ReadFactors read_factors(const SampleLayout& layout) {
  const int bits = layout.bits[0];
  const double full = maximum(bits) * std::ldexp(1.0, 10 - bits);
  const double y_span = layout.full_range ? full : 219 * 4, c_span = layout.full_range ? full : 224 * 4;
  const double kr = layout.kr, kb = layout.kb, kg = 1 - kr - kb;
  const auto factor = [](double value, double span) {
    return static_cast<std::int32_t>(
        std::lround(value * kFrameMaximum / (span * kInterpolated) * (1 << kReadShift)));
  };
  return {layout.full_range ? 0 : 64 * kInterpolated,
          512 * kInterpolated,
          factor(1, y_span),
          factor(2 - 2 * kr, c_span),
          factor(2 - 2 * kb, c_span),
          factor(-kr * (2 - 2 * kr) / kg, c_span),
          factor(-kb * (2 - 2 * kb) / kg, c_span)};
}

void yuv_to_frame(const SamplePlanes& planes, Frame& frame) {
  const SampleLayout& layout = planes.layout;
  const ReadFactors k = read_factors(layout);
  const TenBits ten(layout.bits[0]);
  const bool coloured = layout.model == SampleModel::Yuv;
  ChromaRow chroma(layout);
  const auto width = static_cast<std::size_t>(layout.width);
  std::vector<std::int32_t> blue(width, k.grey), red(width, k.grey);
  constexpr std::int32_t kHalf = 1 << (kReadShift - 1);
  for (int y = 0; y < layout.height; ++y) {
    if (coloured) {
      chroma.at(planes, 1, y, blue);
      chroma.at(planes, 2, y, red);
      for (std::size_t x = 0; x < width; ++x) blue[x] = ten(blue[x]), red[x] = ten(red[x]);
    }
    const std::uint16_t* luma = planes.row(0, y);
    std::int16_t* out = frame.at(y, 0);
    for (std::size_t x = 0; x < width; ++x, out += 3) {
      const std::int32_t grey = (ten(luma[x] * kInterpolated) - k.black) * k.y + kHalf;
      const std::int32_t u = blue[x] - k.grey, v = red[x] - k.grey;
      out[0] = clipped((grey + v * k.red) >> kReadShift);
      out[1] = clipped((grey + v * k.green_from_red + u * k.green_from_blue) >> kReadShift);
      out[2] = clipped((grey + u * k.blue) >> kReadShift);
    }
  }
}

struct WriteFactors {
  std::int64_t r, g, b;
  std::int64_t offset;  // of black or of grey, with the half for rounding
};

WriteFactors write_factors(double r, double g, double b, double span, std::int64_t offset) {
  const auto factor = [&](double value) {
    return static_cast<std::int64_t>(
        std::llround(value * span / kFrameMaximum * std::ldexp(1.0, kWriteShift)));
  };
  return {factor(r), factor(g), factor(b), (offset << kWriteShift) + (std::int64_t{1} << (kWriteShift - 1))};
}

/// Pixels that a chroma sample averages, with weights that add up to 4.
struct Around {
  std::array<int, 3> place;
  std::array<int, 3> weight;
};
Around around(int sample, int shrink, bool centred, int pixels) {
  const int first = sample << shrink, last = pixels - 1;
  const int after = std::min(first + 1, last);
  if (shrink == 0) return {{first, first, first}, {0, 4, 0}};
  if (centred) return {{first, first, after}, {0, 2, 2}};
  return {{std::max(first - 1, 0), first, after}, {1, 2, 1}};
}

void frame_to_yuv(const Frame& frame, SamplePlanes& planes) {
  const SampleLayout& layout = planes.layout;
  const int bits = layout.bits[0], top = maximum(bits);
  const double kr = layout.kr, kb = layout.kb, kg = 1 - kr - kb;
  const double y_span = layout.full_range ? top : 219 << (bits - 8);
  const double c_span = (layout.full_range ? top : 224 << (bits - 8)) / 16.0;  // of sums over 16
  const std::int64_t black = layout.full_range ? 0 : 16 << (bits - 8), grey = std::int64_t{1} << (bits - 1);
  const std::array<WriteFactors, 3> factors{
      write_factors(kr, kg, kb, y_span, black),
      write_factors(-kr / (2 - 2 * kb), -kg / (2 - 2 * kb), 0.5, c_span, grey),
      write_factors(0.5, -kg / (2 - 2 * kr), -kb / (2 - 2 * kr), c_span, grey)};
  const auto sample = [&](const WriteFactors& k, std::int64_t r, std::int64_t g, std::int64_t b) {
    const std::int64_t value = (k.r * r + k.g * g + k.b * b + k.offset) >> kWriteShift;
    return static_cast<std::uint16_t>(std::clamp<std::int64_t>(value, 0, top));
  };
  for (int y = 0; y < layout.height; ++y) {
    std::uint16_t* luma = planes.row(0, y);
    const std::int16_t* pixel = frame.at(y, 0);
    for (int x = 0; x < layout.width; ++x, pixel += 3)
      luma[x] = sample(factors[0], pixel[0], pixel[1], pixel[2]);
  }
  std::vector<std::int32_t> sums(static_cast<std::size_t>(layout.width) * 3);
  for (int y = 0; y < layout.rows(1); ++y) {
    const Around rows = around(y, layout.shrink_y, layout.centred_y, layout.height);
    const std::int16_t *above = frame.at(rows.place[0], 0), *here = frame.at(rows.place[1], 0),
                       *below = frame.at(rows.place[2], 0);
    for (std::size_t i = 0; i < sums.size(); ++i)
      sums[i] = above[i] * rows.weight[0] + here[i] * rows.weight[1] + below[i] * rows.weight[2];
    std::uint16_t *blue = planes.row(1, y), *red = planes.row(2, y);
    for (int x = 0; x < layout.columns(1); ++x) {
      const Around columns = around(x, layout.shrink_x, layout.centred_x, layout.width);
      std::array<std::int64_t, 3> rgb{};
      for (std::size_t i = 0; i < 3; ++i)
        for (std::size_t c = 0; c < 3; ++c)
          rgb[c] +=
              std::int64_t{columns.weight[i]} * sums[static_cast<std::size_t>(columns.place[i]) * 3 + c];
      blue[x] = sample(factors[1], rgb[0], rgb[1], rgb[2]);
      red[x] = sample(factors[2], rgb[0], rgb[1], rgb[2]);
    }
  }
}

}  // namespace

void SamplePlanes::resize() {
  for (int c = 0; c < 3; ++c)
    planes[static_cast<std::size_t>(c)].resize(
        c < layout.components() ? static_cast<std::size_t>(layout.rows(c)) * layout.columns(c) : 0);
}

void samples_to_frame(const SamplePlanes& planes, Frame& frame) {
  const SampleLayout& layout = planes.layout;
  // Asked of the pixels too: a frame that was moved from keeps its sides.
  if (frame.height != layout.height || frame.width != layout.width ||
      frame.pixels.size() != 3 * static_cast<std::size_t>(layout.height) * layout.width)
    frame = Frame(layout.height, layout.width);
  if (layout.model != SampleModel::Rgb) {
    yuv_to_frame(planes, frame);
    return;
  }
  for (std::size_t c = 0; c < 3; ++c) {
    const std::uint32_t top = static_cast<std::uint32_t>(maximum(layout.bits[c]));
    const std::uint16_t* in = planes.planes[c].data();
    std::int16_t* out = frame.pixels.data() + c;
    for (std::size_t i = 0; i < planes.planes[c].size(); ++i, out += 3)
      *out = static_cast<std::int16_t>((std::min<std::uint32_t>(in[i], top) * kFrameMaximum + top / 2) / top);
  }
}

void frame_to_samples(const Frame& frame, SamplePlanes& planes) {
  planes.resize();
  if (planes.layout.model != SampleModel::Rgb) {
    frame_to_yuv(frame, planes);
    return;
  }
  for (std::size_t c = 0; c < 3; ++c) {
    const std::uint32_t top = static_cast<std::uint32_t>(maximum(planes.layout.bits[c]));
    const std::int16_t* in = frame.pixels.data() + c;
    for (std::uint16_t& out : planes.planes[c]) {
      out = static_cast<std::uint16_t>((static_cast<std::uint32_t>(*in) * top + kFrameMaximum / 2) /
                                       kFrameMaximum);
      in += 3;
    }
  }
}

}  // namespace lithe
