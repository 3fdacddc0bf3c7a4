// How unlike two neighbouring points of a surface are.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "lithe/points/point_cloud.h"

namespace lithe {

/// What a step out of the plane must exceed to count as convex, with a dead zone and without.
inline constexpr float kDeadZone = 1e-6f;

/// 1 - Na.Nb; squared where the step d of length 1 from a to b rises above the plane of b (Nb.d > flat):
/// creases seen from outside count less than those seen from inside.
inline float edge_weight(const Float3& a, const Float3& b, const Float3& normal_a, const Float3& normal_b,
                         float flat) {
  float dx = b[0] - a[0], dy = b[1] - a[1], dz = b[2] - a[2];
  const float length = std::sqrt(dx * dx + dy * dy + dz * dz);
  dx /= length;
  dy /= length;
  dz /= length;
  const float dot = normal_a[0] * normal_b[0] + normal_a[1] * normal_b[1] + normal_a[2] * normal_b[2],
              rise = normal_b[0] * dx + normal_b[1] * dy + normal_b[2] * dz, weight = 1.0f - dot;
  return rise > flat ? weight * weight : weight;  // a step of no length is no number and rises nowhere
}

/// |difference of RGB in 0..1|; 0 without colours.
inline float colour_difference(const PointCloud& cloud, std::int32_t a, std::int32_t b) {
  if (cloud.colours.empty()) return 0;
  float sum = 0;
  for (std::size_t c = 0; c < 3; ++c) {
    const float d = static_cast<float>(cloud.colours[static_cast<std::size_t>(a)][c] -
                                       cloud.colours[static_cast<std::size_t>(b)][c]) /
                    255.0f;
    sum += d * d;
  }
  return std::sqrt(sum);
}

}  // namespace lithe
