// How evenly pruning without structure spreads over the kernel positions of a convolution.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lithe/kernels/channel_groups.h"

namespace lithe {

/// Zeros by kernel position after some way of pruning, and how uneven they are.
struct SpatialSparsity {
  std::vector<double> zeros;  // share of pruned weights at each position, row-major
  double rate = 0;            // their mean
  double deviation = 0;       // standard deviation over the positions
  double centre = 0;          // at the centre, minus the mean; 0 for kernels without a centre
  double corner = 0;          // mean over the corners, minus the mean; 0 for one-dimensional kernels
  /// Variance over the positions divided by what it would be if the kept weights were spread at random,
  /// rate (1 - rate) / (outer channels): about 1 means there is nothing but noise.
  double noise_ratio = 0;
};

/// From the weights kept at each position of a kernel of the given size (rows, columns; or any rank).
SpatialSparsity spatial_sparsity(std::span<const std::int64_t> kept, const ChannelGroups& groups,
                                 std::span<const std::int64_t> kernel);

/// Weights kept at each position if everything with magnitude up to `threshold` is pruned.
std::vector<std::int64_t> kept_above(const float* weight, const ChannelGroups& groups, float threshold);

/// Weights that a mask keeps at each position.
std::vector<std::int64_t> kept_by(const std::uint8_t* mask, const ChannelGroups& groups);

/// The magnitude below or at which the share `rate` (0..1) of all weights lies.
float global_threshold(std::span<const std::span<const float>> weights, double rate);

}  // namespace lithe
