// Which weights an N:M pattern keeps.
#pragma once

#include <cstdint>

#include "lithe/kernels/channel_groups.h"

namespace lithe {

/// Writes 1 for the `n` weights of largest magnitude in every group of `m` channels and 0 for the others
/// (Zhou et al., "Learning N:M Fine-grained Structured Sparse Neural Networks From Scratch", ICLR 2021).
/// Among equal magnitudes the higher channel is kept, as a stable ascending sort would; NaN counts as
/// largest, -0 equals 0. A last group of t < m channels keeps min(n, t). Needs 0 < n <= m; `weight` and
/// `mask` have `groups.count()` elements. The type is float or double.
template <typename Real>
void nm_mask(const Real* weight, const ChannelGroups& groups, std::int64_t n, std::int64_t m,
             std::uint8_t* mask);

/// The same by sorting every group: what tests compare with.
template <typename Real>
void nm_mask_reference(const Real* weight, const ChannelGroups& groups, std::int64_t n, std::int64_t m,
                       std::uint8_t* mask);

/// Groups with more than `n` elements that are not zero.
template <typename Real>
std::int64_t count_nm_violations(const Real* weight, const ChannelGroups& groups, std::int64_t n,
                                 std::int64_t m);

}  // namespace lithe
