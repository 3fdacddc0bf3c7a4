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
  void add(std::int64_t number, const Frame& guide, const Frame& before, const Frame& after);
  /// Adds members `before` and `after` with the measures; none for pictures below 16 pixels a side.
  void describe(json& result) const;
  Report report(const std::string& name, const DeflickerOutcome& outcome) const;

 private:
  struct Pair {
    at::Tensor before, after;  // uint8 [3, h, w]
  };
  std::int64_t first_ = -1, every_ = 1;
  bool measured_ = false;
  VideoScorer before_, after_;
  std::vector<Pair> shown_;
};

}  // namespace lithe::cli
