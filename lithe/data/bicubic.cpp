#include "lithe/data/bicubic.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "lithe/base/error.h"

namespace lithe {
namespace {

double cubic(double x) {
  const double a = std::abs(x), square = a * a, cube = square * a;
  if (a <= 1) return 1.5 * cube - 2.5 * square + 1;
  if (a <= 2) return -0.5 * cube + 2.5 * square - 4 * a + 2;
  return 0;
}

/// What one axis is made of: out[o] = sum over t of weights[o][t] in[first[o] + t].
struct Taps {
  std::int64_t most = 0;  // of one output
  std::vector<std::int64_t> first, count;
  std::vector<double> weights;  // [out, most]
};

Taps taps_of(std::int64_t in, std::int64_t out) {
  const double scale = static_cast<double>(out) / static_cast<double>(in);
  const double stretch = scale < 1 ? scale : 1;
  const double width = 4 / stretch;
  const auto most = static_cast<std::int64_t>(std::ceil(width)) + 2;
  const auto outputs = static_cast<std::size_t>(out), columns = static_cast<std::size_t>(most);
  Taps taps{.most = most,
            .first = std::vector<std::int64_t>(outputs),
            .count = std::vector<std::int64_t>(outputs),
            .weights = std::vector<double>(outputs * columns)};
  std::vector<double> row(columns);
  for (std::size_t o = 0; o < outputs; ++o) {
    const double centre = (static_cast<double>(o) + 0.5) / scale - 0.5;
    const auto begin = static_cast<std::int64_t>(std::floor(centre - width / 2 + 0.5));
    double sum = 0;
    for (std::size_t t = 0; t < columns; ++t)
      sum += row[t] =
          stretch * cubic(stretch * (centre - static_cast<double>(begin + static_cast<std::int64_t>(t))));
    // What lies beyond the border counts for the outermost pixel.
    const auto inside = [&](std::int64_t place) { return std::clamp<std::int64_t>(place, 0, in - 1); };
    taps.first[o] = inside(begin);
    taps.count[o] = inside(begin + most - 1) - taps.first[o] + 1;
    for (std::size_t t = 0; t < columns; ++t) {
      const std::int64_t place = inside(begin + static_cast<std::int64_t>(t)) - taps.first[o];
      taps.weights[o * columns + static_cast<std::size_t>(place)] += row[t] / sum;
    }
  }
  return taps;
}

/// Dense planes [count, height, width] of T, an axis of which is resized in double precision.
template <typename T, typename Finish>
at::Tensor resize_axis(const at::Tensor& planes, bool rows, std::int64_t size, const Finish& finish) {
  const std::int64_t height = planes.size(-2), width = planes.size(-1);
  std::vector<std::int64_t> shape = planes.sizes().vec();
  shape[shape.size() - (rows ? 2 : 1)] = size;
  at::Tensor out = at::empty(shape, planes.options());
  const Taps taps = taps_of(rows ? height : width, size);
  const T* from = planes.data_ptr<T>();
  T* to = out.data_ptr<T>();
  const std::int64_t lines = out.numel() / out.size(-1);
  std::vector<double> sums(static_cast<std::size_t>(width));
  for (std::int64_t line = 0; line < lines; ++line) {
    if (rows) {
      const std::int64_t o = line % size, plane = line / size;
      const double* weight = taps.weights.data() + o * taps.most;
      std::fill(sums.begin(), sums.end(), 0.0);
      for (std::int64_t t = 0; t < taps.count[static_cast<std::size_t>(o)]; ++t) {
        const T* row = from + (plane * height + taps.first[static_cast<std::size_t>(o)] + t) * width;
        for (std::int64_t x = 0; x < width; ++x)
          sums[static_cast<std::size_t>(x)] += weight[t] * static_cast<double>(row[x]);
      }
      for (std::int64_t x = 0; x < width; ++x)
        to[line * width + x] = static_cast<T>(finish(sums[static_cast<std::size_t>(x)]));
    } else {
      for (std::int64_t o = 0; o < size; ++o) {
        const double* weight = taps.weights.data() + o * taps.most;
        const T* row = from + line * width + taps.first[static_cast<std::size_t>(o)];
        double sum = 0;
        for (std::int64_t t = 0; t < taps.count[static_cast<std::size_t>(o)]; ++t)
          sum += weight[t] * static_cast<double>(row[t]);
        to[line * size + o] = static_cast<T>(finish(sum));
      }
    }
  }
  return out;
}

/// One axis after the other, the one that shrinks more first; `finish` is applied to each number after each.
template <typename T, typename Finish>
at::Tensor resize(const at::Tensor& planes, std::int64_t height, std::int64_t width, const Finish& finish) {
  if (planes.dim() < 2 || planes.size(-1) < 1 || planes.size(-2) < 1 || height < 1 || width < 1)
    fail("an image of {}x{} cannot be resized to {}x{}", planes.dim() < 2 ? 0 : planes.size(-2),
         planes.dim() < 1 ? 0 : planes.size(-1), height, width);
  at::Tensor out = planes.to(c10::CppTypeToScalarType<T>::value).contiguous();
  const auto rows = [&] {
    if (out.size(-2) != height) out = resize_axis<T>(out, true, height, finish);
  };
  const auto columns = [&] {
    if (out.size(-1) != width) out = resize_axis<T>(out, false, width, finish);
  };
  const double tall = static_cast<double>(height) / static_cast<double>(planes.size(-2)),
               wide = static_cast<double>(width) / static_cast<double>(planes.size(-1));
  if (tall <= wide) {
    rows();
    columns();
  } else {
    columns();
    rows();
  }
  return out;
}

}  // namespace

at::Tensor resize_bicubic(const at::Tensor& planes, std::int64_t height, std::int64_t width) {
  return resize<double>(planes, height, width, [](double x) { return x; });
}

at::Tensor resize_picture(const at::Tensor& picture, std::int64_t height, std::int64_t width) {
  // Halves go up, as in MATLAB's conversion to 8 bits; sums that should be a half may fall short of it.
  constexpr double kHalf = 0.5 + 1e-9;
  const auto as_byte = [](double x) { return std::floor(std::clamp(x, 0.0, 255.0) + kHalf); };
  const at::Tensor out = resize<float>(picture, height, width, as_byte);
  const bool same = out.size(-2) == picture.size(-2) && out.size(-1) == picture.size(-1);
  return same ? (out.clamp(0, 255) + 0.5).floor() : out;
}

}  // namespace lithe
