// How the loss goes up and down from unit to unit, and whether that matters.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace lithe {

/// The oscillation of reconstruction losses over units (the motivating figure of Ma et al., CVPR 2023).
struct Oscillation {
  std::vector<int> edges;    // i where loss i + 1 < (1 - margin) loss i: where it drops
  std::vector<int> peaks;    // units where it turns from rising (or from the start) to falling
  double sum_squared = 0;    // of the differences between neighbours
  double mean_absolute = 0;  // likewise; 0 for a single unit
  double largest = 0;
  int largest_unit = -1;
  double last = 0;
  std::vector<double> relative;  // loss over the power of the unit's float output; empty without powers
  bool oscillates() const { return !edges.empty(); }
};

/// Losses in the order of the units; `powers` holds the mean square of the float outputs in the same measure
/// as the losses (a power of 0 gives 0 for loss 0, else infinity), or is empty.
/// A fall counts if it is larger than `margin`, as a share of the loss it falls from.
/// Throws Error(Input) if the numbers of losses and powers differ or a loss is NaN or infinite.
Oscillation describe_oscillation(std::span<const double> losses, std::span<const double> powers = {},
                                 double margin = 0);

/// Takes out the fall into the last of `units`, if there is one: it makes the network's output, another kind
/// of value. True if there was.
bool forget_fall_into_output(Oscillation& oscillation, std::size_t units);

/// One line: "the loss oscillates: it falls behind 3 of 10 units, most behind 'features.2' (7 to 4)", or that
/// it does not.
std::string summarise(const Oscillation& oscillation, std::span<const double> losses,
                      std::span<const std::string> names);

/// Rank correlation and how likely chance gives one as far from 0.
struct RankCorrelation {
  double rho = 0;      // Spearman's; ties share their mean rank; 0 if all of x or of y are equal
  double p_value = 1;  // two-sided, by permutation: all orders up to 8 pairs, else `permutations` random ones
};

/// Throws Error(Input) if lengths differ, if there are fewer than 3 pairs, or if a number is NaN.
RankCorrelation rank_correlation(std::span<const double> x, std::span<const double> y, std::uint64_t seed = 0,
                                 int permutations = 20000);

/// Pearson's correlation; 0 if all of x or of y are equal. Throws as rank_correlation does.
double correlation(std::span<const double> x, std::span<const double> y);

}  // namespace lithe
