// The assignment of predictions to targets, against a known case and against trying all.
#include "lithe/grounding/matching.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "lithe/base/random.h"
#include "message_of.h"

namespace lithe {
namespace {

using test::message_of;

using Pairs = std::vector<std::pair<std::int64_t, std::int64_t>>;

double total(const std::vector<double>& costs, std::int64_t columns, const Pairs& pairs) {
  double sum = 0;
  for (const auto& [row, column] : pairs) sum += costs[static_cast<std::size_t>(row * columns + column)];
  return sum;
}

/// By trying every choice; rows >= columns.
double least_total(const std::vector<double>& costs, std::int64_t rows, std::int64_t columns) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(rows));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  double least = std::numeric_limits<double>::infinity();
  do {
    double sum = 0;
    for (std::int64_t c = 0; c < columns; ++c)
      sum += costs[static_cast<std::size_t>(order[static_cast<std::size_t>(c)] * columns + c)];
    least = std::min(least, sum);
  } while (std::next_permutation(order.begin(), order.end()));
  return least;
}

TEST(Matching, GoldenCaseG12) {
  const std::vector<double> costs{4, 1, 3, 2, 0, 5, 3, 2, 2, .5, 3, 1};
  const Pairs pairs = optimal_assignment(costs, 4, 3);
  EXPECT_EQ(pairs, (Pairs{{1, 1}, {2, 2}, {3, 0}}));
  EXPECT_DOUBLE_EQ(total(costs, 3, pairs), 2.5);
}

TEST(Matching, IsTheCheapestOfAll) {
  Rng rng(3);
  for (int i = 0; i < 200; ++i) {
    const auto rows = static_cast<std::int64_t>(1 + rng.below(7));
    const auto columns = static_cast<std::int64_t>(1 + rng.below(static_cast<std::uint64_t>(rows)));
    std::vector<double> costs(static_cast<std::size_t>(rows * columns)), turned(costs.size());
    for (double& one : costs) one = i % 2 == 0 ? rng.uniform() * 10 - 5 : static_cast<double>(rng.below(3));
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t c = 0; c < columns; ++c)
        turned[static_cast<std::size_t>(c * rows + r)] = costs[static_cast<std::size_t>(r * columns + c)];
    const double least = least_total(costs, rows, columns);
    for (const bool upright : {false, true}) {
      const Pairs pairs =
          upright ? optimal_assignment(turned, columns, rows) : optimal_assignment(costs, rows, columns);
      ASSERT_EQ(std::ssize(pairs), columns);
      std::vector<std::int64_t> first, second;
      for (const auto& [a, b] : pairs) {
        first.push_back(a);
        second.push_back(b);
      }
      std::sort(second.begin(), second.end());
      EXPECT_TRUE(std::adjacent_find(first.begin(), first.end(), std::greater_equal<>()) == first.end());
      EXPECT_TRUE(std::adjacent_find(second.begin(), second.end()) == second.end());
      EXPECT_NEAR(total(upright ? turned : costs, upright ? rows : columns, pairs), least, 1e-9);
    }
  }
}

TEST(Matching, EdgesAndErrors) {
  EXPECT_TRUE(optimal_assignment({}, 0, 0).empty());
  EXPECT_TRUE(optimal_assignment({}, 5, 0).empty());
  const std::vector<double> bad{1, std::numeric_limits<double>::quiet_NaN()};
  EXPECT_NE(message_of([&] { optimal_assignment(bad, 2, 1); }).find("not a finite number"),
            std::string::npos);
  EXPECT_NE(message_of([&] { optimal_assignment(bad, 2, 2); }).find("needs 4 costs, not 2"),
            std::string::npos);
}

}  // namespace
}  // namespace lithe
