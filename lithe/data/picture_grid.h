// Many pictures in one.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <vector>

namespace lithe {

/// The grid's columns, gap in pixels, height and width.
struct GridSize {
  std::int64_t columns = 0, gap = 0, height = 0, width = 0;
};
/// Of `count` pictures of `shape` (channels, height, width); throws Error(Input) as `grid_png` does.
GridSize grid_size(std::int64_t count, const std::vector<std::int64_t>& shape, std::int64_t columns,
                   std::int64_t magnify);

/// A PNG of pictures [n, c, h, w] (uint8; gray or RGB) in rows of `columns` (0: about a square), each pixel
/// `magnify` times as large, with a gap between them. Throws Error(Input) if they are no such pictures or the
/// result would have more than 2^28 pixels.
std::string grid_png(const at::Tensor& pictures, std::int64_t columns = 0, std::int64_t magnify = 1);

/// A PNG of one picture [c, h, w].
std::string picture_png(const at::Tensor& picture);

}  // namespace lithe
