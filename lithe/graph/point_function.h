// The operators of domain "lithe" that search among points in space, as functions of standard operators.
#pragma once

#include "lithe/graph/graph.h"

namespace lithe {

/// `FarthestPointSample(points; count, skip_origin)` -> indices [b, count] int64, of points [b, n, 3]. Qi et
/// al., "PointNet++: Deep Hierarchical Feature Learning on Point Sets in a Metric Space", NeurIPS 2017: from
/// point 0 on, each next one is the farthest from those chosen, the lowest index of equals. With
/// `skip_origin` 1, points with |p|^2 <= 1e-3 are taken for padding, which is never chosen after the first.
inline constexpr const char* kFarthestPointSample = "FarthestPointSample";
/// `BallQuery(points, centres; radius, samples)` -> indices [b, m, samples] int64, of points [b, n, 3] and
/// centres [b, m, 3]: the first points by index that are nearer than the radius. A row is filled up with its
/// first, and with 0 where there is none.
inline constexpr const char* kBallQuery = "BallQuery";
/// `NearestPoints(points, queries; k)` -> indices [b, m, k] int64 and weights [b, m, k]: the nearest points,
/// the lower index of equals, and 1 / (distance + 1e-8) over their sum.
inline constexpr const char* kNearestPoints = "NearestPoints";
/// `SuperpointCentres(points, ids)` -> [b, superpoints, 3], of points [b, n, 3] and ids [b, n] int64 from 0:
/// the means of the points of each id up to the largest in the batch; the origin where there are none.
inline constexpr const char* kSuperpointCentres = "SuperpointCentres";
/// `StopGradient(x)` -> x, through which no gradient flows back.
inline constexpr const char* kStopGradient = "StopGradient";

/// Below the distance in the weights of NearestPoints, metres.
inline constexpr float kSmallestPointDistance = 1e-8f;

/// Declares those that the graph uses as model-local functions. Throws Error(Input) below opset 17.
void add_point_functions(Graph& graph);

}  // namespace lithe
