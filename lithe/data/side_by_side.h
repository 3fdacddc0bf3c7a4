// Pictures beside one another, for people to compare.
#pragma once

#include <ATen/ATen.h>

#include <string>
#include <vector>

namespace lithe {

struct LabelledPicture {
  std::string label;
  at::Tensor pixels;  // [3 or 1, h, w] of 0..255
};

/// A PNG of the pictures in a row under their labels, each pixel `magnify` times as large. All must have one
/// size. Throws Error(Input) otherwise.
std::string side_by_side_png(const std::vector<LabelledPicture>& pictures, int magnify);

}  // namespace lithe
