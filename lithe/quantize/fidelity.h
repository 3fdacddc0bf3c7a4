// How far a rewritten graph is from the one it came from.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "lithe/base/progress.h"
#include "lithe/data/dataset.h"
#include "lithe/engine/executor.h"

namespace lithe {

/// Runs a few samples through the original model once, and compares rewritten graphs with it.
class RewriteGuard {
 public:
  /// Uses the first samples of `data`, one if they are larger than pictures of 256x256; without data nothing
  /// is checked.
  RewriteGuard(const Graph& original, const DatasetPtr& data, std::int64_t samples = 8);
  /// Throws Error(Input) naming `pass` and the output if an output differs from the original by more than
  /// `tolerance` times its largest absolute value.
  void check(const Graph& rewritten, const std::string& pass, double tolerance) const;

 private:
  Feeds feeds_, wanted_;
};

struct SqnrOptions {
  std::int64_t samples = 64;
  std::int64_t batch = 8;  // whose observed values are all in memory at once
  int threads = 2;         // that decode
  at::Device device = at::kCPU;
};

/// 10 log10(sum y^2 / sum (y - y')^2) in dB of each named value, y in `reference` and y' in `quantized`, over
/// the first samples of the data. Infinite if they are equal.
std::map<std::string, double> measure_sqnr(const Graph& reference, const Graph& quantized,
                                           const std::vector<std::string>& values, const DatasetPtr& data,
                                           const SqnrOptions& options, Progress& progress);

}  // namespace lithe
