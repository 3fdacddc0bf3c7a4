// Rounding to points of a table: SubsetQuantize and DynamicSubsetQuantize of domain "lithe".
#include "lithe/ops/subset_quantize.h"

#include <ATen/Parallel.h>

#include <bit>
#include <string>
#include <vector>

#include "lithe/graph/subset_function.h"
#include "lithe/kernels/subset_lookup.h"
#include "lithe/ops/fake_quantize.h"
#include "lithe/ops/support.h"

namespace lithe {
namespace {

at::Tensor rounded(const at::Tensor& x, const at::Tensor& points, const SubsetNormalisation& how) {
  const at::Tensor dense = x.detach().to(at::kCPU, at::kFloat).contiguous();
  const at::Tensor rows = points.to(at::kCPU, at::kShort).contiguous();
  const at::Tensor mean = how.dynamic ? at::Tensor() : how.mean.to(at::kCPU, at::kFloat).contiguous();
  const at::Tensor scale = how.dynamic ? at::Tensor() : how.scale.to(at::kCPU, at::kFloat).contiguous();
  at::Tensor out = at::empty_like(dense);
  const std::int64_t samples = dense.size(0), channels = dense.size(1), width = rows.size(1),
                     plane = dense.size(2) * dense.size(3);
  if (plane == 0 || samples == 0) return out.to(x.options());
  const float* from = dense.data_ptr<float>();
  float* to = out.data_ptr<float>();
  const std::int16_t* table_rows = rows.data_ptr<std::int16_t>();
  constexpr std::int64_t kElementsAThread = 65536;
  const std::int64_t grain = std::max<std::int64_t>(1, kElementsAThread / (plane * samples));
  at::parallel_for(0, channels, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t c = begin; c < end; ++c) {
      const SubsetTable table(
          std::span<const std::int16_t>(table_rows + c * width, static_cast<std::size_t>(width)));
      for (std::int64_t n = 0; n < samples; ++n) {
        const std::int64_t offset = (n * channels + c) * plane;
        SubsetTransform transform{.restore = how.restore};
        if (how.dynamic) {
          const PlaneStatistics seen = plane_statistics(from + offset, plane, how.centre);
          transform.mean = seen.mean;
          transform.scale = seen.scale;
        } else {
          transform.mean = mean.data_ptr<float>()[c];
          transform.scale = scale.data_ptr<float>()[c];
        }
        subset_lookup(from + offset, to + offset, plane, table, transform);
      }
    }
  });
  return out.to(x.options());
}

/// The mask of the optional input `drop`: its key, and the share that is kept in units of 1/65536.
at::Tensor dropped(const OpCall& call, std::size_t index, const at::Tensor& x, const at::Tensor& y) {
  if (!call.has(index)) return y;
  const std::vector<std::int64_t> drop = call.ints(index);
  if (drop.size() != 2 || drop[1] < 0 || drop[1] > drop::kAll)
    fail("{}: drop must be a key and a number from 0 to {}", describe(call.node), drop::kAll);
  if (drop[1] == drop::kAll) return y;
  const DropMask mask{std::bit_cast<std::uint64_t>(drop[0]), static_cast<double>(drop[1]) / drop::kAll};
  return at::where(drop_mask(x, mask), y, x);
}

/// x, points, mean, scale[, drop]; attribute restore: 1 to multiply by scale and add mean afterwards, which
/// the other inputs and the function in files do without.
std::vector<at::Tensor> subset_quantize_operator(const OpCall& call) {
  const bool restore = call.node.attr("restore", std::int64_t{0}) != 0;
  const at::Tensor& x = call.input(0);
  const at::Tensor y = subset_quantize(
      x, call.input(1),
      {.mean = call.input(2).reshape({-1}), .scale = call.input(3).reshape({-1}), .restore = restore},
      describe(call.node));
  return {dropped(call, 4, x, y)};
}

/// x, points, centre[, drop].
std::vector<at::Tensor> dynamic_subset_quantize_operator(const OpCall& call) {
  if (call.input(2).numel() != 1) fail("{}: centre must be one number", describe(call.node));
  const double centre = call.input(2).item<double>();
  if (centre != 0 && centre != 1) fail("{}: centre must be 0 or 1, not {}", describe(call.node), centre);
  const at::Tensor& x = call.input(0);
  const at::Tensor y =
      subset_quantize(x, call.input(1), {.dynamic = true, .centre = centre == 1}, describe(call.node));
  return {dropped(call, 3, x, y)};
}

}  // namespace

at::Tensor subset_quantize(const at::Tensor& x, const at::Tensor& points,
                           const SubsetNormalisation& normalisation, const std::string& what) {
  if (x.dim() != 4) fail("{}: points are for images [n, c, h, w], not {}", what, format_shape(shape_of(x)));
  if (points.dim() != 2 || points.size(0) != x.size(1) || points.size(1) < 1)
    fail("{}: the points {} do not fit the input {}", what, format_shape(shape_of(points)),
         format_shape(shape_of(x)));
  if (!normalisation.dynamic)
    for (const at::Tensor& one : {normalisation.mean, normalisation.scale})
      if (one.numel() != x.size(1))
        fail("{}: {} means or scales do not fit the input {}", what, one.numel(), format_shape(shape_of(x)));
  at::Tensor y = rounded(x, points, normalisation);
  if (!x.requires_grad() || !at::GradMode::is_enabled()) return y;
  if (normalisation.restore) return x + (y - x).detach();
  const at::Tensor slope = 1 / normalisation.scale.reshape({-1, 1, 1});
  return x * slope + (y - x * slope).detach();
}

void register_subset_quantize(OpRegistry& registry) {
  registry.add(kSubsetQuantize, subset_quantize_operator, 1, 1, "lithe");
  registry.add(kDynamicSubsetQuantize, dynamic_subset_quantize_operator, 1, 1, "lithe");
}

}  // namespace lithe
