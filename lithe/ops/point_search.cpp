// FarthestPointSample, BallQuery, NearestPoints, SuperpointCentres and StopGradient of domain "lithe".
#include "lithe/ops/point_search.h"

#include <ATen/Parallel.h>

#include <limits>
#include <vector>

#include "lithe/graph/point_function.h"
#include "lithe/kernels/point_search.h"
#include "lithe/ops/support.h"

namespace lithe {
namespace {

constexpr std::int64_t kMostSamples = 1 << 24;

/// On the CPU, contiguous, float32.
at::Tensor plain_points(const at::Tensor& points, const std::string& what) {
  if (points.dim() != 3 || points.size(2) != 3 || points.scalar_type() != at::kFloat)
    fail("{}: points must be float32 [n, points, 3], not {} {}", what,
         dtype_name(dtype_of_scalar(points.scalar_type())), format_shape(shape_of(points)));
  if (points.size(1) < 1 || points.size(1) > std::numeric_limits<std::int32_t>::max())
    fail("{}: {} points cannot be searched", what, points.size(1));
  return points.detach().to(at::kCPU).contiguous();
}

void check_count(std::int64_t count, const char* name, const std::string& what) {
  if (count < 1 || count > kMostSamples)
    fail("{}: '{}' is {}; it must be 1 to {}", what, name, count, kMostSamples);
}

void check_batches(const at::Tensor& points, const at::Tensor& centres, const std::string& what) {
  if (points.size(0) != centres.size(0))
    fail("{}: {} sets of points do not fit {} sets of places", what, points.size(0), centres.size(0));
}

at::Tensor new_indices(at::IntArrayRef shape) {
  return at::empty(shape, at::TensorOptions(at::kLong));
}

std::vector<at::Tensor> run_farthest(const OpCall& call) {
  return {farthest_points(call.input(0), call.node.attr("count", std::int64_t{0}),
                          call.node.attr("skip_origin", std::int64_t{0}) != 0, describe(call.node))};
}

std::vector<at::Tensor> run_ball(const OpCall& call) {
  return {ball_query(call.input(0), call.input(1), call.node.attr("radius", 0.0f),
                     call.node.attr("samples", std::int64_t{0}), describe(call.node))};
}

std::vector<at::Tensor> run_nearest(const OpCall& call) {
  auto [indices, weights] =
      nearest_points(call.input(0), call.input(1), call.node.attr("k", std::int64_t{0}), describe(call.node));
  return {indices, weights};
}

std::vector<at::Tensor> run_centres(const OpCall& call) {
  return {superpoint_centres(call.input(0), call.input(1), describe(call.node))};
}

std::vector<at::Tensor> run_stop(const OpCall& call) {
  return {call.input(0).detach()};
}

}  // namespace

at::Tensor farthest_points(const at::Tensor& points, std::int64_t count, bool skip_origin,
                           const std::string& what) {
  const at::Tensor from = plain_points(points, what);
  check_count(count, "count", what);
  const std::int64_t batch = from.size(0), n = from.size(1);
  const at::Tensor chosen = new_indices({batch, count});
  const float* data = from.data_ptr<float>();
  std::int64_t* out = chosen.data_ptr<std::int64_t>();
  at::parallel_for(0, batch, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b)
      lithe::farthest_points(data + b * n * 3, n, count, skip_origin, out + b * count);
  });
  return chosen.to(points.device());
}

at::Tensor ball_query(const at::Tensor& points, const at::Tensor& centres, float radius, std::int64_t samples,
                      const std::string& what) {
  const at::Tensor from = plain_points(points, what), around = plain_points(centres, what);
  check_batches(from, around, what);
  check_count(samples, "samples", what);
  if (!(radius > 0)) fail("{}: the radius {} is not positive", what, radius);
  const std::int64_t batch = from.size(0), n = from.size(1), m = around.size(1);
  const at::Tensor neighbours = new_indices({batch, m, samples});
  const float *data = from.data_ptr<float>(), *places = around.data_ptr<float>();
  std::int64_t* out = neighbours.data_ptr<std::int64_t>();
  at::parallel_for(0, batch, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b)
      lithe::ball_query(data + b * n * 3, n, places + b * m * 3, m, radius, samples, out + b * m * samples);
  });
  return neighbours.to(points.device());
}

std::pair<at::Tensor, at::Tensor> nearest_points(const at::Tensor& points, const at::Tensor& queries,
                                                 std::int64_t k, const std::string& what) {
  const at::Tensor from = plain_points(points, what), around = plain_points(queries, what);
  check_batches(from, around, what);
  const std::int64_t batch = from.size(0), n = from.size(1), m = around.size(1);
  if (k < 1 || k > n) fail("{}: 'k' is {}, but there are {} points", what, k, n);
  const at::Tensor indices = new_indices({batch, m, k}), squares = at::empty({batch, m, k}, from.options());
  const float *data = from.data_ptr<float>(), *places = around.data_ptr<float>();
  std::int64_t* out = indices.data_ptr<std::int64_t>();
  float* distances = squares.data_ptr<float>();
  at::parallel_for(0, batch, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b)
      lithe::nearest_points(data + b * n * 3, n, places + b * m * 3, m, k, out + b * m * k,
                            distances + b * m * k);
  });
  const at::Tensor inverse = (squares.sqrt() + kSmallestPointDistance).reciprocal();
  return {indices.to(points.device()), (inverse / inverse.sum({-1}, true)).to(points.device())};
}

at::Tensor superpoint_centres(const at::Tensor& points, const at::Tensor& ids, const std::string& what) {
  const at::Tensor from = plain_points(points, what);
  if (ids.dim() != 2 || ids.size(0) != from.size(0) || ids.size(1) != from.size(1) ||
      ids.scalar_type() != at::kLong)
    fail("{}: ids {} do not fit the points {}; they must be int64, one a point", what,
         format_shape(shape_of(ids)), format_shape(shape_of(points)));
  const at::Tensor own = ids.to(at::kCPU).contiguous();
  const std::int64_t batch = from.size(0), n = from.size(1);
  const std::int64_t slots = own.numel() == 0 ? 0 : own.max().item<std::int64_t>() + 1;
  if (own.numel() > 0 && own.min().item<std::int64_t>() < 0) fail("{}: an id is negative", what);
  check_count(slots, "number of superpoints", what);
  const at::Tensor centres = at::zeros({batch, slots, 3}, from.options());
  const float* data = from.data_ptr<float>();
  const std::int64_t* id = own.data_ptr<std::int64_t>();
  float* out = centres.data_ptr<float>();
  at::parallel_for(0, batch, 1, [&](std::int64_t begin, std::int64_t end) {
    std::vector<double> sums(static_cast<std::size_t>(slots) * 4);  // x, y, z and how many
    for (std::int64_t b = begin; b < end; ++b) {
      std::fill(sums.begin(), sums.end(), 0.0);
      for (std::int64_t i = b * n; i < (b + 1) * n; ++i) {
        double* sum = sums.data() + id[i] * 4;
        for (int axis = 0; axis < 3; ++axis) sum[axis] += static_cast<double>(data[i * 3 + axis]);
        ++sum[3];
      }
      for (std::int64_t s = 0; s < slots; ++s)
        for (int axis = 0; axis < 3; ++axis)
          if (sums[static_cast<std::size_t>(s * 4 + 3)] > 0)
            out[(b * slots + s) * 3 + axis] = static_cast<float>(
                sums[static_cast<std::size_t>(s * 4 + axis)] / sums[static_cast<std::size_t>(s * 4 + 3)]);
    }
  });
  return centres.to(points.device());
}

void register_point_search(OpRegistry& registry) {
  registry.add(kFarthestPointSample, run_farthest, 1, 1, "lithe");
  registry.add(kBallQuery, run_ball, 1, 1, "lithe");
  registry.add(kNearestPoints, run_nearest, 1, 1, "lithe");
  registry.add(kSuperpointCentres, run_centres, 1, 1, "lithe");
  registry.add(kStopGradient, run_stop, 1, 1, "lithe");
}

}  // namespace lithe
