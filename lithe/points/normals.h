// Normals of clouds that come without.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "lithe/points/point_cloud.h"

namespace lithe {

/// For each point the same number of others.
struct Neighbours {
  int count = 0;                    // of each point
  std::vector<std::int32_t> index;  // [points][count], nearest first

  std::span<const std::int32_t> of(std::int64_t point) const {
    return {index.data() + point * count, static_cast<std::size_t>(count)};
  }
};

/// The `count` nearest neighbours of each point, fewer if there are not so many others; of equally near ones
/// the lower index comes first. Takes 16 bytes an index while it works, 4 afterwards. Throws Error(Input) if
/// a point is not finite or its square overflows.
Neighbours nearest_neighbours(std::span<const Float3> points, int count, int threads = 1);

/// The directions in which each point and its first `used` neighbours spread least, of length 1 and either
/// sign (Hoppe et al., "Surface Reconstruction from Unorganized Points", SIGGRAPH 1992). (0, 0, 1) where they
/// do not spread.
std::vector<Float3> fit_normals(std::span<const Float3> points, const Neighbours& neighbours, int used,
                                int threads = 1);

/// Flips normals to face `viewpoint`. Without one, those of neighbours are made to agree along a minimum
/// spanning tree of the edges weighted by 1 - |n.n'| (Hoppe et al.), and the lowest tenth of each connected
/// surface to face up: what scanners see of a floor.
void orient_normals(std::span<const Float3> points, const Neighbours& neighbours,
                    std::vector<Float3>& normals, const std::optional<Float3>& viewpoint = {});

}  // namespace lithe
