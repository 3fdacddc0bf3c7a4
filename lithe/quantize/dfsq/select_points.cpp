#include "lithe/quantize/dfsq/select_points.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "lithe/base/error.h"
#include "lithe/quantize/dfsq/universal_set.h"

namespace lithe {
namespace {

constexpr int kMaxRounds = 100;
constexpr double kSettled = 1e-3;
constexpr double kEqual = 1e-12;  // of the sum of squares

/// Counts and sums of all bins before each, so that those of a stretch are a difference.
class Prefix {
 public:
  explicit Prefix(const SubsetHistogram& data) : counts_(SubsetHistogram::kBins + 1), sums_(counts_.size()) {
    for (std::size_t i = 0; i + 1 < counts_.size(); ++i) {
      counts_[i + 1] = counts_[i] + data.counts()[i];
      sums_[i + 1] = sums_[i] + data.sums()[i];
    }
  }
  /// Sum of (y - p)^2 - y^2 over the bins [begin, end), p = point / 1024.
  double cost(int point, std::size_t begin, std::size_t end) const {
    const double p = point / 1024.0;
    return p * (p * count(begin, end) - 2 * (sums_[end] - sums_[begin]));
  }
  double count(std::size_t begin, std::size_t end) const { return counts_[end] - counts_[begin]; }
  /// The bin in which a multiple of 1/2048 begins.
  static std::size_t bin(int twice) { return static_cast<std::size_t>(std::ptrdiff_t{twice} + 2048); }
  static constexpr std::size_t end() { return static_cast<std::size_t>(SubsetHistogram::kBins); }

 private:
  std::vector<double> counts_, sums_;
};

/// Points chosen from left to right: best[j] is the least cost of what lies below candidate j, if j is chosen
/// and so many are before it.
class Chooser {
 public:
  Chooser(const SubsetHistogram& data, std::span<const std::int16_t> candidates)
      : prefix_(data), candidates_(candidates), equal_(kEqual * data.squares()) {}

  std::vector<std::int16_t> choose(int count, bool exhaustive) {
    const int m = static_cast<int>(candidates_.size());
    std::vector<double> best(static_cast<std::size_t>(m));
    for (int j = 0; j < m; ++j) best[at(j)] = prefix_.cost(point(j), 0, Prefix::bin(2 * point(j)));
    std::vector<std::vector<int>> from;
    for (int k = 1; k < count; ++k) {
      before_ = std::move(best);
      best.assign(static_cast<std::size_t>(m), std::numeric_limits<double>::infinity());
      from.emplace_back(static_cast<std::size_t>(m), -1);
      if (exhaustive) {
        for (int j = k; j < m; ++j) settle(j, k - 1, j - 1, best, from.back());
      } else {
        divide(k, m - 1, k - 1, m - 2, best, from.back());
      }
    }
    int last = -1;
    double least = std::numeric_limits<double>::infinity();
    for (int j = count - 1; j < m; ++j) {
      const double total = best[at(j)] + prefix_.cost(point(j), Prefix::bin(2 * point(j)), Prefix::end());
      if (total < least - equal_) {
        least = total;
        last = j;
      }
    }
    std::vector<std::int16_t> chosen;
    for (std::size_t k = from.size() + 1; k-- > 0;) {
      chosen.push_back(candidates_[at(last)]);
      if (k > 0) last = from[k - 1][at(last)];
    }
    std::reverse(chosen.begin(), chosen.end());
    return chosen;
  }

 private:
  static std::size_t at(int j) { return static_cast<std::size_t>(j); }
  int point(int j) const { return candidates_[at(j)]; }

  double between(int i, int j) const {
    const std::size_t border = Prefix::bin(point(i) + point(j));
    return prefix_.cost(point(i), Prefix::bin(2 * point(i)), border) +
           prefix_.cost(point(j), border, Prefix::bin(2 * point(j)));
  }

  void settle(int j, int low, int high, std::vector<double>& best, std::vector<int>& from) const {
    for (int i = low; i <= std::min(high, j - 1); ++i) {
      const double total = before_[at(i)] + between(i, j);
      if (total < best[at(j)] - equal_) {
        best[at(j)] = total;
        from[at(j)] = i;
      }
    }
  }

  /// The best predecessor of a candidate is not below that of a lower candidate.
  void divide(int first, int last, int low, int high, std::vector<double>& best, std::vector<int>& from) {
    if (first > last) return;
    const int middle = first + (last - first) / 2;
    settle(middle, low, high, best, from);
    const int chosen = from[at(middle)];
    divide(first, middle - 1, low, chosen, best, from);
    divide(middle + 1, last, chosen, high, best, from);
  }

  Prefix prefix_;
  std::span<const std::int16_t> candidates_;
  double equal_;  // losses that differ by less are equal but for rounding
  std::vector<double> before_;
};

/// Calls `use` with each point's bins [begin, end), those nearest to it; of equal points the last has them
/// all.
template <typename Use>
void for_each_cell(std::span<const std::int16_t> points, const Use& use) {
  std::size_t begin = 0;
  for (std::size_t i = 0; i < points.size(); ++i) {
    const std::size_t end = i + 1 < points.size() ? Prefix::bin(points[i] + points[i + 1]) : Prefix::end();
    use(points[i], begin, end);
    begin = end;
  }
}

/// Borders between centres in ascending order, equal ones by index: cluster c of `order` holds the values
/// [bounds[c], bounds[c + 1]). Of equal centres the one given first takes all.
std::vector<std::size_t> bounds_of(std::span<const float> values, std::span<const double> centres,
                                   std::span<const std::size_t> order) {
  std::vector<std::size_t> bounds(order.size() + 1, values.size());
  bounds[0] = 0;
  auto from = values.begin();
  for (std::size_t c = 0; c < order.size();) {
    const double a = centres[order[c]];
    std::size_t next = c + 1;
    while (next < order.size() && centres[order[next]] == a) ++next;
    if (next == order.size()) break;
    const double b = centres[order[next]];
    // A value belongs to the upper centre if that is nearer, or as near and given first.
    const bool upper_first = order[next] < order[c];
    from = std::partition_point(from, values.end(), [&](float value) {
      const double down = std::abs(value - a), up = std::abs(value - b);
      return up > down || (up == down && !upper_first);
    });
    std::fill(bounds.begin() + static_cast<std::ptrdiff_t>(c) + 1,
              bounds.begin() + static_cast<std::ptrdiff_t>(next) + 1,
              static_cast<std::size_t>(from - values.begin()));
    c = next;
  }
  return bounds;
}

}  // namespace

void SubsetHistogram::add(std::span<const float> values) {
  for (const float value : values) add_one(value);
  count_ += static_cast<std::int64_t>(values.size());
}

void SubsetHistogram::add(std::span<const float> values, float mean, float scale) {
  for (const float value : values) add_one((value - mean) / scale);
  count_ += static_cast<std::int64_t>(values.size());
}

void SubsetHistogram::merge(const SubsetHistogram& other) {
  for (std::size_t i = 0; i < counts_.size(); ++i) {
    counts_[i] += other.counts_[i];
    sums_[i] += other.sums_[i];
  }
  squares_ += other.squares_;
  count_ += other.count_;
}

double subset_loss(const SubsetHistogram& data, std::span<const std::int16_t> points) {
  const Prefix prefix(data);
  double loss = data.squares();
  for_each_cell(points, [&](std::int16_t point, std::size_t begin, std::size_t end) {
    loss += prefix.cost(point, begin, end);
  });
  return std::max(loss, 0.0);
}

int count_used(const SubsetHistogram& data, std::span<const std::int16_t> points) {
  const Prefix prefix(data);
  int used = 0;
  for_each_cell(points, [&](std::int16_t, std::size_t begin, std::size_t end) {
    used += prefix.count(begin, end) > 0;
  });
  return used;
}

PointSelection select_points_exactly(const SubsetHistogram& data, int count,
                                     std::span<const std::int16_t> candidates, bool exhaustive) {
  const std::vector<std::int16_t> universal =
      candidates.empty() ? universal_set() : std::vector<std::int16_t>();
  if (candidates.empty()) candidates = universal;
  if (count < 1 || count > static_cast<int>(candidates.size()))
    fail("{} points cannot be chosen from {} candidates", count, candidates.size());
  PointSelection selection{.points = Chooser(data, candidates).choose(count, exhaustive)};
  selection.loss = subset_loss(data, selection.points);
  selection.used = count_used(data, selection.points);
  return selection;
}

PointSelection select_uniform_points(const SubsetHistogram& data, int count) {
  if (count < 2 || count > 256) fail("{} points cannot be spread evenly; 2 to 256 can", count);
  std::size_t first = 0, last = static_cast<std::size_t>(SubsetHistogram::kBins) - 1;
  while (first < last && data.counts()[first] == 0) ++first;
  while (last > first && data.counts()[last] == 0) --last;
  // The ends of the outermost bins, with 0 between.
  const double low = std::min(static_cast<double>(first) / 2 - 1024, 0.0);
  const double high = std::max(std::min(static_cast<double>(last + 1) / 2 - 1024, 1024.0), 0.0);
  PointSelection best{.loss = std::numeric_limits<double>::infinity()};
  for (int step = 0; step <= 40; ++step) {
    const double factor = 1 - 0.02 * step;
    std::vector<std::int16_t> points;
    for (int i = 0; i < count; ++i)
      points.push_back(
          static_cast<std::int16_t>(std::lround(factor * (low + (high - low) * i / (count - 1)))));
    const double loss = subset_loss(data, points);
    if (loss < best.loss) best = {.points = std::move(points), .loss = loss};
  }
  best.used = count_used(data, best.points);
  return best;
}

SortedValues::SortedValues(std::vector<float> values)
    : values_(std::move(values)), sums_(values_.size() + 1) {
  std::sort(values_.begin(), values_.end());
  for (std::size_t i = 0; i < values_.size(); ++i) sums_[i + 1] = sums_[i] + values_[i];
}

KMeansResult kmeans(const SortedValues& data, std::vector<double> centres, Rng& rng) {
  const std::span<const float> values = data.values();
  if (values.empty()) fail("there are no values to choose points for");
  centres.push_back(0);
  KMeansResult result;
  std::vector<std::size_t> order(centres.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  for (; result.rounds < kMaxRounds; ++result.rounds) {
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return centres[a] != centres[b] ? centres[a] < centres[b] : a < b;
    });
    const std::vector<std::size_t> bounds = bounds_of(values, centres, order);
    std::vector<double> moved = centres;
    for (std::size_t c = 0; c < order.size(); ++c) {
      if (order[c] + 1 == centres.size()) continue;  // stays at 0
      const std::size_t members = bounds[c + 1] - bounds[c];
      moved[order[c]] = members > 0 ? data.sum(bounds[c], bounds[c + 1]) / static_cast<double>(members)
                                    : values[rng.below(values.size())];
    }
    double most = 0;
    for (std::size_t c = 0; c < centres.size(); ++c) most = std::max(most, std::abs(moved[c] - centres[c]));
    if (most < kSettled) break;
    centres = std::move(moved);
  }
  result.centres = std::move(centres);
  return result;
}

std::vector<std::int16_t> snap(std::span<const double> centres) {
  const std::vector<std::int16_t> all = universal_set();
  std::vector<std::int16_t> points;
  for (const double centre : centres) {
    const double wanted = centre * 1024;
    auto place = std::lower_bound(all.begin(), all.end(), wanted);
    if (place == all.end()) --place;
    if (place != all.begin() && wanted - *(place - 1) <= *place - wanted) --place;
    points.push_back(*place);
  }
  std::sort(points.begin(), points.end());
  return points;
}

PointSelection select_points_by_kmeans(const SortedValues& data, int count, std::uint64_t seed,
                                       int restarts) {
  const std::span<const float> values = data.values();
  if (values.empty()) fail("there are no values to choose points for");
  SubsetHistogram histogram;
  histogram.add(values);
  PointSelection best{.loss = std::numeric_limits<double>::infinity()};
  for (int restart = 0; restart < restarts; ++restart) {
    Rng rng(seed, static_cast<std::uint64_t>(restart));
    std::vector<double> centres;
    // Distinct places, as far as there are any.
    std::vector<std::size_t> places;
    while (static_cast<int>(centres.size()) + 1 < count) {
      const std::size_t place = rng.below(values.size());
      const bool left = places.size() < values.size();
      if (left && std::find(places.begin(), places.end(), place) != places.end()) continue;
      places.push_back(place);
      centres.push_back(values[place]);
    }
    std::vector<std::int16_t> points = snap(kmeans(data, std::move(centres), rng).centres);
    const double loss = subset_loss(histogram, points);
    if (loss < best.loss) best = {.points = std::move(points), .loss = loss};
  }
  best.used = count_used(histogram, best.points);
  return best;
}

}  // namespace lithe
