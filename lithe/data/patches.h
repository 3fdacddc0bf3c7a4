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

}  // namespace lithe
