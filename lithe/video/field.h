// Which pixel of one frame matches which of another.
#pragma once

#include <cstdint>
#include <vector>

#include "lithe/kernels/patch_image.h"

namespace lithe {

/// For each pixel of the target its match in the source, [height][width]. Sides are at most 16,384.
struct Field {
  int height = 0, width = 0;
  std::vector<std::int16_t> rows, columns;

  friend bool operator==(const Field&, const Field&) = default;
};

/// Each pixel matches itself.
Field identity_field(int height, int width);

/// `second` leads from the target to a frame in between, `first` from there on: out(p) = first(second(p)).
/// Throws Error(Input) where `second` leads out of `first`.
Field compose(const Field& first, const Field& second);

/// A field as the kernels take it, and back.
std::vector<Place> to_places(const Field& field);
Field to_field(const std::vector<Place>& places, int height, int width);

/// From a level to the next finer one of that size: N(2y + a, 2x + b) = 2 N(y, x), plus (a, b) if `exact`,
/// a, b in {0, 1}; where the size is not twice the coarse one, this is stretched linearly and truncated.
Field upsample(const Field& coarse, int height, int width, bool exact);

/// A field of full size on a coarser level of that size.
Field downsample(const Field& fine, int height, int width);

}  // namespace lithe
