// What swapping two input channels changes in the magnitude that an N:M pattern keeps.
#pragma once

#include <cstdint>
#include <vector>

#include "lithe/kernels/channel_groups.h"

namespace lithe {

/// Looks for an order of the input channels that lets an N:M pattern keep more (Pool and Yu, "Channel
/// Permutations for N:M Sparsity", NeurIPS 2021). Keeps, for every channel and row (output channel and kernel
/// position), what its group would keep without it, so that a swap is judged in one pass over the rows.
class SwapTable {
 public:
  /// Copies the magnitudes of the weight.
  SwapTable(const float* weight, const ChannelGroups& groups, std::int64_t n, std::int64_t m);

  std::int64_t channels() const { return channels_; }
  /// The sum of the magnitudes that the pattern keeps now.
  double kept() const;
  /// By how much `kept` grows if channels a and b change places; 0 if they share a group.
  double gain(std::int64_t a, std::int64_t b) const;
  void swap(std::int64_t a, std::int64_t b);

 private:
  const float* row(const std::vector<float>& table, std::int64_t channel) const {
    return table.data() + channel * rows_;
  }
  void update_group(std::int64_t group);

  std::int64_t channels_, rows_, n_, m_;
  std::vector<float> magnitudes_;  // [channel][row]
  // By [channel][row]: the n-th largest magnitude among the others of the group (0 if there are fewer).
  std::vector<float> thresholds_;
  std::vector<double> without_;  // by channel: what its group keeps without it, over all rows
  std::vector<double> kept_;     // by group
};

/// Kept magnitude by sorting every group: what tests compare with.
double kept_magnitude_reference(const float* weight, const ChannelGroups& groups, std::int64_t n,
                                std::int64_t m);

}  // namespace lithe
