// Which points are picked, and which are near: the index searches of PointNet++.
//
// Qi et al., "PointNet++: Deep Hierarchical Feature Learning on Point Sets in a Metric Space", NeurIPS 2017.
// Points are float32 [n][3]; each function has a plain reference with the same results bit for bit.
#pragma once

#include <cstdint>

namespace lithe {

/// Distances of farthest point sampling start from this, squared metres; larger ones count as equal to it.
inline constexpr float kFarthest = 1e10f;
/// Points with a smaller or equal squared length count as padding where that is asked for.
inline constexpr float kPadding = 1e-3f;

/// Farthest point sampling from point 0: each next point is the one whose squared distance to those chosen is
/// largest, the lowest index of equals; chosen points stay candidates, at distance 0. With `skip_origin`,
/// points with |p|^2 <= kPadding count as padding and are never chosen after the first, as the published
/// operator does; nor are points whose squared length is not finite. 1 <= count, 1 <= n < 2^31; where no
/// point is a candidate, index 0 is repeated.
void farthest_points(const float* points, std::int64_t n, std::int64_t count, bool skip_origin,
                     std::int64_t* chosen);
void farthest_points_reference(const float* points, std::int64_t n, std::int64_t count, bool skip_origin,
                               std::int64_t* chosen);

/// For each of m centres the first `samples` points, in the order of their indices, whose squared distance is
/// below radius^2 strictly: neighbours [m][samples]. A row is filled up with its first hit, and with index 0
/// where there is none. 1 <= n < 2^31.
void ball_query(const float* points, std::int64_t n, const float* centres, std::int64_t m, float radius,
                std::int64_t samples, std::int64_t* neighbours);
void ball_query_reference(const float* points, std::int64_t n, const float* centres, std::int64_t m,
                          float radius, std::int64_t samples, std::int64_t* neighbours);

/// For each of m queries the `k` nearest of n points (k <= n < 2^31), nearest first, the lower index of
/// equals: indices and squared distances [m][k]. Distances that are not numbers count as infinite.
void nearest_points(const float* points, std::int64_t n, const float* queries, std::int64_t m, std::int64_t k,
                    std::int64_t* indices, float* squared_distances);
void nearest_points_reference(const float* points, std::int64_t n, const float* queries, std::int64_t m,
                              std::int64_t k, std::int64_t* indices, float* squared_distances);

class PointTree;

/// The same with the tree at hand: of its points, of which there are at least k, and none was left out.
/// Queries are independent: threads may share a tree.
void nearest_points(const PointTree& tree, const float* queries, std::int64_t m, std::int64_t k,
                    std::int64_t* indices, float* squared_distances);

}  // namespace lithe
