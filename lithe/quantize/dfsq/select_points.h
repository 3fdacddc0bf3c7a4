// Which points of the universal set quantise a channel with the least squared error.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "lithe/base/random.h"
#include "lithe/graph/subset_function.h"

namespace lithe {

/// What is known of a channel's values: how many fall between neighbouring multiples of 1/2048, and their
/// sums. Nothing more is needed: every border between two points of the universal set is such a multiple, so
/// that the squared error of any points follows exactly. Memory does not grow with the data.
class SubsetHistogram {
 public:
  static constexpr std::int64_t kBins = kSubsetEntries;  // by floor(2048 y) + 2048

  SubsetHistogram() : counts_(kBins), sums_(kBins) {}
  /// What lies beyond -1 or 1 counts at that end, with its own value. NaN is not allowed.
  void add(std::span<const float> values);
  /// Adds (x - mean) / scale of each value, rounded to float32 as the quantiser does.
  void add(std::span<const float> values, float mean, float scale);
  void merge(const SubsetHistogram& other);

  std::int64_t count() const { return count_; }
  double squares() const { return squares_; }  // sum of y^2
  const std::vector<double>& counts() const { return counts_; }
  /// Whether values fell into more than one bin.
  bool varies() const {
    return std::count_if(counts_.begin(), counts_.end(), [](double one) { return one > 0; }) > 1;
  }
  const std::vector<double>& sums() const { return sums_; }

 private:
  void add_one(float y) {
    const float limited = y < -1.0f ? -1.0f : y > 1.0f ? 1.0f : y;
    const float scaled = limited * 2048.0f;
    const int towards_zero = static_cast<int>(scaled);
    const int below = towards_zero - (scaled < static_cast<float>(towards_zero) ? 1 : 0);
    const auto bin = static_cast<std::size_t>(std::ptrdiff_t{below} + 2048);
    const double wide = y;
    counts_[bin] += 1;
    sums_[bin] += wide;
    squares_ += wide * wide;
  }
  std::vector<double> counts_, sums_;
  double squares_ = 0;
  std::int64_t count_ = 0;
};

struct PointSelection {
  std::vector<std::int16_t> points;  // in units of 1/1024, ascending; of equal ones each is there
  double loss = 0;                   // sum over the data of the squared distance to the nearest point
  int used = 0;                      // points that some of the data are nearest to
};

/// The sum of squared distances to the nearest of `points` (ascending, in units of 1/1024).
double subset_loss(const SubsetHistogram& data, std::span<const std::int16_t> points);

/// How many of such points some of the data are nearest to; of equal points one.
int count_used(const SubsetHistogram& data, std::span<const std::int16_t> points);

/// The best `count` points of `candidates` (default: the universal set), found exactly by dynamic programming
/// over pairs of neighbouring points. The cost of a pair has the quadrangle inequality, so that divide and
/// conquer finds it in count x M log M steps for M candidates; `exhaustive` takes all count x M^2, to compare
/// with. Of equally good choices the one whose highest point is
/// lower wins, then that whose second highest is, and so on. `count` is 1 to the number of candidates.
PointSelection select_points_exactly(const SubsetHistogram& data, int count,
                                     std::span<const std::int16_t> candidates = {}, bool exhaustive = false);

/// `count` evenly spread points, each rounded to 1/1024 (not to the universal set), between the least and the
/// largest value times the factors 1, 0.98, ..., 0.2 of least loss, the same for both ends: a uniform
/// quantiser with a range by squared error.
PointSelection select_uniform_points(const SubsetHistogram& data, int count);

/// Values in ascending order with running sums, so that a round of K-means costs K log n.
class SortedValues {
 public:
  explicit SortedValues(std::vector<float> values);
  std::span<const float> values() const { return values_; }
  /// Sum of values [begin, end).
  double sum(std::size_t begin, std::size_t end) const { return sums_[end] - sums_[begin]; }

 private:
  std::vector<float> values_;
  std::vector<double> sums_;
};

struct KMeansResult {
  std::vector<double> centres;  // in the given order; the last one is 0
  int rounds = 0;               // in which centres moved
};

/// K-means as published: the given centres and one that stays at 0 for ever, at most 100 rounds; a value
/// between two centres belongs to the first given; an empty cluster starts anew at a random value; once no
/// centre moves by 1e-3, those before the last move are the result.
KMeansResult kmeans(const SortedValues& data, std::vector<double> centres, Rng& rng);

/// Selection as published (arXiv 2305.05888, official code): `restarts` times K-means from count - 1 random
/// values and 0, each centre to the nearest point of the universal set, the one of least loss wins. Equal
/// points are possible. Where the data hold fewer values than points, values are drawn repeatedly.
PointSelection select_points_by_kmeans(const SortedValues& data, int count, std::uint64_t seed,
                                       int restarts = 5);

/// The points of `universal_set` nearest to the centres, ascending.
std::vector<std::int16_t> snap(std::span<const double> centres);

}  // namespace lithe
