#include "lithe/quantize/reconstruct/cached_rows.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <vector>

namespace lithe {
namespace {

constexpr std::int64_t kElementsAThread = 65536;  // fewer are not worth starting one

/// Runs work(position, row) for each of `indices`, on several threads if the rows are long enough.
template <typename Work>
void for_each_row(const at::Tensor& indices, std::int64_t elements, const Work& work) {
  const auto* picked = indices.data_ptr<std::int64_t>();
  const std::int64_t grain =
      std::max<std::int64_t>(1, kElementsAThread / std::max<std::int64_t>(1, elements));
  at::parallel_for(0, indices.numel(), grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) work(i, picked[i]);
  });
}

/// Sum of squares of y - wanted; `gradient` becomes y - wanted times `factor`.
double squared_error(const float* y, const float* wanted, float* gradient, std::int64_t count, float factor) {
  constexpr std::int64_t kLanes = 16, kBlock = 2048;  // partial sums short enough for float32
  double sum = 0;
  for (std::int64_t begin = 0; begin < count; begin += kBlock) {
    const std::int64_t end = std::min(count, begin + kBlock), whole = begin + (end - begin) / kLanes * kLanes;
    std::array<float, kLanes> lanes{};
    std::int64_t j = begin;
    for (; j < whole; j += kLanes)
      for (std::int64_t k = 0; k < kLanes; ++k) {
        const float difference = y[j + k] - wanted[j + k];
        lanes[static_cast<std::size_t>(k)] += difference * difference;
        gradient[j + k] = difference * factor;
      }
    for (; j < end; ++j) {
      const float difference = y[j] - wanted[j];
      lanes[0] += difference * difference;
      gradient[j] = difference * factor;
    }
    for (const float lane : lanes) sum += lane;
  }
  return sum;
}

/// Whether `gather` would lay the tensor out as it is: samples one after the other, images in NHWC order.
bool in_row_order(const at::Tensor& x) {
  return x.dim() == 4 ? x.permute({0, 2, 3, 1}).is_contiguous() : x.is_contiguous();
}

}  // namespace

at::Tensor gather_mixed(const SampleCache& quantized, const SampleCache& full, const at::Tensor& indices,
                        const DropMask& mask) {
  const at::Tensor from = quantized.float_rows(), other = full.float_rows();
  if (!from.defined() || !other.defined() || from.sizes() != other.sizes()) return {};
  const std::int64_t elements = from.size(1);
  at::Tensor blend = at::empty({indices.numel(), elements}, from.options());
  const float *a = from.data_ptr<float>(), *b = other.data_ptr<float>();
  float* to = blend.data_ptr<float>();
  for_each_row(indices, elements, [&](std::int64_t i, std::int64_t row) {
    mix(a + row * elements, b + row * elements, to + i * elements, elements, mask, i * elements);
  });
  return quantized.present(blend);
}

std::optional<ReconstructionLoss> fused_loss(const at::Tensor& output, const SampleCache& cache,
                                             const at::Tensor& indices, double scale) {
  const at::Tensor rows = cache.float_rows();
  if (!rows.defined() || !output.device().is_cpu() || output.scalar_type() != at::kFloat ||
      !in_row_order(output) || output.numel() != indices.numel() * rows.size(1))
    return std::nullopt;
  const std::int64_t elements = rows.size(1);
  at::Tensor gradient = at::empty_like(output);
  const float *y = output.data_ptr<float>(), *wanted = rows.data_ptr<float>();
  float* to = gradient.data_ptr<float>();
  std::vector<double> sums(static_cast<std::size_t>(indices.numel()));
  for_each_row(indices, elements, [&](std::int64_t i, std::int64_t row) {
    sums[static_cast<std::size_t>(i)] =
        squared_error(y + i * elements, wanted + row * elements, to + i * elements, elements,
                      static_cast<float>(2 * scale));
  });
  return ReconstructionLoss{std::accumulate(sums.begin(), sums.end(), 0.0) * scale, gradient};
}

}  // namespace lithe
