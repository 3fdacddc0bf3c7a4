#include "lithe/kernels/nm_swap.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

namespace lithe {

SwapTable::SwapTable(const float* weight, const ChannelGroups& groups, std::int64_t n, std::int64_t m)
    : channels_(groups.channels), rows_(groups.outer * groups.inner), n_(n), m_(m) {
  magnitudes_.resize(static_cast<std::size_t>(channels_ * rows_));
  thresholds_.resize(magnitudes_.size());
  without_.resize(static_cast<std::size_t>(channels_));
  kept_.resize(static_cast<std::size_t>((channels_ + m - 1) / m));
  for (std::int64_t o = 0; o < groups.outer; ++o)
    for (std::int64_t c = 0; c < channels_; ++c)
      for (std::int64_t i = 0; i < groups.inner; ++i)
        magnitudes_[static_cast<std::size_t>(c * rows_ + o * groups.inner + i)] =
            std::abs(weight[(o * channels_ + c) * groups.inner + i]);
  for (std::size_t group = 0; group < kept_.size(); ++group) update_group(static_cast<std::int64_t>(group));
}

void SwapTable::update_group(std::int64_t group) {
  const std::int64_t begin = group * m_, size = std::min(m_, channels_ - begin);
  const std::int64_t kept = std::min(n_, size);
  std::vector<double> without(static_cast<std::size_t>(size), 0.0);
  std::vector<std::pair<float, std::int64_t>> order(static_cast<std::size_t>(size));
  double total = 0;
  for (std::int64_t r = 0; r < rows_; ++r) {
    for (std::int64_t k = 0; k < size; ++k)
      order[static_cast<std::size_t>(k)] = {row(magnitudes_, begin + k)[r], k};
    std::sort(order.begin(), order.end(), std::greater<>());
    double sum = 0;
    for (std::int64_t k = 0; k < kept; ++k) sum += order[static_cast<std::size_t>(k)].first;
    total += sum;
    const float next = kept < size ? order[static_cast<std::size_t>(kept)].first : 0.0f;
    for (std::int64_t k = 0; k < size; ++k) {
      const auto& [value, channel] = order[static_cast<std::size_t>(k)];
      // Without a kept channel the next one moves up, and the lowest of the n kept is the threshold.
      const bool is_kept = k < kept;
      without[static_cast<std::size_t>(channel)] += is_kept ? sum - value + next : sum;
      float threshold = is_kept ? next : order[static_cast<std::size_t>(kept - 1)].first;
      if (size - 1 < n_) threshold = 0;
      thresholds_[static_cast<std::size_t>((begin + channel) * rows_ + r)] = threshold;
    }
  }
  kept_[static_cast<std::size_t>(group)] = total;
  std::copy(without.begin(), without.end(), without_.begin() + begin);
}

double SwapTable::kept() const {
  return std::accumulate(kept_.begin(), kept_.end(), 0.0);
}

double SwapTable::gain(std::int64_t a, std::int64_t b) const {
  const std::int64_t group_a = a / m_, group_b = b / m_;
  if (group_a == group_b) return 0;
  const float *value_a = row(magnitudes_, a), *value_b = row(magnitudes_, b);
  const float *threshold_a = row(thresholds_, a), *threshold_b = row(thresholds_, b);
  double gained = 0;
  constexpr std::int64_t kBlock = 1024;  // float sums stay short
  for (std::int64_t begin = 0; begin < rows_; begin += kBlock) {
    const std::int64_t end = std::min(rows_, begin + kBlock);
    float sum = 0;
    for (std::int64_t r = begin; r < end; ++r)
      sum += std::max(0.0f, value_b[r] - threshold_a[r]) + std::max(0.0f, value_a[r] - threshold_b[r]);
    gained += sum;
  }
  const auto at = [](const std::vector<double>& table, std::int64_t index) {
    return table[static_cast<std::size_t>(index)];
  };
  return at(without_, a) + at(without_, b) + gained - at(kept_, group_a) - at(kept_, group_b);
}

void SwapTable::swap(std::int64_t a, std::int64_t b) {
  std::swap_ranges(magnitudes_.begin() + a * rows_, magnitudes_.begin() + (a + 1) * rows_,
                   magnitudes_.begin() + b * rows_);
  update_group(a / m_);
  if (b / m_ != a / m_) update_group(b / m_);
}

double kept_magnitude_reference(const float* weight, const ChannelGroups& groups, std::int64_t n,
                                std::int64_t m) {
  double total = 0;
  std::vector<float> group;
  for (std::int64_t o = 0; o < groups.outer; ++o)
    for (std::int64_t c = 0; c < groups.channels; c += m)
      for (std::int64_t i = 0; i < groups.inner; ++i) {
        group.clear();
        for (std::int64_t k = c; k < std::min(groups.channels, c + m); ++k)
          group.push_back(std::abs(weight[(o * groups.channels + k) * groups.inner + i]));
        std::sort(group.begin(), group.end(), std::greater<>());
        for (std::size_t k = 0; k < group.size() && k < static_cast<std::size_t>(n); ++k) total += group[k];
      }
  return total;
}

}  // namespace lithe
