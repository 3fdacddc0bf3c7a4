// Unstructured magnitude pruning of one layer, and where it leaves weights.
#pragma once

#include <cstdint>
#include <vector>

#include "lithe/kernels/channel_groups.h"

namespace lithe {

/// Writes 0 for the `pruned` weights of smallest magnitude and 1 for the others. Among equal magnitudes the
/// lower index is pruned first; NaN counts as largest, -0 equals 0. Needs 0 <= pruned <= count. The type is
/// float or double.
template <typename Real>
void magnitude_mask(const Real* weight, std::int64_t count, std::int64_t pruned, std::uint8_t* mask);

/// The same by sorting: what tests compare with.
template <typename Real>
void magnitude_mask_reference(const Real* weight, std::int64_t count, std::int64_t pruned,
                              std::uint8_t* mask);

/// Weights that layer-wise pruning at the rate of an N:M pattern prunes: floor(count * (m - n) / m).
std::int64_t pruned_at(std::int64_t count, std::int64_t n, std::int64_t m);

/// How many weights `magnitude_mask` with `pruned_at` keeps at each inner position (of a convolution: each
/// kernel position); `kept` has `groups.inner` elements.
template <typename Real>
void spatial_counts(const Real* weight, const ChannelGroups& groups, std::int64_t n, std::int64_t m,
                    std::int64_t* kept);

/// The spatial mask of SpRe ("Spatial Re-parameterization for N:M Sparsity", IEEE TPAMI 2025) from
/// `spatial_counts`: 1 where pruning without structure keeps more than the N:M share,
/// kept * m > n * outer * channels, in integers. With a `margin` above 0 the mask has hysteresis: a position
/// changes only where kept is outside (1 -+ margin) times the share; `mask` holds the previous one then.
void spatial_mask(const std::int64_t* kept, const ChannelGroups& groups, std::int64_t n, std::int64_t m,
                  double margin, std::uint8_t* mask);

}  // namespace lithe
