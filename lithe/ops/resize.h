// How Resize maps an output axis to an input axis: which elements are read, with which weights.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lithe {

struct ResizeOptions {
  std::string mode = "nearest";  // nearest, linear, cubic
  std::string coordinates = "half_pixel";
  std::string nearest = "round_prefer_floor";  // or round_prefer_ceil, floor, ceil, simple (opset 10)
  float cubic_a = -0.75f;
  bool exclude_outside = false;
  bool antialias = false;
};

/// One axis of length `size` becomes `resized` long by `scale`; the roi only matters to tf_crop_and_resize.
struct ResizeAxis {
  std::int64_t size = 1, resized = 1;
  float scale = 1, roi_start = 0, roi_end = 1;
};

/// For every output position the same number of taps, row-major.
struct ResizeTaps {
  std::int64_t taps = 1;
  std::vector<std::int64_t> index;  // resized * taps
  std::vector<float> weight;        // likewise
  std::vector<bool> outside;        // resized; the position lies outside the input (tf_crop_and_resize)
};

/// Computed in float32 where ONNX Runtime does, so that ties fall alike.
ResizeTaps resize_taps(const ResizeAxis& axis, const ResizeOptions& options);

}  // namespace lithe
