#include "lithe/quantize/quantizer.h"

#include <algorithm>
#include <limits>

#include "lithe/base/error.h"

namespace lithe {
namespace {

/// [channels, everything else], or [1, everything] for one scale.
at::Tensor by_channel(const at::Tensor& x, std::int64_t axis) {
  if (axis < 0) return x.reshape({1, -1});
  return x.transpose(0, axis).reshape({x.size(axis), -1});
}

at::Tensor as_scale_shape(const at::Tensor& per_row, std::int64_t axis) {
  return axis < 0 ? per_row.reshape({}) : per_row;
}

/// Keeps the best candidate range of each channel.
class Best {
 public:
  Best(const at::Tensor& rows, const Range& start, Scheme scheme, const CodeRange& codes)
      : rows_(rows), range_(start), scheme_(scheme), codes_(codes) {
    error_ = at::full_like(start.low, std::numeric_limits<float>::infinity());
  }

  void offer(const Range& candidate) {
    const Quantizer quantizer = quantizer_for_range(candidate, scheme_, codes_, 0);
    const at::Tensor error = quantization_error(quantizer, rows_);
    const at::Tensor better = error < error_;
    error_ = at::where(better, error, error_);
    range_.low = at::where(better, candidate.low, range_.low);
    range_.high = at::where(better, candidate.high, range_.high);
  }

  const Range& range() const { return range_; }

 private:
  at::Tensor rows_, error_;
  Range range_;
  Scheme scheme_;
  CodeRange codes_;
};

Range shrink_search(const at::Tensor& rows, Scheme scheme, const CodeRange& codes, int steps) {
  const Range full = min_max_range(rows, 0);
  Best best(rows, full, scheme, codes);
  for (int i = 0; i < steps; ++i) {
    const double factor = 1.0 - 0.01 * i;
    best.offer({full.low * factor, full.high * factor});
  }
  return best.range();
}

Range grid_search(const at::Tensor& rows, const CodeRange& codes) {
  constexpr int kWidths = 100;
  const Range full = min_max_range(rows, 0);
  Best best(rows, full, Scheme::Asymmetric, codes);
  const bool never_negative = rows.min().item<float>() >= 0, never_positive = rows.max().item<float>() <= 0;
  if (never_negative || never_positive) {
    const at::Tensor reach = at::maximum(full.low.neg(), full.high);
    for (int i = 1; i <= kWidths; ++i) {
      const at::Tensor threshold = reach / kWidths * i, none = at::zeros_like(threshold);
      best.offer(never_negative ? Range{none, threshold} : Range{threshold.neg(), none});
    }
    return best.range();
  }
  const at::Tensor width = full.high - full.low;
  for (int i = 1; i <= kWidths; ++i) {
    const at::Tensor span = width / kWidths * i, step = span / static_cast<double>(codes.high - codes.low);
    for (std::int64_t zero = 0; zero <= codes.high - codes.low; ++zero) {
      const at::Tensor low = step * static_cast<double>(-zero);
      best.offer({low, span + low});
    }
  }
  return best.range();
}

}  // namespace

CodeRange symmetric_codes(int bits, bool non_negative) {
  if (non_negative) return {0, std::min<std::int64_t>((std::int64_t{1} << bits) - 1, 127)};
  const std::int64_t half = std::int64_t{1} << (bits - 1);
  return {bits == 8 ? 1 - half : -half, half - 1};
}

Range min_max_range(const at::Tensor& x, std::int64_t axis) {
  if (x.numel() == 0) fail("a tensor without elements has no range to quantise");
  const at::Tensor rows = by_channel(x.detach().to(at::kFloat), axis);
  const at::Tensor zero = at::zeros({}, rows.options());
  return {as_scale_shape(at::minimum(rows.amin(1), zero), axis),
          as_scale_shape(at::maximum(rows.amax(1), zero), axis)};
}

Quantizer quantizer_for_range(const Range& range, Scheme scheme, const CodeRange& codes, std::int64_t axis) {
  const at::Tensor zero = at::zeros({}, range.low.options());
  const at::Tensor low = at::minimum(range.low, zero), high = at::maximum(range.high, zero);
  Quantizer quantizer{.codes = codes, .axis = axis};
  if (scheme == Scheme::Asymmetric) {
    quantizer.scale = at::clamp_min((high - low) / static_cast<double>(codes.high - codes.low), kLeastScale);
    quantizer.zero_point = at::clamp(codes.low - at::round(low / quantizer.scale), codes.low, codes.high);
    return quantizer;
  }
  quantizer.scale = high / static_cast<double>(codes.high);
  if (codes.low < 0) quantizer.scale = at::maximum(quantizer.scale, low / static_cast<double>(codes.low));
  quantizer.scale = at::clamp_min(quantizer.scale, kLeastScale);
  quantizer.zero_point = at::zeros_like(quantizer.scale);
  return quantizer;
}

Range search_mse_range(const at::Tensor& x, std::int64_t axis, Scheme scheme, const CodeRange& codes,
                       MseSearch search, int steps) {
  if (x.numel() == 0) fail("a tensor without elements has no range to quantise");
  const at::Tensor rows = by_channel(x.detach().to(at::kFloat), axis).contiguous();
  const bool grid = search == MseSearch::Grid && scheme == Scheme::Asymmetric && codes.high - codes.low < 16;
  const Range best = grid ? grid_search(rows, codes) : shrink_search(rows, scheme, codes, steps);
  return {as_scale_shape(best.low, axis), as_scale_shape(best.high, axis)};
}

at::Tensor quantization_error(const Quantizer& quantizer, const at::Tensor& x) {
  const at::Tensor error = (fake_quantize(quantizer, x) - x).abs_().pow_(kErrorExponent);
  return as_scale_shape(by_channel(error, quantizer.axis).mean(1), quantizer.axis);
}

at::Tensor along_axis(const at::Tensor& values, std::int64_t axis, std::int64_t rank) {
  if (axis < 0 || values.dim() == 0) return values;
  std::vector<std::int64_t> shape(static_cast<std::size_t>(rank), 1);
  shape[static_cast<std::size_t>(axis)] = values.numel();
  return values.reshape(shape);
}

at::Tensor encode(const Quantizer& quantizer, const at::Tensor& x) {
  const at::Tensor scale = along_axis(quantizer.scale, quantizer.axis, x.dim());
  const at::Tensor zero = along_axis(quantizer.zero_point, quantizer.axis, x.dim());
  return at::div(x, scale).round_().add_(zero).clamp_(quantizer.codes.low, quantizer.codes.high);
}

at::Tensor decode(const Quantizer& quantizer, const at::Tensor& codes) {
  const at::Tensor scale = along_axis(quantizer.scale, quantizer.axis, codes.dim());
  const at::Tensor zero = along_axis(quantizer.zero_point, quantizer.axis, codes.dim());
  return at::sub(codes, zero).mul_(scale);
}

}  // namespace lithe
