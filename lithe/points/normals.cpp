#include "lithe/points/normals.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <utility>

#include "lithe/base/error.h"
#include "lithe/base/math.h"
#include "lithe/base/parallel.h"
#include "lithe/kernels/point_search.h"
#include "lithe/kernels/point_tree.h"
#include "lithe/points/edge_keys.h"

namespace lithe {
namespace {

constexpr std::int64_t kChunk = 4096;  // points that a thread takes at a time

using Matrix = std::array<std::array<double, 3>, 3>;

template <typename Body>
void each_point(std::int64_t points, int threads, const Body& body) {
  parallel_for(ceil_div(points, kChunk), threads, [&](std::int64_t chunk) {
    for (std::int64_t i = chunk * kChunk; i < std::min((chunk + 1) * kChunk, points); ++i) body(i);
  });
}

/// The eigenvector of the smallest eigenvalue of a symmetric matrix, by Jacobi's rotations.
Float3 least_direction(Matrix m) {
  Matrix v{{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}};
  const double size = m[0][0] + m[1][1] + m[2][2];
  if (!(size > 0)) return {0, 0, 1};
  for (int sweep = 0; sweep < 16; ++sweep) {
    if (std::abs(m[0][1]) + std::abs(m[0][2]) + std::abs(m[1][2]) <= 1e-15 * size) break;
    for (const auto& [p, q] : {std::pair<std::size_t, std::size_t>{0, 1}, {0, 2}, {1, 2}}) {
      if (m[p][q] == 0) continue;
      const double theta = (m[q][q] - m[p][p]) / (2 * m[p][q]),
                   t = (theta < 0 ? -1 : 1) / (std::abs(theta) + std::sqrt(theta * theta + 1)),
                   c = 1 / std::sqrt(t * t + 1), s = t * c;
      for (std::size_t k = 0; k < 3; ++k) {
        const double a = m[k][p], b = m[k][q];
        m[k][p] = c * a - s * b;
        m[k][q] = s * a + c * b;
      }
      for (std::size_t k = 0; k < 3; ++k) {
        const double a = m[p][k], b = m[q][k];
        m[p][k] = c * a - s * b;
        m[q][k] = s * a + c * b;
      }
      for (std::size_t k = 0; k < 3; ++k) {
        const double a = v[k][p], b = v[k][q];
        v[k][p] = c * a - s * b;
        v[k][q] = s * a + c * b;
      }
    }
  }
  std::size_t least = 2;  // of equals the upright one
  for (const std::size_t i : {1, 0})
    if (m[i][i] < m[least][least]) least = i;
  return {static_cast<float>(v[0][least]), static_cast<float>(v[1][least]), static_cast<float>(v[2][least])};
}

float dot(const Float3& a, const Float3& b) {
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

/// Trees whose nodes know whether they point the other way than their root.
class SignedForest {
 public:
  explicit SignedForest(std::size_t nodes) : parent_(nodes), turned_(nodes, 0), rank_(nodes, 0) {
    std::iota(parent_.begin(), parent_.end(), 0);
  }
  struct Place {
    std::size_t root;
    char turned;
  };
  Place find(std::size_t node) {
    Place place{node, 0};
    while (parent_[place.root] != place.root) {
      place.turned ^= turned_[place.root];
      place.root = parent_[place.root];
    }
    for (char turned = place.turned; node != place.root;) {  // all on the way now point to the root
      const std::size_t next = parent_[node];
      const char own = turned_[node];
      parent_[node] = place.root;
      turned_[node] = turned;
      turned ^= own;
      node = next;
    }
    return place;
  }
  void join(Place a, Place b, char turned) {
    if (rank_[a.root] > rank_[b.root]) std::swap(a, b);
    parent_[a.root] = b.root;
    turned_[a.root] = static_cast<char>(a.turned ^ b.turned ^ turned);
    if (rank_[a.root] == rank_[b.root]) ++rank_[b.root];
  }

 private:
  std::vector<std::size_t> parent_;
  std::vector<char> turned_, rank_;
};

void turn(Float3& normal) {
  for (float& x : normal) x = -x;
}

/// Turns the normals of one surface together if its lowest tenth faces down.
void face_up(std::span<const Float3> points, std::span<std::int32_t> surface, std::vector<Float3>& normals) {
  const auto at = [](std::int32_t i) { return static_cast<std::size_t>(i); };
  const auto lowest = surface.begin() + static_cast<std::ptrdiff_t>((surface.size() - 1) / 10);
  std::nth_element(surface.begin(), lowest, surface.end(), [&](std::int32_t a, std::int32_t b) {
    return points[at(a)][2] != points[at(b)][2] ? points[at(a)][2] < points[at(b)][2] : a < b;
  });
  std::sort(surface.begin(), lowest + 1);  // sums of one order
  double up = 0;
  for (auto i = surface.begin(); i <= lowest; ++i) up += static_cast<double>(normals[at(*i)][2]);
  if (up < 0)
    for (const std::int32_t i : surface) turn(normals[at(i)]);
}

}  // namespace

Neighbours nearest_neighbours(std::span<const Float3> points, int count, int threads) {
  const auto n = static_cast<std::int64_t>(points.size());
  Neighbours out;
  out.count = static_cast<int>(std::clamp<std::int64_t>(count, 0, std::max<std::int64_t>(n - 1, 0)));
  if (n == 0) return out;
  const PointTree tree(points.data()->data(), n);
  if (tree.left_out > 0) fail("{} points of a cloud have no finite place; leave them out", tree.left_out);
  out.index.resize(static_cast<std::size_t>(n * out.count));
  const std::int64_t k = out.count + 1;  // with the point itself
  parallel_for(ceil_div(n, kChunk), threads, [&](std::int64_t chunk) {
    const std::int64_t first = chunk * kChunk, last = std::min(first + kChunk, n);
    std::vector<std::int64_t> found(static_cast<std::size_t>((last - first) * k));
    std::vector<float> distances(found.size());
    nearest_points(tree, points[static_cast<std::size_t>(first)].data(), last - first, k, found.data(),
                   distances.data());
    for (std::int64_t i = first; i < last; ++i) {
      const std::int64_t* row = found.data() + (i - first) * k;
      std::int32_t* to = out.index.data() + i * out.count;
      // Among many points of one place the point itself may not be found: then the last goes.
      for (std::int64_t j = 0, kept = 0; j < k && kept < out.count; ++j)
        if (row[j] != i) to[kept++] = static_cast<std::int32_t>(row[j]);
    }
  });
  return out;
}

std::vector<Float3> fit_normals(std::span<const Float3> points, const Neighbours& neighbours, int used,
                                int threads) {
  std::vector<Float3> normals(points.size());
  each_point(static_cast<std::int64_t>(points.size()), threads, [&](std::int64_t i) {
    const auto others = neighbours.of(i).first(static_cast<std::size_t>(std::min(used, neighbours.count)));
    const Float3& p = points[static_cast<std::size_t>(i)];
    std::array<double, 3> sum{};
    Matrix squares{};
    for (const std::int32_t other : others) {  // about the point, which adds nothing itself
      std::array<double, 3> d{};
      for (std::size_t axis = 0; axis < 3; ++axis)
        d[axis] =
            static_cast<double>(points[static_cast<std::size_t>(other)][axis]) - static_cast<double>(p[axis]);
      for (std::size_t a = 0; a < 3; ++a) {
        sum[a] += d[a];
        for (std::size_t b = 0; b < 3; ++b) squares[a][b] += d[a] * d[b];
      }
    }
    const double count = static_cast<double>(others.size()) + 1;
    for (std::size_t a = 0; a < 3; ++a)
      for (std::size_t b = 0; b < 3; ++b) squares[a][b] -= sum[a] * sum[b] / count;
    normals[static_cast<std::size_t>(i)] = least_direction(squares);
  });
  return normals;
}

void orient_normals(std::span<const Float3> points, const Neighbours& neighbours,
                    std::vector<Float3>& normals, const std::optional<Float3>& viewpoint) {
  if (viewpoint) {
    for (std::size_t i = 0; i < points.size(); ++i) {
      const Float3& p = points[i];
      if (dot(normals[i], {(*viewpoint)[0] - p[0], (*viewpoint)[1] - p[1], (*viewpoint)[2] - p[2]}) < 0)
        turn(normals[i]);
    }
    return;
  }
  if (neighbours.index.size() > 0xFFFFFFFEu)
    fail("a graph of {} edges is too large; take fewer neighbours", neighbours.index.size());
  const auto count = static_cast<std::size_t>(std::max(neighbours.count, 1));
  std::vector<std::uint64_t> keys(neighbours.index.size());
  for (std::size_t e = 0; e < keys.size(); ++e) {
    const float agreement = dot(normals[e / count], normals[static_cast<std::size_t>(neighbours.index[e])]);
    keys[e] = edge_key(1 - std::abs(agreement), static_cast<std::uint32_t>(e));
  }
  sort_edge_keys(keys);
  SignedForest forest(points.size());
  for (const std::uint64_t key : keys) {
    const std::size_t a = key_edge(key) / count,
                      b = static_cast<std::size_t>(neighbours.index[key_edge(key)]);
    const SignedForest::Place of_a = forest.find(a), of_b = forest.find(b);
    if (of_a.root != of_b.root) forest.join(of_a, of_b, dot(normals[a], normals[b]) < 0 ? 1 : 0);
  }
  // Surfaces one after the other, by their roots.
  std::vector<std::int32_t> root(points.size()), start(points.size() + 1), surface(points.size());
  for (std::size_t i = 0; i < points.size(); ++i) {
    const SignedForest::Place place = forest.find(i);
    if (place.turned) turn(normals[i]);
    root[i] = static_cast<std::int32_t>(place.root);
    ++start[place.root + 1];
  }
  std::partial_sum(start.begin(), start.end(), start.begin());
  std::vector<std::int32_t> next(start.begin(), start.end() - 1);
  for (std::size_t i = 0; i < points.size(); ++i)
    surface[static_cast<std::size_t>(next[static_cast<std::size_t>(root[i])]++)] =
        static_cast<std::int32_t>(i);
  for (std::size_t i = 0; i < points.size(); ++i)
    if (start[i] < start[i + 1])
      face_up(points,
              std::span(surface).subspan(static_cast<std::size_t>(start[i]),
                                         static_cast<std::size_t>(start[i + 1] - start[i])),
              normals);
}

}  // namespace lithe
