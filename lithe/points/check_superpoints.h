// What every way to superpoints asks of its input.
#pragma once

#include "lithe/points/superpoints.h"

namespace lithe {

/// Both throw Error(Input).
void check_options(const PointCloud& cloud, const SuperpointOptions& options);
void check_faces(const PointCloud& cloud);

}  // namespace lithe
