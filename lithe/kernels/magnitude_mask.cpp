#include "lithe/kernels/magnitude_mask.h"

#include <algorithm>
#include <numeric>

#include "lithe/kernels/magnitude_key.h"

namespace lithe {
namespace {

/// Prunes what is below `key`, and the first `ties` that equal it.
template <typename Real>
struct Threshold {
  MagnitudeKey<Real> key = 0;
  std::int64_t ties = 0;

  Threshold(const Real* weight, std::int64_t count, std::int64_t pruned) {
    if (pruned == 0) return;
    std::vector<MagnitudeKey<Real>> keys(static_cast<std::size_t>(count));
    std::transform(weight, weight + count, keys.begin(), magnitude_key<Real>);
    const auto last = keys.begin() + (pruned - 1);
    std::nth_element(keys.begin(), last, keys.end());
    key = *last;
    ties = pruned - std::count_if(keys.begin(), last, [this](auto other) { return other < key; });
  }

  /// To be asked in the order of the weights.
  bool keeps(Real value) {
    const auto own = magnitude_key(value);
    return own > key || (own == key && ties-- <= 0);
  }
};

}  // namespace

template <typename Real>
void magnitude_mask(const Real* weight, std::int64_t count, std::int64_t pruned, std::uint8_t* mask) {
  Threshold<Real> threshold(weight, count, pruned);
  for (std::int64_t i = 0; i < count; ++i) mask[i] = threshold.keeps(weight[i]) ? 1 : 0;
}

template <typename Real>
void magnitude_mask_reference(const Real* weight, std::int64_t count, std::int64_t pruned,
                              std::uint8_t* mask) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(count));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
    return magnitude_key(weight[a]) < magnitude_key(weight[b]);
  });
  for (std::int64_t i = 0; i < count; ++i) mask[order[static_cast<std::size_t>(i)]] = i < pruned ? 0 : 1;
}

std::int64_t pruned_at(std::int64_t count, std::int64_t n, std::int64_t m) {
  // Whole groups and rest apart, so that the product stays small.
  return count / m * (m - n) + count % m * (m - n) / m;
}

template <typename Real>
void spatial_counts(const Real* weight, const ChannelGroups& groups, std::int64_t n, std::int64_t m,
                    std::int64_t* kept) {
  const std::int64_t count = groups.count();
  std::fill(kept, kept + groups.inner, std::int64_t{0});
  Threshold<Real> threshold(weight, count, pruned_at(count, n, m));
  for (std::int64_t row = 0; row < groups.outer * groups.channels; ++row)
    for (std::int64_t i = 0; i < groups.inner; ++i)
      kept[i] += threshold.keeps(weight[row * groups.inner + i]) ? 1 : 0;
}

void spatial_mask(const std::int64_t* kept, const ChannelGroups& groups, std::int64_t n, std::int64_t m,
                  double margin, std::uint8_t* mask) {
  const std::int64_t share = n * groups.outer * groups.channels;  // m times what an N:M mask keeps
  for (std::int64_t i = 0; i < groups.inner; ++i) {
    const std::int64_t here = kept[i] * m;
    const auto distance = static_cast<double>(here - share);
    if (margin > 0 && distance <= margin * static_cast<double>(share) &&
        distance >= -margin * static_cast<double>(share))
      continue;
    mask[i] = here > share ? 1 : 0;
  }
}

template void magnitude_mask(const float*, std::int64_t, std::int64_t, std::uint8_t*);
template void magnitude_mask(const double*, std::int64_t, std::int64_t, std::uint8_t*);
template void magnitude_mask_reference(const float*, std::int64_t, std::int64_t, std::uint8_t*);
template void magnitude_mask_reference(const double*, std::int64_t, std::int64_t, std::uint8_t*);
template void spatial_counts(const float*, const ChannelGroups&, std::int64_t, std::int64_t, std::int64_t*);
template void spatial_counts(const double*, const ChannelGroups&, std::int64_t, std::int64_t, std::int64_t*);

}  // namespace lithe
