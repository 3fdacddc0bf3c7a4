#include "lithe/points/point_cloud.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace lithe {
namespace {

struct Extent {
  Float3 low, high;

  Extent() {
    low.fill(std::numeric_limits<float>::infinity());
    high.fill(-std::numeric_limits<float>::infinity());
  }
  void add(const Float3& point) {
    if (!std::isfinite(point[0]) || !std::isfinite(point[1]) || !std::isfinite(point[2])) return;
    for (std::size_t axis = 0; axis < 3; ++axis) {
      low[axis] = std::min(low[axis], point[axis]);
      high[axis] = std::max(high[axis], point[axis]);
    }
  }
  Box3 box() const {
    Box3 out;
    if (low[0] > high[0]) return out;
    for (std::size_t axis = 0; axis < 3; ++axis) {
      out.centre[axis] = (low[axis] + high[axis]) / 2;
      out.size[axis] = high[axis] - low[axis];
    }
    return out;
  }
};

}  // namespace

Box3 bounds(const PointCloud& cloud) {
  Extent extent;
  for (const Float3& point : cloud.positions) extent.add(point);
  return extent.box();
}

Box3 bounds(const PointCloud& cloud, std::span<const std::int32_t> indices) {
  Extent extent;
  for (const std::int32_t index : indices) extent.add(cloud.positions[static_cast<std::size_t>(index)]);
  return extent.box();
}

}  // namespace lithe
