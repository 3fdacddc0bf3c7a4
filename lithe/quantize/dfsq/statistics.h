// What calibration data tell of each channel of the values that are to be rounded to points.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "lithe/base/progress.h"
#include "lithe/data/dataset.h"
#include "lithe/engine/executor.h"
#include "lithe/quantize/dfsq/select_points.h"

namespace lithe {

/// One value whose channels [begin, end) are observed; of all of them without an end.
struct ObservedValue {
  std::string name;
  bool centre = false;
  std::int64_t begin = 0, end = -1;
};

/// Of each channel of a value over all data.
struct ChannelRange {
  double sum = 0;
  std::int64_t count = 0;
  float low = 0, high = 0;
  /// The mean (0 unless `centre`), and the largest deviation from it plus 1e-8.
  float mean(bool centre) const;
  float scale(bool centre) const;
};
using ChannelRanges = std::map<std::string, std::vector<ChannelRange>>;

struct ObserveOptions {
  std::int64_t batch = 16;
  int threads = 2;  // that decode
};

/// One pass over the data, which keeps no value longer than the network itself does. Throws Error(Input)
/// naming the value if it is no image [n, c, h, w] of floats, or holds NaN or infinity.
ChannelRanges observe_ranges(Executor& executor, const DatasetPtr& data,
                             const std::vector<ObservedValue>& values, const ObserveOptions& options,
                             Progress& progress);

/// Called with the normalised numbers of one channel: those of one sample where the statistics are dynamic.
/// Different channels may be visited at the same time.
using VisitChannel = std::function<void(const std::string& value, std::int64_t channel, const float* numbers,
                                        std::int64_t count)>;

/// One such pass that shows the channels of every sample, normalised by their own statistics (`ranges` null)
/// or by those of all data. Throws as `observe_ranges` does.
void visit_normalised(Executor& executor, const DatasetPtr& data, const std::vector<ObservedValue>& values,
                      const ChannelRanges* ranges, const ObserveOptions& options, const VisitChannel& visit,
                      Progress& progress);

}  // namespace lithe
