#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "lithe/kernels/point_search.h"
#include "lithe/kernels/point_tree.h"

// This file is compiled once for each instruction set; the best one is chosen when a kernel is first called.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lithe/kernels/point_nearest.cpp"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"

#ifndef LITHE_POINT_NEAREST_ONCE
#define LITHE_POINT_NEAREST_ONCE
namespace lithe {

/// The k nearest so far, in order.
struct NearestRow {
  std::int64_t k;
  std::int64_t* indices;
  float* distances;

  void clear() {
    std::fill(indices, indices + k, std::numeric_limits<std::int64_t>::max());
    std::fill(distances, distances + k, std::numeric_limits<float>::infinity());
  }
  float worst() const { return distances[k - 1]; }
  void offer(float distance, std::int64_t index) {
    std::int64_t at = k;
    while (at > 0 &&
           (distance < distances[at - 1] || (distance == distances[at - 1] && index < indices[at - 1])))
      --at;
    if (at == k) return;
    for (std::int64_t j = k - 1; j > at; --j) {
      distances[j] = distances[j - 1];
      indices[j] = indices[j - 1];
    }
    distances[at] = distance;
    indices[at] = index;
  }
};

}  // namespace lithe
#endif

HWY_BEFORE_NAMESPACE();
namespace lithe {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using Floats = hn::CappedTag<float, PointTree::kPad>;

void search_leaf(const PointTree& tree, const PointTree::Leaf& leaf, const float* p, NearestRow& row) {
  const Floats d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto px = hn::Set(d, p[0]), py = hn::Set(d, p[1]), pz = hn::Set(d, p[2]);
  const std::int64_t end = leaf.begin + leaf.count;
  for (std::int64_t i = leaf.begin; i < end; i += lanes) {
    const auto dx = hn::Sub(hn::LoadU(d, tree.x.data() + i), px),
               dy = hn::Sub(hn::LoadU(d, tree.y.data() + i), py),
               dz = hn::Sub(hn::LoadU(d, tree.z.data() + i), pz);
    const auto distance = hn::Add(hn::Add(hn::Mul(dx, dx), hn::Mul(dy, dy)), hn::Mul(dz, dz));
    if (hn::AllFalse(d, hn::Le(distance, hn::Set(d, row.worst())))) continue;  // padding is NaN
    HWY_ALIGN float distances[PointTree::kPad];
    hn::Store(distance, d, distances);
    for (std::int64_t lane = 0; lane < lanes; ++lane)
      if (distances[lane] <= row.worst())
        row.offer(distances[lane], tree.index[static_cast<std::size_t>(i + lane)]);
  }
}

void search(const PointTree& tree, std::int32_t at, const float* p, NearestRow& row) {
  const PointTree::Node& node = tree.nodes[static_cast<std::size_t>(at)];
  if (node.leaf >= 0) return search_leaf(tree, tree.leaves[static_cast<std::size_t>(node.leaf)], p, row);
  std::int32_t near = node.left, far = node.right;
  float first = tree.nodes[static_cast<std::size_t>(near)].box.squared_distance(p),
        second = tree.nodes[static_cast<std::size_t>(far)].box.squared_distance(p);
  if (second < first) {
    std::swap(near, far);
    std::swap(first, second);
  }
  if (first <= row.worst()) search(tree, near, p, row);  // equal ones may have lower indices
  if (second <= row.worst()) search(tree, far, p, row);
}

}  // namespace

void nearest_target(const PointTree& tree, const float* queries, std::int64_t m, std::int64_t k,
                    std::int64_t* indices, float* squared_distances) {
  for (std::int64_t q = 0; q < m; ++q) {
    NearestRow row{k, indices + q * k, squared_distances + q * k};
    row.clear();
    search(tree, 0, queries + 3 * q, row);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace lithe
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lithe {

HWY_EXPORT(nearest_target);

void nearest_points(const PointTree& tree, const float* queries, std::int64_t m, std::int64_t k,
                    std::int64_t* indices, float* squared_distances) {
  if (k < 1) return;
  for (std::int64_t q = 0; q < m;) {
    const auto usable = [&](std::int64_t i) {
      return std::all_of(queries + 3 * i, queries + 3 * i + 3, [](float x) { return std::isfinite(x); });
    };
    std::int64_t end = q;
    while (end < m && usable(end)) ++end;
    HWY_DYNAMIC_DISPATCH(nearest_target)
    (tree, queries + 3 * q, end - q, k, indices + q * k, squared_distances + q * k);
    if (end < m)  // as far from all: the lowest indices
      for (std::int64_t j = 0; j < k; ++j) {
        indices[end * k + j] = j;
        squared_distances[end * k + j] = std::numeric_limits<float>::infinity();
      }
    q = end + 1;
  }
}

void nearest_points(const float* points, std::int64_t n, const float* queries, std::int64_t m, std::int64_t k,
                    std::int64_t* indices, float* squared_distances) {
  const PointTree tree(points, n);
  if (tree.left_out > 0)  // at infinite distances, of which the tree knows nothing
    return nearest_points_reference(points, n, queries, m, k, indices, squared_distances);
  nearest_points(tree, queries, m, k, indices, squared_distances);
}

}  // namespace lithe
#endif
