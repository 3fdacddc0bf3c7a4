// Searches among points in space, on tensors: batches of float32 [b, n, 3]. Results lie on the device of the
// points; the searches themselves run on the CPU, batch entries in parallel. Throw Error(Input) that begins
// with `what` if the tensors do not fit.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <utility>

namespace lithe {

/// See kFarthestPointSample. [b, count] int64.
at::Tensor farthest_points(const at::Tensor& points, std::int64_t count, bool skip_origin,
                           const std::string& what = "farthest points");
/// See kBallQuery. [b, m, samples] int64.
at::Tensor ball_query(const at::Tensor& points, const at::Tensor& centres, float radius, std::int64_t samples,
                      const std::string& what = "ball query");
/// See kNearestPoints. Indices [b, m, k] int64 and weights [b, m, k].
std::pair<at::Tensor, at::Tensor> nearest_points(const at::Tensor& points, const at::Tensor& queries,
                                                 std::int64_t k, const std::string& what = "nearest points");
/// See kSuperpointCentres. [b, largest id + 1, 3].
at::Tensor superpoint_centres(const at::Tensor& points, const at::Tensor& ids,
                              const std::string& what = "superpoint centres");

}  // namespace lithe
