// The plain versions, which say what the fast ones compute.
#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "lithe/kernels/point_search.h"

namespace lithe {
namespace {

float squared_distance(const float* a, const float* b) {
  const float dx = a[0] - b[0], dy = a[1] - b[1], dz = a[2] - b[2];
  return (dx * dx + dy * dy) + dz * dz;
}

}  // namespace

void farthest_points_reference(const float* points, std::int64_t n, std::int64_t count, bool skip_origin,
                               std::int64_t* chosen) {
  std::vector<float> nearest(static_cast<std::size_t>(n), kFarthest);
  constexpr float kOrigin[3]{};
  for (std::int64_t i = 0; i < n; ++i) {
    const float length = squared_distance(points + 3 * i, kOrigin);
    if (!std::isfinite(length) || (skip_origin && length <= kPadding))
      nearest[static_cast<std::size_t>(i)] = -1;
  }
  chosen[0] = 0;
  for (std::int64_t k = 1; k < count; ++k) {
    const float* last = points + 3 * chosen[k - 1];
    float best = -1;
    std::int64_t where = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      float& least = nearest[static_cast<std::size_t>(i)];
      const float d = squared_distance(points + 3 * i, last);
      if (d < least) least = d;
      if (least > best) {
        best = least;
        where = i;
      }
    }
    chosen[k] = where;
  }
}

void ball_query_reference(const float* points, std::int64_t n, const float* centres, std::int64_t m,
                          float radius, std::int64_t samples, std::int64_t* neighbours) {
  const float bound = radius * radius;
  for (std::int64_t c = 0; c < m; ++c, neighbours += samples) {
    std::int64_t found = 0;
    for (std::int64_t i = 0; i < n && found < samples; ++i) {
      if (!(squared_distance(points + 3 * i, centres + 3 * c) < bound)) continue;
      if (found == 0) std::fill(neighbours, neighbours + samples, i);
      neighbours[found++] = i;
    }
    if (found == 0) std::fill(neighbours, neighbours + samples, 0);
  }
}

void nearest_points_reference(const float* points, std::int64_t n, const float* queries, std::int64_t m,
                              std::int64_t k, std::int64_t* indices, float* squared_distances) {
  std::vector<std::pair<float, std::int64_t>> all(static_cast<std::size_t>(n));
  for (std::int64_t q = 0; q < m; ++q) {
    for (std::int64_t i = 0; i < n; ++i) {
      const float d = squared_distance(points + 3 * i, queries + 3 * q);
      all[static_cast<std::size_t>(i)] = {std::isnan(d) ? std::numeric_limits<float>::infinity() : d, i};
    }
    std::partial_sort(all.begin(), all.begin() + k, all.end());
    for (std::int64_t j = 0; j < k; ++j) {
      *squared_distances++ = all[static_cast<std::size_t>(j)].first;
      *indices++ = all[static_cast<std::size_t>(j)].second;
    }
  }
}

}  // namespace lithe
