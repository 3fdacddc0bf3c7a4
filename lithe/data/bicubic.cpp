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

/// The matrix [out, in] that resizes one axis.
at::Tensor weights_of(std::int64_t in, std::int64_t out) {
  const double scale = static_cast<double>(out) / static_cast<double>(in);
  const double stretch = scale < 1 ? scale : 1;
  const double width = 4 / stretch;
  const auto taps = static_cast<std::int64_t>(std::ceil(width)) + 2;
  at::Tensor matrix = at::zeros({out, in}, at::kDouble);
  double* cells = matrix.data_ptr<double>();
  std::vector<double> row(static_cast<std::size_t>(taps));
  for (std::int64_t o = 0; o < out; ++o) {
    const double centre = (static_cast<double>(o) + 0.5) / scale - 0.5;
    const auto first = static_cast<std::int64_t>(std::floor(centre - width / 2 + 0.5));
    double sum = 0;
    for (std::int64_t t = 0; t < taps; ++t)
      sum += row[static_cast<std::size_t>(t)] =
          stretch * cubic(stretch * (centre - static_cast<double>(first + t)));
    for (std::int64_t t = 0; t < taps; ++t)
      cells[o * in + std::clamp<std::int64_t>(first + t, 0, in - 1)] +=
          row[static_cast<std::size_t>(t)] / sum;
  }
  return matrix;
}

/// Resizes one axis after the other; `between` is applied after each.
template <typename Between>
at::Tensor resize(const at::Tensor& planes, std::int64_t height, std::int64_t width, const Between& between) {
  if (planes.dim() < 2 || planes.size(-1) < 1 || planes.size(-2) < 1 || height < 1 || width < 1)
    fail("an image of {}x{} cannot be resized to {}x{}", planes.dim() < 2 ? 0 : planes.size(-2),
         planes.dim() < 1 ? 0 : planes.size(-1), height, width);
  at::Tensor out = planes.to(at::kDouble);
  const auto rows = [&] {
    if (out.size(-2) != height) out = between(at::matmul(weights_of(out.size(-2), height), out));
  };
  const auto columns = [&] {
    if (out.size(-1) != width) out = between(at::matmul(out, weights_of(out.size(-1), width).t()));
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
  return resize(planes, height, width, [](at::Tensor x) { return x; });
}

at::Tensor resize_picture(const at::Tensor& picture, std::int64_t height, std::int64_t width) {
  // Halves go up, as in MATLAB's conversion to 8 bits; sums that should be a half may fall short of it.
  constexpr double kHalf = 0.5 + 1e-9;
  const auto as_bytes = [](const at::Tensor& x) { return (x.clamp(0, 255) + kHalf).floor(); };
  return as_bytes(resize(picture, height, width, as_bytes)).to(at::kFloat);
}

}  // namespace lithe
