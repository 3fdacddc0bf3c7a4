#include "lithe/metrics/picture_score.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "lithe/base/error.h"
#include "lithe/graph/tensor_data.h"
#include "lithe/metrics/metrics.h"

namespace lithe {
namespace {

constexpr double kPeak = 255;
constexpr std::int64_t kBandPixels = std::int64_t{1} << 16;

double decibels(double squares, std::int64_t count) {
  if (squares == 0) return std::numeric_limits<double>::infinity();
  return 10 * std::log10(kPeak * kPeak * static_cast<double>(count) / squares);
}

double squares_of(const at::Tensor& difference) {
  return difference.square().sum().item<double>();
}

}  // namespace

PictureScore score_picture(const at::Tensor& picture, const at::Tensor& target, std::int64_t border) {
  if (picture.sizes() != target.sizes() || picture.dim() != 3)
    fail("scores: the pictures {} and {} differ in shape", format_shape(picture.sizes()),
         format_shape(target.sizes()));
  const at::Tensor a = shave(picture, border), b = shave(target, border);
  const bool colour = a.size(0) == 3;
  const auto luma_of = [colour](const at::Tensor& rows) { return colour ? luma_bt601(rows) : rows[0]; };
  const std::int64_t height = a.size(1), width = a.size(2);
  constexpr std::int64_t kOverlap = kSsimWindow - 1;
  const bool has_ssim = height > kOverlap && width > kOverlap;
  const std::int64_t step = std::max<std::int64_t>(2 * kOverlap, kBandPixels / width);
  double squares = 0, squares_y = 0, similarity = 0;
  for (std::int64_t top = 0; top < height; top += step) {
    const std::int64_t own = std::min(step, height - top);
    // Windows that begin in the band reach into the next one.
    const std::int64_t rows = std::min(own + (has_ssim ? kOverlap : 0), height - top);
    const at::Tensor x = a.narrow(1, top, rows).to(at::kDouble), y = b.narrow(1, top, rows).to(at::kDouble);
    const at::Tensor x_y = luma_of(x), y_y = luma_of(y);
    squares += squares_of(x.narrow(1, 0, own) - y.narrow(1, 0, own));
    squares_y += squares_of(x_y.narrow(0, 0, own) - y_y.narrow(0, 0, own));
    if (has_ssim && rows > kOverlap) similarity += ssim_map(x_y, y_y, kPeak).sum().item<double>();
  }
  PictureScore score{.psnr_y = decibels(squares_y, height * width), .psnr_rgb = decibels(squares, a.numel())};
  if (has_ssim) score.ssim_y = similarity / static_cast<double>((height - kOverlap) * (width - kOverlap));
  return score;
}

}  // namespace lithe
