#include "lithe/quantize/reconstruct/oscillation.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "lithe/base/error.h"
#include "lithe/base/random.h"

namespace lithe {
namespace {

constexpr std::size_t kAllOrders = 8;  // pairs up to which every order is tried
constexpr std::size_t kNamedPeaks = 4;

/// Ranks from 1; equal numbers share the mean of theirs.
std::vector<double> ranks(std::span<const double> x) {
  std::vector<std::size_t> order(x.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return x[a] < x[b]; });
  std::vector<double> result(x.size());
  for (std::size_t first = 0; first < order.size();) {
    std::size_t last = first + 1;
    while (last < order.size() && x[order[last]] == x[order[first]]) ++last;
    for (std::size_t i = first; i < last; ++i) result[order[i]] = static_cast<double>(first + last + 1) / 2;
    first = last;
  }
  return result;
}

void check_pairs(std::span<const double> x, std::span<const double> y) {
  if (x.size() != y.size())
    fail("a correlation needs pairs, but there are {} and {} numbers", x.size(), y.size());
  if (x.size() < 3) fail("a correlation needs at least 3 pairs, not {}", x.size());
  const auto is_nan = [](double value) { return std::isnan(value); };
  if (std::any_of(x.begin(), x.end(), is_nan) || std::any_of(y.begin(), y.end(), is_nan))
    fail("a correlation cannot be computed of numbers that are NaN");
}

double pearson(std::span<const double> x, std::span<const double> y) {
  const auto count = static_cast<double>(x.size());
  const double mean_x = std::accumulate(x.begin(), x.end(), 0.0) / count;
  const double mean_y = std::accumulate(y.begin(), y.end(), 0.0) / count;
  double xy = 0, xx = 0, yy = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    xy += (x[i] - mean_x) * (y[i] - mean_y);
    xx += (x[i] - mean_x) * (x[i] - mean_x);
    yy += (y[i] - mean_y) * (y[i] - mean_y);
  }
  return xx > 0 && yy > 0 ? std::clamp(xy / std::sqrt(xx * yy), -1.0, 1.0) : 0;
}

}  // namespace

Oscillation describe_oscillation(std::span<const double> losses, std::span<const double> powers,
                                 double margin) {
  if (!powers.empty() && powers.size() != losses.size())
    fail("there are {} powers for the losses of {} units", powers.size(), losses.size());
  Oscillation result;
  for (std::size_t i = 0; i < losses.size(); ++i) {
    if (!std::isfinite(losses[i])) fail("the loss of unit {} is {}", i, losses[i]);
    if (result.largest_unit < 0 || losses[i] > result.largest) {
      result.largest = losses[i];
      result.largest_unit = static_cast<int>(i);
    }
    if (!powers.empty())
      result.relative.push_back(losses[i] == 0  ? 0
                                : powers[i] > 0 ? losses[i] / powers[i]
                                                : std::numeric_limits<double>::infinity());
    if (i == 0) continue;
    const double rise = losses[i] - losses[i - 1];
    result.sum_squared += rise * rise;
    result.mean_absolute += std::abs(rise);
    if (losses[i] >= (1 - margin) * losses[i - 1]) continue;
    const int edge = static_cast<int>(i) - 1;
    if (result.edges.empty() || result.edges.back() != edge - 1) result.peaks.push_back(edge);
    result.edges.push_back(edge);
  }
  if (losses.size() > 1) result.mean_absolute /= static_cast<double>(losses.size() - 1);
  if (!losses.empty()) result.last = losses.back();
  return result;
}

bool forget_fall_into_output(Oscillation& oscillation, std::size_t units) {
  std::vector<int>& edges = oscillation.edges;
  if (edges.empty() || static_cast<std::size_t>(edges.back()) + 2 != units) return false;
  if (oscillation.peaks.back() == edges.back()) oscillation.peaks.pop_back();
  edges.pop_back();
  return true;
}

std::string summarise(const Oscillation& oscillation, std::span<const double> losses,
                      std::span<const std::string> names) {
  if (names.size() != losses.size()) fail("there are {} names for {} losses", names.size(), losses.size());
  if (!oscillation.oscillates())
    return fmt::format("the loss does not oscillate: it falls behind none of {} units", losses.size());
  std::string peaks;
  const std::size_t count = oscillation.peaks.size();
  for (std::size_t i = 0; i < std::min(count, kNamedPeaks); ++i)
    peaks += fmt::format("{}'{}'", i > 0 ? ", " : "", names[static_cast<std::size_t>(oscillation.peaks[i])]);
  if (count > kNamedPeaks) peaks += fmt::format(" and {} more", count - kNamedPeaks);
  const auto fall = [&](int edge) {
    return losses[static_cast<std::size_t>(edge)] - losses[static_cast<std::size_t>(edge) + 1];
  };
  const auto steepest = static_cast<std::size_t>(*std::max_element(
      oscillation.edges.begin(), oscillation.edges.end(), [&](int a, int b) { return fall(a) < fall(b); }));
  return fmt::format(
      "the loss oscillates at {}: it falls behind {} of {} units, most behind '{}' ({:.4g} to {:.4g})", peaks,
      oscillation.edges.size(), losses.size(), names[steepest], losses[steepest], losses[steepest + 1]);
}

double correlation(std::span<const double> x, std::span<const double> y) {
  check_pairs(x, y);
  return pearson(x, y);
}

RankCorrelation rank_correlation(std::span<const double> x, std::span<const double> y, std::uint64_t seed,
                                 int permutations) {
  check_pairs(x, y);
  const std::vector<double> first = ranks(x);
  std::vector<double> second = ranks(y);
  RankCorrelation result{.rho = pearson(first, second)};
  const double reach = std::abs(result.rho) - 1e-9;  // orders that tie must count
  std::int64_t as_far = 0, tried = 0;
  const auto count = [&] {
    as_far += std::abs(pearson(first, second)) >= reach ? 1 : 0;
    ++tried;
  };
  if (x.size() <= kAllOrders) {
    std::vector<std::size_t> order(x.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    const std::vector<double> source = second;
    do {
      for (std::size_t i = 0; i < order.size(); ++i) second[i] = source[order[i]];
      count();
    } while (std::next_permutation(order.begin(), order.end()));
  } else {
    if (permutations < 1) fail("a permutation test needs at least 1 permutation, not {}", permutations);
    count();  // the order found is one of those that chance may give
    Rng rng(seed);
    for (int i = 0; i < permutations; ++i) {
      rng.shuffle(second);
      count();
    }
  }
  result.p_value = static_cast<double>(as_far) / static_cast<double>(tried);
  return result;
}

}  // namespace lithe
