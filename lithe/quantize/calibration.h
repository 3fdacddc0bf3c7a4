// What values the activations take on calibration data, in one pass and bounded memory.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "lithe/base/progress.h"
#include "lithe/data/dataset.h"
#include "lithe/engine/executor.h"
#include "lithe/quantize/quantizer.h"

namespace lithe {

/// Counts of values in equal bins over [-reach, reach), where reach is a power of two that grows with the
/// data: doubling it merges bins in pairs, so nothing that was counted has to be seen again, and two
/// histograms can be added exactly.
class Histogram {
 public:
  static constexpr std::int64_t kBins = 8192;

  /// `x` is float32 on the CPU and finite.
  void add(const at::Tensor& x);
  void add(const Histogram& other);
  /// The value below which the share `q` (0..1) of all counted values lies.
  double quantile(double q) const;
  /// The share of the counted values that lie below `x`; values spread evenly inside their bin.
  double share_below(double x) const;
  /// Middles of the bins and how many values fell into each, as float64 tensors [kBins].
  at::Tensor middles() const;
  const at::Tensor& counts() const { return counts_; }

 private:
  void widen(int exponent);
  int exponent_ = 0;   // reach = 2^exponent
  at::Tensor counts_;  // undefined while empty
};

/// What was seen of one value.
class ActivationStatistics {
 public:
  struct Options {
    bool histogram = false;
    /// Ranges are averaged over batches, r = momentum * r + (1 - momentum) * batch; 0: their union.
    double momentum = 0;
  };
  explicit ActivationStatistics(const Options& options) : options_(options) {}

  /// Throws Error(Input) naming `value` if the batch holds NaN or infinity.
  void add(const at::Tensor& batch, const std::string& value);
  /// As if both had seen what either saw; averaged ranges are united.
  void merge(const ActivationStatistics& other);

  bool empty() const { return batches_ == 0; }
  double low() const { return low_; }  // as the momentum says
  double high() const { return high_; }
  /// The extremes of all batches and 0.
  double lowest() const { return std::min(half_low_[0], half_low_[1]); }
  double highest() const { return std::max(half_high_[0], half_high_[1]); }
  /// How many times wider the range (with 0) of the one half of the batches is than that of the other, every
  /// second batch being one half; 1 for a single batch.
  double unevenness() const;
  const Histogram& histogram() const { return histogram_; }

 private:
  Options options_;
  std::int64_t batches_ = 0;
  double low_ = 0, high_ = 0;
  std::array<double, 2> half_low_{}, half_high_{};  // of even and odd batches, with 0
  Histogram histogram_;
};

struct RangeOptions {
  RangeMethod method = RangeMethod::Mse;
  double percentile = 99.99;  // share of the values, in percent, that stays inside on either side
  int steps = 80;             // of the search for the least error
};

/// The range to quantise with codes of that scheme: all that was seen, without outliers, or with the least
/// mean |x - x^|^2.4 over the histogram.
Range choose_range(const ActivationStatistics& statistics, const RangeOptions& options, Scheme scheme,
                   const CodeRange& codes);

struct CalibrationOptions {
  std::int64_t batch = 32;
  int threads = 2;  // that decode
  ActivationStatistics::Options statistics;
};

/// Runs the dataset through the graph and observes the named values.
/// Throws Error(Input) if the dataset is empty or does not fit the graph, or if a value is no float tensor.
std::map<std::string, ActivationStatistics> calibrate(Executor& executor, const DatasetPtr& dataset,
                                                      const std::vector<std::string>& values,
                                                      const CalibrationOptions& options, Progress& progress);

}  // namespace lithe
