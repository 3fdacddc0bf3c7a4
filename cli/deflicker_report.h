// What deflickering did, for the JSON and the report.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <vector>

#include "cli/verb.h"
#include "lithe/report/report.h"
#include "lithe/video/deflicker_video.h"
#include "lithe/video/video_score.h"

namespace lithe::cli {

/// Watches the frames before and after.
class DeflickerWatch {
 public:
  /// Of so many frames, a few evenly spaced ones are shown.
  explicit DeflickerWatch(std::int64_t frames);
  void add(std::int64_t number, const Frame& guide, const Frame& before, const Frame& after);
  /// Adds members warp_error, flicker and detail, before and after.
  void describe(json& result) const;
  Report report(const std::string& name, const DeflickerOutcome& outcome, const json& result) const;

 private:
  std::int64_t every_;
  std::int64_t first_ = -1;
  VideoScorer before_, after_;
  std::vector<at::Tensor> shown_before_, shown_after_;  // uint8 [3, h, w]
};

}  // namespace lithe::cli
