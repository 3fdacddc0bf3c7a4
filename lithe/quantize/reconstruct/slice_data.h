// What a slice is learnt from.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "lithe/quantize/reconstruct/sample_cache.h"

namespace lithe {

using CacheMap = std::map<std::string, SampleCachePtr, std::less<>>;

/// An output that the slice is to reproduce.
struct SliceTarget {
  std::string value;          // of the simulated graph
  SampleCachePtr wanted;      // what the float network gives
  SampleCachePtr importance;  // of each element (Fisher); null: all the same
  double weight = 1;          // of its squared error in the loss
};

struct SliceData {
  CacheMap inputs;        // what the quantised network feeds, by value of the simulated graph
  CacheMap float_inputs;  // what the float network feeds, likewise; only where inputs are mixed
  std::vector<SliceTarget> targets;
  std::int64_t samples = 0;
};

}  // namespace lithe
