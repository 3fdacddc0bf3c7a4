#include "lithe/metrics/metrics.h"

#include <cmath>
#include <limits>
#include <vector>

#include "lithe/base/error.h"
#include "lithe/graph/tensor_data.h"

namespace lithe {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

void check_same_shape(const at::Tensor& a, const at::Tensor& b, const char* what) {
  if (a.sizes() != b.sizes())
    fail("{}: the shapes {} and {} differ", what, format_shape(a.sizes()), format_shape(b.sizes()));
}

void check_scores(const at::Tensor& scores, const at::Tensor& labels) {
  if (scores.dim() != 2 || labels.dim() != 1 || scores.size(0) != labels.size(0) || scores.size(1) < 1)
    fail("scores {} and labels {} do not fit; expected [n, classes] and [n]", format_shape(scores.sizes()),
         format_shape(labels.sizes()));
  if (labels.numel() == 0) return;
  const std::int64_t lowest = labels.min().item<std::int64_t>(), highest = labels.max().item<std::int64_t>();
  if (lowest < 0 || highest >= scores.size(1))
    fail("label {} does not fit a model of {} classes; see label_offset in the description of the data",
         lowest < 0 ? lowest : highest, scores.size(1));
}

at::Tensor doubles(const at::Tensor& tensor) {
  return tensor.detach().to(at::kCPU, at::kDouble).contiguous();
}

double decibels(double signal, double noise) {
  if (std::isnan(signal) || std::isnan(noise)) return std::numeric_limits<double>::quiet_NaN();
  return noise == 0 ? kInfinity : 10.0 * std::log10(signal / noise);
}

/// The mean of each 11x11 window under a Gaussian of sigma 1.5, where it fits: [c, h, w] -> [c, h-10, w-10].
at::Tensor window_mean(const at::Tensor& planes) {
  constexpr std::int64_t kSize = kSsimWindow, kCentre = kSize / 2;
  constexpr double kSigma = 1.5;
  at::Tensor weights = at::empty({kSize}, at::kDouble);
  double* values = weights.data_ptr<double>();
  for (std::int64_t i = 0; i < kSize; ++i) {
    const double x = static_cast<double>(i - kCentre);
    values[i] = std::exp(-x * x / (2 * kSigma * kSigma));
  }
  weights = weights / weights.sum();
  const at::Tensor rows = at::conv2d(planes.unsqueeze(1), weights.reshape({1, 1, kSize, 1}));
  return at::conv2d(rows, weights.reshape({1, 1, 1, kSize})).squeeze(1);
}

}  // namespace

std::int64_t count_top_k(const at::Tensor& scores, const at::Tensor& labels, std::int64_t k) {
  check_scores(scores, labels);
  const at::Tensor wide = doubles(scores), numbers = labels.cpu().contiguous();
  const std::int64_t n = wide.size(0), classes = wide.size(1);
  const double* row = wide.data_ptr<double>();
  const std::int64_t* label = numbers.data_ptr<std::int64_t>();
  std::int64_t hits = 0;
  for (std::int64_t i = 0; i < n; ++i, row += classes) {
    // Counting the better ones is exact about ties, which a partial sort is not.
    const std::int64_t wanted = label[i];
    std::int64_t better = 0;
    bool valid = true;
    for (std::int64_t c = 0; c < classes; ++c) {
      valid = valid && !std::isnan(row[c]);
      better += row[c] > row[wanted] || (row[c] == row[wanted] && c < wanted);
    }
    hits += valid && better < k;
  }
  return hits;
}

double cross_entropy_sum(const at::Tensor& logits, const at::Tensor& labels, bool probabilities) {
  check_scores(logits, labels);
  const at::Tensor wide = doubles(logits);
  const at::Tensor log_p = probabilities ? wide.clamp_min(1e-38).log() : at::log_softmax(wide, 1);
  return -log_p.gather(1, labels.cpu().unsqueeze(1)).sum().item<double>();
}

double psnr(const at::Tensor& image, const at::Tensor& reference, double peak) {
  check_same_shape(image, reference, "PSNR");
  const double mse = (doubles(image) - doubles(reference)).square().mean().item<double>();
  return decibels(peak * peak, mse);
}

at::Tensor ssim_map(const at::Tensor& image, const at::Tensor& reference, double peak) {
  check_same_shape(image, reference, "SSIM");
  if (image.dim() < 2 || image.dim() > 3)
    fail("SSIM: expected [h, w] or [c, h, w], got {}", format_shape(image.sizes()));
  const at::Tensor x = image.dim() == 2 ? doubles(image).unsqueeze(0) : doubles(image);
  const at::Tensor y = image.dim() == 2 ? doubles(reference).unsqueeze(0) : doubles(reference);
  if (x.size(1) < kSsimWindow || x.size(2) < kSsimWindow)
    fail("SSIM: {} is smaller than the window of 11x11", format_shape(image.sizes()));
  const double c1 = std::pow(0.01 * peak, 2), c2 = std::pow(0.03 * peak, 2);
  const at::Tensor mean_x = window_mean(x), mean_y = window_mean(y);
  const at::Tensor var_x = window_mean(x * x) - mean_x.square();
  const at::Tensor var_y = window_mean(y * y) - mean_y.square();
  const at::Tensor covariance = window_mean(x * y) - mean_x * mean_y;
  return ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) /
         ((mean_x.square() + mean_y.square() + c1) * (var_x + var_y + c2));
}

double ssim(const at::Tensor& image, const at::Tensor& reference, double peak) {
  return ssim_map(image, reference, peak).mean().item<double>();
}

at::Tensor luma_bt601(const at::Tensor& rgb) {
  if (rgb.dim() != 3 || rgb.size(0) != 3)
    fail("luma: expected an RGB image [3, h, w], got {}", format_shape(rgb.sizes()));
  const at::Tensor wide = doubles(rgb);
  return 16.0 + (65.481 * wide[0] + 128.553 * wide[1] + 24.966 * wide[2]) / 255.0;
}

at::Tensor shave(const at::Tensor& image, std::int64_t pixels) {
  if (pixels < 0 || image.dim() < 2 || image.size(-2) <= 2 * pixels || image.size(-1) <= 2 * pixels)
    fail("a border of {} pixels cannot be taken from an image {}", pixels, format_shape(image.sizes()));
  return image.narrow(-2, pixels, image.size(-2) - 2 * pixels)
      .narrow(-1, pixels, image.size(-1) - 2 * pixels);
}

double sqnr_db(const at::Tensor& reference, const at::Tensor& value) {
  check_same_shape(reference, value, "SQNR");
  const at::Tensor wide = doubles(reference);
  return decibels(wide.square().sum().item<double>(), (wide - doubles(value)).square().sum().item<double>());
}

Difference difference(const at::Tensor& value, const at::Tensor& reference) {
  check_same_shape(value, reference, "difference");
  Difference out;
  const at::Tensor a_tensor = doubles(value), b_tensor = doubles(reference);
  const double *a = a_tensor.data_ptr<double>(), *b = b_tensor.data_ptr<double>();
  const std::int64_t count = a_tensor.numel();
  double largest = 0, sum = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    if (a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i]))) {
      if (std::isfinite(b[i])) largest = std::max(largest, std::abs(b[i]));
      continue;
    }
    if (!std::isfinite(a[i]) || !std::isfinite(b[i])) {
      out.finite = false;
      continue;
    }
    const double gap = std::abs(a[i] - b[i]);
    out.max_abs = std::max(out.max_abs, gap);
    largest = std::max(largest, std::abs(b[i]));
    sum += gap;
  }
  if (!out.finite) out.max_abs = kInfinity;
  out.mean_abs = count > 0 ? (out.finite ? sum / static_cast<double>(count) : kInfinity) : 0;
  if (out.max_abs > 0) out.max_rel = largest > 0 ? out.max_abs / largest : kInfinity;
  return out;
}

double argmax_agreement(const at::Tensor& value, const at::Tensor& reference) {
  check_same_shape(value, reference, "argmax agreement");
  if (value.dim() == 0 || value.numel() == 0)
    fail("argmax agreement: {} holds no rows", format_shape(value.sizes()));
  const at::Tensor a = doubles(value).reshape({-1, value.size(-1)});
  const at::Tensor b = doubles(reference).reshape({-1, value.size(-1)});
  const double *x = a.data_ptr<double>(), *y = b.data_ptr<double>();
  const std::int64_t rows = a.size(0), width = a.size(1);
  const auto first_largest = [width](const double* row) {
    std::int64_t best = 0;
    for (std::int64_t i = 1; i < width; ++i)
      if (row[i] > row[best]) best = i;
    return best;
  };
  std::int64_t equal = 0;
  for (std::int64_t i = 0; i < rows; ++i)
    equal += first_largest(x + i * width) == first_largest(y + i * width);
  return static_cast<double>(equal) / static_cast<double>(rows);
}

}  // namespace lithe
