#include "lithe/kernels/point_search.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/vector_targets.h"
#include "lithe/base/random.h"
#include "lithe/kernels/point_tree.h"

namespace lithe {
namespace {

using ::testing::ElementsAre;
using Floats = std::vector<float>;
using Places = std::vector<std::int64_t>;

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// The ten points of the golden cases G2 and G3.
const Floats kTen{1,   1, 0, 1.2f, 1, 0,    4,    1,    0,     4,    3,    0,    1, 3, 0,
                  2.5, 2, 0, 2.5,  2, 1.5f, .02f, .01f, .005f, 3.9f, 1.1f, 0.2f, 1, 1, 2};

std::int64_t points_in(const Floats& values) {
  return static_cast<std::int64_t>(values.size() / 3);
}

Places farthest(const Floats& points, std::int64_t count, bool skip) {
  Places fast(static_cast<std::size_t>(count)), plain = fast;
  farthest_points(points.data(), points_in(points), count, skip, fast.data());
  farthest_points_reference(points.data(), points_in(points), count, skip, plain.data());
  EXPECT_EQ(fast, plain);
  return fast;
}

Places ball(const Floats& points, const Floats& centres, float radius, std::int64_t samples) {
  const std::int64_t m = points_in(centres);
  Places fast(static_cast<std::size_t>(m * samples), -7), plain = fast;
  ball_query(points.data(), points_in(points), centres.data(), m, radius, samples, fast.data());
  ball_query_reference(points.data(), points_in(points), centres.data(), m, radius, samples, plain.data());
  EXPECT_EQ(fast, plain) << "radius " << radius << ", samples " << samples;
  return fast;
}

struct Nearest {
  Places indices;
  Floats distances;
};

Nearest nearest(const Floats& points, const Floats& queries, std::int64_t k) {
  const std::int64_t m = points_in(queries);
  Nearest fast{Places(static_cast<std::size_t>(m * k)), Floats(static_cast<std::size_t>(m * k))},
      plain = fast;
  nearest_points(points.data(), points_in(points), queries.data(), m, k, fast.indices.data(),
                 fast.distances.data());
  nearest_points_reference(points.data(), points_in(points), queries.data(), m, k, plain.indices.data(),
                           plain.distances.data());
  EXPECT_EQ(fast.indices, plain.indices);
  EXPECT_EQ(fast.distances, plain.distances);
  return fast;
}

/// A room's worth of clumps and walls; `grid` > 0 rounds coordinates to it, which makes many equal distances.
Floats scene(std::uint64_t seed, std::int64_t n, float size, float grid = 0) {
  Rng rng(seed);
  Floats out;
  for (std::int64_t i = 0; i < n; ++i) {
    const auto wall = rng.below(4);
    for (std::uint64_t axis = 0; axis < 3; ++axis) {
      float value = static_cast<float>(rng.uniform()) * size;
      if (axis == wall) value = 0.02f * static_cast<float>(rng.normal());
      out.push_back(grid > 0 ? std::round(value / grid) * grid : value);
    }
  }
  return out;
}

TEST(FarthestPoints, GoldenG2) {
  on_every_target([] {
    EXPECT_THAT(farthest(kTen, 8, true), ElementsAre(0, 3, 6, 2, 4, 9, 5, 8));
    EXPECT_THAT(farthest(kTen, 8, false), ElementsAre(0, 3, 6, 2, 4, 9, 5, 7));
  });
}

TEST(FarthestPoints, AsThePlainVersion) {
  on_every_target([] {
    for (const std::int64_t n : {1, 2, 63, 64, 65, 129, 1000, 5000})
      for (const float grid : {0.f, 0.25f})
        farthest(scene(3, n, 4, grid), std::min<std::int64_t>(n + 3, 400), true);
    farthest(scene(4, 700, 1e6f), 200, false);  // distances beyond kFarthest are equal
    farthest(scene(5, 700, 1e-3f), 200, false);
    farthest(scene(6, 700, 0.05f), 20, true);
  });
}

TEST(FarthestPoints, WithoutCandidatesIndexZero) {
  const Floats padding{5, 5, 5, 0, 0, 0, 0.01f, 0, 0};
  EXPECT_THAT(farthest(padding, 4, true), ElementsAre(0, 0, 0, 0));
  EXPECT_THAT(farthest({0, 0, 0, 0.01f, 0, 0}, 3, true), ElementsAre(0, 0, 0));
  EXPECT_THAT(farthest({1, 1, 1, 2, 2, 2}, 4, true), ElementsAre(0, 1, 0, 0));
}

TEST(FarthestPoints, PointsThatAreNoNumbersAreNotChosen) {
  on_every_target([] {
    Floats points = scene(8, 300, 3);
    for (const std::size_t i : {4u, 301u, 602u}) points[i] = kNaN;
    points[90] = kInfinity;
    points[93] = -2e19f;
    const Places chosen = farthest(points, 250, false);
    for (const std::int64_t bad : {1, 100, 200, 30, 31})
      EXPECT_THAT(chosen, ::testing::Not(::testing::Contains(bad)));
    for (const float first : {kNaN, kInfinity, 3e19f}) {
      points[0] = first;
      farthest(points, 50, false);
    }
  });
}

TEST(BallQuery, GoldenG3) {
  on_every_target([] {
    const Floats centres{1, 1, 0, 4, 1, 0, 2.5, 2, 0};
    EXPECT_THAT(ball(kTen, centres, 1, 4), ElementsAre(0, 1, 0, 0, 2, 8, 2, 2, 5, 5, 5, 5));
    EXPECT_THAT(ball(kTen, centres, 1.8f, 3), ElementsAre(0, 1, 7, 2, 8, 2, 1, 5, 6));
    EXPECT_THAT(ball(kTen, {1, 1, 0, 4, 1, 0, 2.5, 2, 0, 10, 10, 10}, .25f, 3),
                ElementsAre(0, 1, 0, 2, 8, 2, 5, 5, 5, 0, 0, 0));
    EXPECT_THAT(ball({1, 1, 0, 4, 1, 0}, {1, 1, 0}, 3, 2), ElementsAre(0, 0));
  });
}

TEST(BallQuery, AsThePlainVersion) {
  on_every_target([] {
    for (const std::int64_t n : {1, 20, 255, 3000})
      for (const float grid : {0.f, 0.2f}) {
        const Floats points = scene(11, n, 4, grid), centres = scene(12, 60, 4.5f, grid);
        for (const float radius :
             {0.f, 1e-30f, 0.05f, 0.2f, 0.4f, 1.f, 3.f, 100.f, 1e30f, -0.4f, kNaN, kInfinity})
          for (const std::int64_t samples : {1, 16, 64}) ball(points, centres, radius, samples);
      }
    ball(scene(13, 2000, 1e-24f), scene(13, 2000, 1e-24f), 3e-25f, 8);  // squares vanish
    Floats far = scene(14, 2000, 2);
    far[0] = 1e9f;  // one point that makes a grid coarse
    ball(far, scene(15, 50, 2), 0.3f, 5);
  });
}

TEST(BallQuery, PointsThatAreNoNumbersAreNoHits) {
  on_every_target([] {
    Floats points = scene(16, 600, 2), centres = scene(17, 30, 2);
    for (std::size_t i = 0; i < 300; i += 7) points[i] = i % 2 ? kNaN : kInfinity;
    centres[4] = kNaN;
    centres[9] = -kInfinity;
    ball(points, centres, 0.4f, 8);
    ball(Floats(900, kNaN), centres, 0.4f, 8);
  });
}

TEST(NearestPoints, GoldenG4) {
  on_every_target([] {
    const Floats known{1, 1, 0, 4, 1, 0, 1, 3, 0, 2.5, 2, 1.5};
    const Nearest found = nearest(known, {1, 1, 0, 2, 2, .5, 3, 1, 0}, 3);
    EXPECT_THAT(found.indices, ElementsAre(0, 2, 3, 3, 0, 2, 1, 3, 0));
    const double distances[]{0, 2, 2.345207880, 1.118033989, 1.5, 1.5, 1, 1.870828693, 2};
    for (std::size_t i = 0; i < 9; ++i) EXPECT_NEAR(std::sqrt(found.distances[i]), distances[i], 1e-6);
  });
}

TEST(NearestPoints, AsThePlainVersion) {
  on_every_target([] {
    for (const std::int64_t n : {1, 5, 64, 65, 1500})
      for (const float grid : {0.f, 0.25f})
        for (const std::int64_t k : {1, 3, 17})
          if (k <= n) nearest(scene(21, n, 4, grid), scene(22, 80, 5, grid), k);
    nearest(scene(23, 400, 1e19f), scene(24, 20, 1e19f), 5);  // distances overflow
  });
}

TEST(NearestPoints, DistancesThatAreNoNumbersComeLast) {
  on_every_target([] {
    Floats points = scene(25, 100, 2), queries = scene(26, 5, 2);
    queries[3] = kNaN;
    queries[8] = kInfinity;
    nearest(points, queries, 4);
    points[30] = kNaN;
    points[33] = kInfinity;
    nearest(points, queries, 100);
    EXPECT_THAT(nearest({kNaN, 0, 0, 1, 1, 1}, {0, 0, 0}, 2).indices, ElementsAre(1, 0));
  });
}

TEST(PointTree, HoldsEachPointOnce) {
  const Floats points = scene(31, 1000, 3, 0.5f);
  const PointTree tree(points.data(), 1000);
  std::vector<int> seen(1000);
  for (const PointTree::Leaf& leaf : tree.leaves) {
    EXPECT_EQ(leaf.begin % PointTree::kPad, 0);
    EXPECT_LE(leaf.count, PointTree::kLeaf);
    for (std::int32_t i = leaf.begin; i < leaf.begin + leaf.count; ++i)
      ++seen[static_cast<std::size_t>(tree.index[static_cast<std::size_t>(i)])];
  }
  EXPECT_THAT(seen, ::testing::Each(1));
}

}  // namespace
}  // namespace lithe
