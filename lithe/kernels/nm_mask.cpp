#include "lithe/kernels/nm_mask.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "lithe/kernels/magnitude_key.h"

namespace lithe {
namespace {

constexpr std::int64_t kRankLimit = 64;  // from here on sorting beats comparing all pairs

/// Keeps a weight if fewer than n others come before it; `stride` lies between the channels.
/// Size is the length of the group, or 0 if it is `size`.
template <int Size, typename Real>
void select_by_rank(const Real* weight, std::int64_t size, std::int64_t stride, std::int64_t n,
                    std::uint8_t* mask) {
  MagnitudeKey<Real> keys[kRankLimit];
  const std::int64_t length = Size > 0 ? Size : size;
  for (std::int64_t k = 0; k < length; ++k) keys[k] = magnitude_key(weight[k * stride]);
  for (std::int64_t k = 0; k < length; ++k) {
    std::int64_t before = 0;
    for (std::int64_t j = 0; j < k; ++j) before += keys[j] > keys[k] ? 1 : 0;
    for (std::int64_t j = k + 1; j < length; ++j) before += keys[j] >= keys[k] ? 1 : 0;
    mask[k * stride] = before < n ? 1 : 0;
  }
}

template <typename Real>
void select_by_partition(const Real* weight, std::int64_t size, std::int64_t stride, std::int64_t n,
                         std::uint8_t* mask, std::vector<std::int64_t>& order) {
  order.resize(static_cast<std::size_t>(size));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  const std::int64_t kept = std::min(n, size);
  std::nth_element(order.begin(), order.begin() + (kept - 1), order.end(),
                   [&](std::int64_t a, std::int64_t b) {
                     const auto left = magnitude_key(weight[a * stride]);
                     const auto right = magnitude_key(weight[b * stride]);
                     return left != right ? left > right : a > b;
                   });
  for (std::int64_t k = 0; k < size; ++k)
    mask[order[static_cast<std::size_t>(k)] * stride] = k < kept ? 1 : 0;
}

/// Calls `visit(offset of the first element, length)` for every group.
template <typename Visit>
void for_each_group(const ChannelGroups& groups, std::int64_t m, Visit&& visit) {
  for (std::int64_t o = 0; o < groups.outer; ++o)
    for (std::int64_t c = 0; c < groups.channels; c += m)
      for (std::int64_t i = 0; i < groups.inner; ++i)
        visit((o * groups.channels + c) * groups.inner + i, std::min(m, groups.channels - c));
}

}  // namespace

template <typename Real>
void nm_mask(const Real* weight, const ChannelGroups& groups, std::int64_t n, std::int64_t m,
             std::uint8_t* mask) {
  std::vector<std::int64_t> order;
  for_each_group(groups, m, [&](std::int64_t at, std::int64_t size) {
    if (size == 4)
      select_by_rank<4>(weight + at, size, groups.inner, n, mask + at);
    else if (size == 8)
      select_by_rank<8>(weight + at, size, groups.inner, n, mask + at);
    else if (size == 16)
      select_by_rank<16>(weight + at, size, groups.inner, n, mask + at);
    else if (size <= kRankLimit)
      select_by_rank<0>(weight + at, size, groups.inner, n, mask + at);
    else
      select_by_partition(weight + at, size, groups.inner, n, mask + at, order);
  });
}

template <typename Real>
void nm_mask_reference(const Real* weight, const ChannelGroups& groups, std::int64_t n, std::int64_t m,
                       std::uint8_t* mask) {
  for_each_group(groups, m, [&](std::int64_t at, std::int64_t size) {
    std::vector<std::int64_t> order(static_cast<std::size_t>(size));
    std::iota(order.begin(), order.end(), std::int64_t{0});
    std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
      return magnitude_key(weight[at + a * groups.inner]) < magnitude_key(weight[at + b * groups.inner]);
    });
    for (std::int64_t k = 0; k < size; ++k)
      mask[at + order[static_cast<std::size_t>(k)] * groups.inner] = size - k <= n ? 1 : 0;
  });
}

template <typename Real>
std::int64_t count_nm_violations(const Real* weight, const ChannelGroups& groups, std::int64_t n,
                                 std::int64_t m) {
  std::int64_t violations = 0;
  for_each_group(groups, m, [&](std::int64_t at, std::int64_t size) {
    std::int64_t used = 0;
    for (std::int64_t k = 0; k < size; ++k) used += weight[at + k * groups.inner] != Real{0} ? 1 : 0;
    violations += used > n ? 1 : 0;
  });
  return violations;
}

template void nm_mask(const float*, const ChannelGroups&, std::int64_t, std::int64_t, std::uint8_t*);
template void nm_mask(const double*, const ChannelGroups&, std::int64_t, std::int64_t, std::uint8_t*);
template void nm_mask_reference(const float*, const ChannelGroups&, std::int64_t, std::int64_t,
                                std::uint8_t*);
template void nm_mask_reference(const double*, const ChannelGroups&, std::int64_t, std::int64_t,
                                std::uint8_t*);
template std::int64_t count_nm_violations(const float*, const ChannelGroups&, std::int64_t, std::int64_t);
template std::int64_t count_nm_violations(const double*, const ChannelGroups&, std::int64_t, std::int64_t);

}  // namespace lithe
