#include "lithe/video/patch_planes.h"

#include <cstddef>

namespace lithe {
namespace {

/// Zeros of a picture with a border on every side and room behind for vectors.
void clear(std::vector<std::int16_t>& values, const Frame& frame, int border, int channels,
           std::int64_t& stride, std::int64_t& origin) {
  stride = frame.width + 2 * static_cast<std::int64_t>(border);
  origin = (border * stride + border) * channels;
  const std::int64_t pixels = (frame.height + 2 * static_cast<std::int64_t>(border)) * stride + kPatchSlack;
  values.assign(static_cast<std::size_t>(pixels * channels), 0);
}

}  // namespace

void PatchPlane::set(const Frame& guide, const Frame* style, int border) {
  clear(values_, guide, border, 8, stride_, origin_);
  for (int y = 0; y < guide.height; ++y) {
    std::int16_t* out = values_.data() + origin_ + y * stride_ * 8;
    const std::int16_t *g = guide.at(y, 0), *s = style ? style->at(y, 0) : nullptr;
    for (int x = 0; x < guide.width; ++x, out += 8, g += 3) {
      for (int c = 0; c < 3; ++c) out[c] = g[c];
      if (!s) continue;
      for (int c = 0; c < 3; ++c) out[4 + c] = s[c];
      s += 3;
    }
  }
}

void VotePlane::set(const Frame& style, int border) {
  clear(values_, style, border, 4, stride_, origin_);
  for (int y = 0; y < style.height; ++y) {
    std::int16_t* out = values_.data() + origin_ + y * stride_ * 4;
    const std::int16_t* s = style.at(y, 0);
    for (int x = 0; x < style.width; ++x, out += 4, s += 3) {
      for (int c = 0; c < 3; ++c) out[c] = s[c];
      out[3] = 1;
    }
  }
}

}  // namespace lithe
