#include "lithe/quantize/calibration.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "lithe/base/error.h"
#include "lithe/quantize/batches.h"

namespace lithe {

void Histogram::widen(int exponent) {
  while (exponent_ < exponent) {
    // Bins 2k and 2k + 1 of the old half-width become one; zero stays a border of bins.
    const at::Tensor merged = counts_.reshape({kBins / 2, 2}).sum(1);
    counts_ = at::zeros({kBins}, at::kDouble);
    counts_.narrow(0, kBins / 4, kBins / 2).copy_(merged);
    ++exponent_;
  }
}

void Histogram::add(const at::Tensor& x) {
  if (x.numel() == 0) return;
  const double reach = x.abs().max().item<double>();
  int exponent = -60;
  if (reach > 0) {
    std::frexp(reach, &exponent);  // reach < 2^exponent
    exponent = std::max(exponent, -60);
  }
  if (!counts_.defined()) {
    counts_ = at::zeros({kBins}, at::kDouble);
    exponent_ = exponent;
  }
  widen(exponent);
  // One plain pass: several times faster than at::histc, and elements may come in any order.
  const at::Tensor dense = x.is_non_overlapping_and_dense() ? x : x.contiguous();
  const float* first = dense.data_ptr<float>();
  const double edge = std::ldexp(1.0, exponent_), per_unit = static_cast<double>(kBins) / (2 * edge);
  std::vector<std::int64_t> fresh(static_cast<std::size_t>(kBins), 0);
  for (std::int64_t i = 0; i < dense.numel(); ++i)
    ++fresh[std::min(static_cast<std::size_t>((first[i] + edge) * per_unit), fresh.size() - 1)];
  double* counts = counts_.data_ptr<double>();
  for (std::size_t i = 0; i < fresh.size(); ++i) counts[i] += static_cast<double>(fresh[i]);
}

void Histogram::add(const Histogram& other) {
  if (!other.counts_.defined()) return;
  if (!counts_.defined()) {
    counts_ = other.counts_.clone();
    exponent_ = other.exponent_;
    return;
  }
  Histogram copy = other;
  widen(copy.exponent_);
  copy.widen(exponent_);
  counts_ = counts_ + copy.counts_;
}

at::Tensor Histogram::middles() const {
  const double width = std::ldexp(2.0, exponent_) / static_cast<double>(kBins);
  return (at::arange(kBins, at::kDouble) + 0.5) * width - std::ldexp(1.0, exponent_);
}

double Histogram::quantile(double q) const {
  if (!counts_.defined()) return 0;
  const at::Tensor sums = counts_.cumsum(0).contiguous();
  const double* first = sums.data_ptr<double>();
  const double wanted = q * first[kBins - 1];
  const auto bin = std::min<std::int64_t>(std::lower_bound(first, first + kBins, wanted) - first, kBins - 1);
  const double below = bin > 0 ? first[bin - 1] : 0, inside = first[bin] - below;
  const double width = std::ldexp(2.0, exponent_) / static_cast<double>(kBins);
  const double part = inside > 0 ? std::clamp((wanted - below) / inside, 0.0, 1.0) : 0.0;
  return (static_cast<double>(bin) + part) * width - std::ldexp(1.0, exponent_);
}

double Histogram::share_below(double x) const {
  if (!counts_.defined()) return 0;
  const double edge = std::ldexp(1.0, exponent_), width = 2 * edge / static_cast<double>(kBins);
  const double position = std::clamp((x + edge) / width, 0.0, static_cast<double>(kBins));
  const auto whole = static_cast<std::int64_t>(position);
  const double below = counts_.narrow(0, 0, whole).sum().item<double>();
  const double inside = whole < kBins ? counts_[whole].item<double>() : 0.0;
  return (below + (position - static_cast<double>(whole)) * inside) / counts_.sum().item<double>();
}

void ActivationStatistics::add(const at::Tensor& batch, const std::string& value) {
  if (batch.numel() == 0) return;
  const at::Tensor x = batch.detach().to(at::kCPU, at::kFloat);
  const double low = x.min().item<double>(), high = x.max().item<double>();
  if (!std::isfinite(low) || !std::isfinite(high))
    fail(
        "the model computes NaN or infinity at value '{}' on the calibration data; check preprocessing and "
        "weights",
        value);
  if (batches_ == 0) {
    low_ = low;
    high_ = high;
  } else if (options_.momentum > 0) {
    low_ = options_.momentum * low_ + (1 - options_.momentum) * low;
    high_ = options_.momentum * high_ + (1 - options_.momentum) * high;
  } else {
    low_ = std::min(low_, low);
    high_ = std::max(high_, high);
  }
  const auto half = static_cast<std::size_t>(batches_ % 2);
  half_low_[half] = std::min(half_low_[half], low);
  half_high_[half] = std::max(half_high_[half], high);
  ++batches_;
  if (options_.histogram) histogram_.add(x);
}

double ActivationStatistics::unevenness() const {
  if (batches_ < 2) return 1;
  const double first = half_high_[0] - half_low_[0], second = half_high_[1] - half_low_[1];
  const double wide = std::max(first, second), narrow = std::min(first, second);
  return wide > 0 ? wide / narrow : 1;
}

void ActivationStatistics::merge(const ActivationStatistics& other) {
  if (other.empty()) return;
  low_ = empty() ? other.low_ : std::min(low_, other.low_);
  high_ = empty() ? other.high_ : std::max(high_, other.high_);
  for (std::size_t half = 0; half < 2; ++half) {
    half_low_[half] = std::min(half_low_[half], other.half_low_[half]);
    half_high_[half] = std::max(half_high_[half], other.half_high_[half]);
  }
  batches_ += other.batches_;
  histogram_.add(other.histogram_);
}

Range choose_range(const ActivationStatistics& statistics, const RangeOptions& options, Scheme scheme,
                   const CodeRange& codes) {
  const auto scalar = [](double value) { return at::full({}, static_cast<float>(value)); };
  const double low = std::min(statistics.low(), 0.0), high = std::max(statistics.high(), 0.0);
  if (options.method == RangeMethod::MinMax) return {scalar(low), scalar(high)};
  const Histogram& histogram = statistics.histogram();
  if (options.method == RangeMethod::Percentile) {
    const double share = options.percentile / 100;
    return {scalar(std::clamp(histogram.quantile(1 - share), low, 0.0)),
            scalar(std::clamp(histogram.quantile(share), 0.0, high))};
  }
  const at::Tensor middles = histogram.middles();
  const at::Tensor& counts = histogram.counts();
  const at::Tensor used = counts > 0;
  const at::Tensor x = middles.masked_select(used), weight = counts.masked_select(used);
  Range best{scalar(low), scalar(high)};
  double least = -1;
  for (int i = 0; i < options.steps; ++i) {
    const double factor = 1 - 0.01 * i;
    const Range candidate{scalar(low * factor), scalar(high * factor)};
    const Quantizer quantizer = quantizer_for_range(candidate, scheme, codes);
    const at::Tensor error = (fake_quantize(quantizer, x) - x).abs_().pow_(kErrorExponent);
    const double loss = at::dot(error, weight).item<double>();
    if (least < 0 || loss < least) {
      least = loss;
      best = candidate;
    }
  }
  return best;
}

std::map<std::string, ActivationStatistics> calibrate(Executor& executor, const DatasetPtr& dataset,
                                                      const std::vector<std::string>& values,
                                                      const CalibrationOptions& options, Progress& progress) {
  std::map<std::string, ActivationStatistics> statistics;
  for (const std::string& value : values) statistics.emplace(value, options.statistics);
  const Observer observe = [&](const std::string& name, const at::Tensor& value) {
    const auto found = statistics.find(name);
    if (found == statistics.end()) return;
    if (!at::isFloatingType(value.scalar_type()))
      fail("value '{}' is no float tensor and cannot be quantised", name);
    found->second.add(value, name);
  };
  progress.start("calibrate", dataset->size());
  for_each_batch(executor.graph(), dataset, {.batch = options.batch, .threads = options.threads},
                 [&](const Feeds& feeds, std::int64_t samples) {
                   executor.run(feeds, {}, observe);
                   progress.advance(samples);
                 });
  progress.finish();
  for (const auto& [value, seen] : statistics)
    if (seen.empty()) fail("value '{}' was not computed on the calibration data", value);
  return statistics;
}

}  // namespace lithe
