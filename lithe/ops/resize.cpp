#include "lithe/ops/resize.h"

#include <algorithm>
#include <cmath>

namespace lithe {
namespace {

float original_position(float x, const ResizeAxis& axis, const std::string& coordinates) {
  const float size = static_cast<float>(axis.size), resized = static_cast<float>(axis.resized);
  if (coordinates == "asymmetric") return x / axis.scale;
  if (coordinates == "align_corners") return axis.resized == 1 ? 0 : x * (size - 1) / (resized - 1);
  if (coordinates == "pytorch_half_pixel") return axis.resized > 1 ? (x + 0.5f) / axis.scale - 0.5f : 0;
  if (coordinates == "tf_half_pixel_for_nn") return (x + 0.5f) / axis.scale;
  if (coordinates == "half_pixel_symmetric") {
    // In double: ONNX Runtime's ties of nearest fall as if the sum were rounded once.
    const double width = static_cast<double>(axis.scale) * size;
    return static_cast<float>(size / 2 * (1 - resized / width) + (x + 0.5) / axis.scale - 0.5);
  }
  if (coordinates == "tf_crop_and_resize") {
    if (axis.resized == 1) return 0.5f * (axis.roi_start + axis.roi_end) * (size - 1);
    return axis.roi_start * (size - 1) + x * (axis.roi_end - axis.roi_start) * (size - 1) / (resized - 1);
  }
  return (x + 0.5f) / axis.scale - 0.5f;  // half_pixel
}

std::int64_t nearest_index(float x, bool shrinks, const std::string& mode) {
  if (mode == "floor") return static_cast<std::int64_t>(std::floor(x));
  if (mode == "ceil") return static_cast<std::int64_t>(std::ceil(x));
  if (mode == "round_prefer_ceil") return static_cast<std::int64_t>(std::floor(x + 0.5f));
  if (mode == "simple") return static_cast<std::int64_t>(shrinks ? std::ceil(x) : std::trunc(x));
  return static_cast<std::int64_t>(std::ceil(x - 0.5f));
}

/// Keys' cubic convolution kernel.
float cubic(float x, float a) {
  x = std::abs(x);
  if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
  return 0;
}

float triangle(float x) {
  return std::max(0.0f, 1 - std::abs(x));
}

}  // namespace

ResizeTaps resize_taps(const ResizeAxis& axis, const ResizeOptions& options) {
  ResizeTaps result;
  const bool is_nearest = options.mode == "nearest", is_cubic = options.mode == "cubic";
  // When an axis shrinks, antialiasing widens the kernel by 1 / scale.
  const float squeeze = options.antialias ? std::min(axis.scale, 1.0f) : 1.0f;
  const std::int64_t first =
      is_nearest ? 0 : static_cast<std::int64_t>(std::floor((is_cubic ? -2 : -1) / squeeze)) + 1;
  result.taps = is_nearest ? 1 : 2 - 2 * first;
  const auto total = static_cast<std::size_t>(axis.resized * result.taps);
  result.index.reserve(total);
  result.weight.reserve(total);
  for (std::int64_t i = 0; i < axis.resized; ++i) {
    const float position = original_position(static_cast<float>(i), axis, options.coordinates);
    result.outside.push_back(options.coordinates == "tf_crop_and_resize" &&
                             (position < 0 || position > static_cast<float>(axis.size - 1)));
    const auto clamp = [&](std::int64_t index) { return std::clamp<std::int64_t>(index, 0, axis.size - 1); };
    if (is_nearest) {
      result.index.push_back(clamp(nearest_index(position, axis.scale < 1, options.nearest)));
      result.weight.push_back(1);
      continue;
    }
    const std::int64_t base = static_cast<std::int64_t>(std::floor(position));
    const float ratio = position - static_cast<float>(base);
    float sum = 0;
    const std::size_t begin = result.weight.size();
    for (std::int64_t tap = first; tap < first + result.taps; ++tap) {
      const float distance = (static_cast<float>(tap) - ratio) * squeeze;
      float weight = is_cubic ? cubic(distance, options.cubic_a) : triangle(distance);
      const std::int64_t index = base + tap;
      if (options.exclude_outside && index != clamp(index)) weight = 0;
      result.index.push_back(clamp(index));
      result.weight.push_back(weight);
      sum += weight;
    }
    if (options.exclude_outside || squeeze < 1)
      for (std::size_t k = begin; k < result.weight.size(); ++k) result.weight[k] /= sum == 0 ? 1 : sum;
  }
  return result;
}

}  // namespace lithe
