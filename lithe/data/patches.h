// Small parts of pictures, to calibrate on.
#pragma once

#include <cstdint>

#include "lithe/data/dataset.h"

namespace lithe {

/// `count` patches of `side` x `side` pixels of the input, the i-th from sample i modulo their number at a
/// place that the seed, i and nothing else decides; targets are cut along. Samples must have one image [c, h,
/// w] (or [h, w, c] with layout NHWC). `get` throws Error(Input) naming a sample that is smaller than a
/// patch.
DatasetPtr random_patches(DatasetPtr dataset, std::int64_t side, std::int64_t count, std::uint64_t seed,
                          ImageLayout layout = ImageLayout::Nchw);

struct KeepOptions {
  std::int64_t memory = std::int64_t{1} << 30;  // bytes that the patches may take
  int threads = 2;                              // that decode
};

/// The same patches, cut at once and kept, so that every sample is decoded once however often they are read.
/// Where they would take more than the memory, those of `random_patches`, which decode at each reading.
/// Throws what `get` of those would.
DatasetPtr kept_patches(const DatasetPtr& dataset, std::int64_t side, std::int64_t count, std::uint64_t seed,
                        ImageLayout layout = ImageLayout::Nchw, const KeepOptions& options = {});

/// The middles of pictures [c, h, w] that are higher or wider than `side`, without their targets; what is no
/// larger, or no picture, stays as it is.
DatasetPtr middles(DatasetPtr dataset, std::int64_t side);

}  // namespace lithe
