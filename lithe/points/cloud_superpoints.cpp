#include <algorithm>
#include <cmath>

#include "lithe/base/error.h"
#include "lithe/base/math.h"
#include "lithe/base/parallel.h"
#include "lithe/points/check_superpoints.h"
#include "lithe/points/edge_weight.h"
#include "lithe/points/normals.h"
#include "lithe/points/segment_keys.h"

namespace lithe {

Superpoints cloud_superpoints(const PointCloud& cloud, const SuperpointOptions& options) {
  constexpr int kMost = 256;
  constexpr std::int64_t kChunk = 1 << 14;
  check_options(cloud, options);
  if (options.neighbours < 1 || options.neighbours > kMost)
    fail("superpoints of a cloud with {} neighbours a point; it must be 1 to {}", options.neighbours, kMost);
  if (options.normal_neighbours < 4 || options.normal_neighbours > kMost)
    fail("normals fitted to {} points; it must be 4 to {}", options.normal_neighbours, kMost);
  const bool given = !cloud.normals.empty();
  const int fitted = options.normal_neighbours - 1;
  const Neighbours near = nearest_neighbours(
      cloud.positions, given ? options.neighbours : std::max(options.neighbours, fitted), options.threads);
  std::vector<Float3> own;
  if (!given) {
    own = fit_normals(cloud.positions, near, fitted, options.threads);
    orient_normals(cloud.positions, near, own, options.viewpoint);
  }
  const std::vector<Float3>& normals = given ? cloud.normals : own;
  const auto used = static_cast<std::int64_t>(std::min(options.neighbours, near.count));
  if (cloud.size() * used >= 0xFFFFFFFF)
    fail("a graph of {} edges is too large; take fewer neighbours", cloud.size() * used);
  const auto other = [&](std::int64_t point, std::int64_t j) {
    return near.index[static_cast<std::size_t>(point * near.count + j)];
  };
  std::vector<std::uint64_t> keys(static_cast<std::size_t>(cloud.size() * used));
  parallel_for(ceil_div(cloud.size(), kChunk), options.threads, [&](std::int64_t chunk) {
    for (std::int64_t i = chunk * kChunk; i < std::min((chunk + 1) * kChunk, cloud.size()); ++i)
      for (std::int64_t j = 0; j < used; ++j) {
        const auto a = static_cast<std::int32_t>(i);
        const std::int32_t b = other(i, j);
        const auto at = [](std::int32_t k) { return static_cast<std::size_t>(k); };
        float weight = edge_weight(cloud.positions[at(a)], cloud.positions[at(b)], normals[at(a)],
                                   normals[at(b)], options.dead_zone ? kDeadZone : 0);
        if (options.colour > 0) weight += options.colour * colour_difference(cloud, a, b);
        const auto edge = static_cast<std::size_t>(i * used + j);
        keys[edge] = std::isfinite(weight) ? edge_key(weight, static_cast<std::uint32_t>(edge)) : kNoEdge;
      }
  });
  sort_edge_keys(keys);
  return number_roots(
      segment_keys(cloud.size(), keys, options.threshold, options.least, [&](std::uint32_t edge) {
        return std::pair(static_cast<std::int32_t>(edge / used), other(edge / used, edge % used));
      }));
}

}  // namespace lithe
