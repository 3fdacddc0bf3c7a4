#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "lithe/kernels/point_search.h"
#include "lithe/kernels/point_tree.h"

// This file is compiled once for each instruction set; the best one is chosen when a kernel is first called.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lithe/kernels/point_farthest.cpp"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"

#ifndef LITHE_POINT_FARTHEST_ONCE
#define LITHE_POINT_FARTHEST_ONCE
namespace lithe {

/// Leaves of a tree with what farthest point sampling knows of them, all padded to whole vectors.
struct FarthestLeaves {
  explicit FarthestLeaves(const PointTree& tree)
      : nearest(tree.index.size(), -1.f),
        count((tree.leaves.size() + PointTree::kPad - 1) / PointTree::kPad * PointTree::kPad) {
    for (auto& values : low) values.assign(count, std::numeric_limits<float>::infinity());
    for (auto& values : high) values.assign(count, -std::numeric_limits<float>::infinity());
    farthest.assign(count, -2.f);
    where.assign(count, std::numeric_limits<std::int32_t>::max());
    for (const PointTree::Node& node : tree.nodes) {
      if (node.leaf < 0) continue;
      const auto at = static_cast<std::size_t>(node.leaf);
      for (std::size_t axis = 0; axis < 3; ++axis) {
        low[axis][at] = node.box.low[axis];
        high[axis][at] = node.box.high[axis];
      }
      const PointTree::Leaf& leaf = tree.leaves[at];
      std::fill_n(nearest.begin() + leaf.begin, leaf.count, kFarthest);
      farthest[at] = kFarthest;
      where[at] = tree.index[static_cast<std::size_t>(leaf.begin)];
    }
  }

  std::vector<float> nearest;  // of each point of the tree: squared distance to those chosen; of padding -1
  std::size_t count;
  std::vector<float> low[3], high[3];
  std::vector<float> farthest;      // the largest of `nearest` in the leaf
  std::vector<std::int32_t> where;  // its lowest index
};

}  // namespace lithe
#endif

HWY_BEFORE_NAMESPACE();
namespace lithe {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using Floats = hn::CappedTag<float, PointTree::kPad>;

/// Lowers the distances of one leaf to those from p.
void update_leaf(const PointTree& tree, FarthestLeaves& leaves, std::size_t at, const float* p) {
  const Floats d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto px = hn::Set(d, p[0]), py = hn::Set(d, p[1]), pz = hn::Set(d, p[2]);
  const PointTree::Leaf& leaf = tree.leaves[at];
  const std::int64_t end = leaf.begin + leaf.count;
  auto most = hn::Set(d, -1.f);
  for (std::int64_t i = leaf.begin; i < end; i += lanes) {
    const auto dx = hn::Sub(hn::LoadU(d, tree.x.data() + i), px),
               dy = hn::Sub(hn::LoadU(d, tree.y.data() + i), py),
               dz = hn::Sub(hn::LoadU(d, tree.z.data() + i), pz);
    const auto distance = hn::Add(hn::Add(hn::Mul(dx, dx), hn::Mul(dy, dy)), hn::Mul(dz, dz));
    const auto old = hn::LoadU(d, leaves.nearest.data() + i);
    const auto now = hn::IfThenElse(hn::Lt(distance, old), distance, old);
    hn::StoreU(now, d, leaves.nearest.data() + i);
    most = hn::Max(most, now);
  }
  const float farthest = hn::GetLane(hn::MaxOfLanes(d, most));
  leaves.farthest[at] = farthest;
  const float* nearest = leaves.nearest.data() + leaf.begin;
  leaves.where[at] = tree.index[static_cast<std::size_t>(
      leaf.begin + (std::find(nearest, nearest + leaf.count, farthest) - nearest))];
}

/// Updates the leaves in which p can be nearer than those chosen before.
void update(const PointTree& tree, FarthestLeaves& leaves, const float* p) {
  const Floats d;
  const auto lanes = hn::Lanes(d);
  const auto zero = hn::Zero(d);
  for (std::size_t i = 0; i < leaves.count; i += lanes) {
    const auto gap = [&](std::size_t axis) HWY_ATTR {
      const auto at = hn::Set(d, p[axis]);
      const auto gap = hn::Max(zero, hn::Max(hn::Sub(hn::LoadU(d, leaves.low[axis].data() + i), at),
                                             hn::Sub(at, hn::LoadU(d, leaves.high[axis].data() + i))));
      return hn::Mul(gap, gap);
    };
    const auto least = hn::Add(hn::Add(gap(0), gap(1)), gap(2));
    const auto near = hn::Lt(least, hn::LoadU(d, leaves.farthest.data() + i));
    if (hn::AllFalse(d, near)) continue;
    HWY_ALIGN float marks[PointTree::kPad];
    hn::Store(hn::IfThenElseZero(near, hn::Set(d, 1.f)), d, marks);
    for (std::size_t lane = 0; lane < lanes; ++lane)
      if (marks[lane] != 0) update_leaf(tree, leaves, i + lane, p);
  }
}

/// The lowest index of those farthest from what was chosen.
std::int64_t farthest_of(const FarthestLeaves& leaves) {
  const Floats d;
  const auto lanes = hn::Lanes(d);
  auto most = hn::Set(d, -2.f);
  for (std::size_t i = 0; i < leaves.count; i += lanes)
    most = hn::Max(most, hn::LoadU(d, leaves.farthest.data() + i));
  const auto best = hn::MaxOfLanes(d, most);
  std::int32_t where = std::numeric_limits<std::int32_t>::max();
  for (std::size_t i = 0; i < leaves.count; i += lanes) {
    if (hn::AllFalse(d, hn::Eq(best, hn::LoadU(d, leaves.farthest.data() + i)))) continue;
    for (std::size_t lane = i; lane < i + lanes; ++lane)
      if (leaves.farthest[lane] == hn::GetLane(best)) where = std::min(where, leaves.where[lane]);
  }
  return where;
}

}  // namespace

void farthest_target(const float* points, const PointTree& tree, std::int64_t count, std::int64_t* chosen) {
  FarthestLeaves leaves(tree);
  chosen[0] = 0;
  for (std::int64_t k = 1; k < count; ++k) {
    const float* p = points + 3 * chosen[k - 1];
    // Of distances to a first point that is not finite, none is small enough to matter.
    if (std::isfinite(p[0]) && std::isfinite(p[1]) && std::isfinite(p[2])) update(tree, leaves, p);
    chosen[k] = tree.points == 0 ? 0 : farthest_of(leaves);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace lithe
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lithe {

HWY_EXPORT(farthest_target);

void farthest_points(const float* points, std::int64_t n, std::int64_t count, bool skip_origin,
                     std::int64_t* chosen) {
  std::vector<bool> candidates(static_cast<std::size_t>(n), true);
  if (skip_origin)
    for (std::int64_t i = 0; i < n; ++i) {
      const float* p = points + 3 * i;
      candidates[static_cast<std::size_t>(i)] = !((p[0] * p[0] + p[1] * p[1]) + p[2] * p[2] <= kPadding);
    }
  const PointTree tree(points, n, &candidates);
  HWY_DYNAMIC_DISPATCH(farthest_target)(points, tree, count, chosen);
}

}  // namespace lithe
#endif
