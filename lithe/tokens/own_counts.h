// How many tokens images keep where each has counts of its own.
#pragma once

#include <vector>

#include "lithe/data/dataset.h"
#include "lithe/tokens/account.h"

namespace lithe {

/// Of some images.
struct Spread {
  double mean = 0, deviation = 0, least = 0, most = 0;  // deviation: of the images, not of their mean
};
Spread spread_of(const std::vector<double>& values);

struct OwnCounts {
  std::int64_t images = 0;
  std::vector<Spread> tokens;  // behind each block
  Spread macs;                 // of one image, in shares of the dense model
};

/// Runs the rewritten graph of `steps` (Kind::Reduce or None) with `options`, whose own_mass is not 0, on all
/// of `data`. Multiply-accumulates are those of an image that runs alone; in a batch all cost what the one
/// with most tokens does.
OwnCounts count_own_tokens(const Graph& prepared, const TokenModel& model, const TokenCost& cost,
                           const std::vector<TokenStep>& steps, const CompressOptions& options,
                           const DatasetPtr& data, int threads, at::Device device);

}  // namespace lithe
