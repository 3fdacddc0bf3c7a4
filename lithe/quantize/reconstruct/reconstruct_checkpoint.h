// What reconstruction must remember to go on after an interruption.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "lithe/quantize/reconstruct/reconstruct.h"

namespace lithe {

/// The file in which the checkpoints' folder keeps what is finished.
std::filesystem::path reconstruction_checkpoint(const std::filesystem::path& folder);

/// Keeps the results of finished slices and the plan as it stands, in one file that appears whole or not at
/// all. Without a folder it remembers nothing.
class ReconstructMemory {
 public:
  /// Reads the file if `options.resume`; `at_once` samples run at a time. Throws Error(Input) if it was made
  /// with other options, data or model. That it is damaged or not there is told in `notes`, and the work
  /// starts anew; that threads, device or `keep_better` are others is told too, and the work goes on.
  void open(const ReconstructOptions& options, const QdqPlan& plan, const Dataset& data, std::int64_t samples,
            std::int64_t at_once, std::vector<std::string>& notes);

  /// Brings plan and results to where pass `number` stood; true if that pass was finished.
  bool restore(int number, QdqPlan& plan, std::vector<SliceResult>& results) const;
  void save(int number, const QdqPlan& plan, const std::vector<SliceResult>& results, bool finished);

 private:
  std::filesystem::path file_;
  std::string recipe_;
  int pass_ = -1;
  bool finished_ = false;
  std::map<int, std::vector<SliceResult>> results_;  // by pass
  std::map<std::string, at::Tensor> state_;          // of the plan in pass `pass_`
};

/// Throws as `ReconstructMemory::open` does, as far as that can be known before ranges are calibrated.
void require_resumable(const ReconstructOptions& options, const Dataset& data, std::int64_t samples);

}  // namespace lithe
