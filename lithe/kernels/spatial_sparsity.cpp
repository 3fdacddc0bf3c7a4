#include "lithe/kernels/spatial_sparsity.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace lithe {

SpatialSparsity spatial_sparsity(std::span<const std::int64_t> kept, const ChannelGroups& groups,
                                 std::span<const std::int64_t> kernel) {
  SpatialSparsity result;
  const auto positions = static_cast<double>(kept.size());
  const auto slots = static_cast<double>(groups.outer * groups.channels);
  // From whole numbers, so that an even mask has a deviation of exactly 0.
  const double mean =
      static_cast<double>(std::accumulate(kept.begin(), kept.end(), std::int64_t{0})) / positions;
  double squares = 0;
  for (const std::int64_t one : kept) {
    const double distance = static_cast<double>(one) - mean;
    squares += distance * distance;
    result.zeros.push_back(1 - static_cast<double>(one) / slots);
  }
  result.rate = 1 - mean / slots;
  const double variance = squares / positions / (slots * slots);
  result.deviation = std::sqrt(variance);
  const double noise = result.rate * (1 - result.rate) / slots;
  result.noise_ratio = noise > 0 ? variance / noise : 0;

  const bool centred = std::all_of(kernel.begin(), kernel.end(), [](auto size) { return size % 2 == 1; });
  if (centred && kept.size() > 1) result.centre = result.zeros[kept.size() / 2] - result.rate;
  if (kernel.size() >= 2 && std::all_of(kernel.begin(), kernel.end(), [](auto size) { return size > 1; })) {
    double sum = 0;
    const std::size_t corners = std::size_t{1} << kernel.size();
    for (std::size_t corner = 0; corner < corners; ++corner) {
      std::int64_t at = 0;
      for (std::size_t d = 0; d < kernel.size(); ++d)
        at = at * kernel[d] + ((corner >> d & 1) != 0 ? kernel[d] - 1 : 0);
      sum += result.zeros[static_cast<std::size_t>(at)];
    }
    result.corner = sum / static_cast<double>(corners) - result.rate;
  }
  return result;
}

std::vector<std::int64_t> kept_above(const float* weight, const ChannelGroups& groups, float threshold) {
  std::vector<std::int64_t> kept(static_cast<std::size_t>(groups.inner), 0);
  for (std::int64_t row = 0; row < groups.outer * groups.channels; ++row)
    for (std::int64_t i = 0; i < groups.inner; ++i)
      kept[static_cast<std::size_t>(i)] += std::abs(weight[row * groups.inner + i]) > threshold ? 1 : 0;
  return kept;
}

std::vector<std::int64_t> kept_by(const std::uint8_t* mask, const ChannelGroups& groups) {
  std::vector<std::int64_t> kept(static_cast<std::size_t>(groups.inner), 0);
  for (std::int64_t row = 0; row < groups.outer * groups.channels; ++row)
    for (std::int64_t i = 0; i < groups.inner; ++i)
      kept[static_cast<std::size_t>(i)] += mask[row * groups.inner + i];
  return kept;
}

float global_threshold(std::span<const std::span<const float>> weights, double rate) {
  std::vector<float> all;
  for (const auto& one : weights)
    for (const float value : one) all.push_back(std::abs(value));
  const auto pruned = static_cast<std::ptrdiff_t>(rate * static_cast<double>(all.size()));
  if (pruned <= 0) return -1;
  std::nth_element(all.begin(), all.begin() + (pruned - 1), all.end());
  return all[static_cast<std::size_t>(pruned - 1)];
}

}  // namespace lithe
