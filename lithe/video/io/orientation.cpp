#include "lithe/video/io/orientation.h"

#include <algorithm>
#include <cstdlib>

#include "lithe/base/error.h"

namespace lithe {

int Orientation::rotation() const {
  // Mirroring left to right is taken off first: what is left is a plain rotation.
  const bool flip_right = mirrored() ? !flip_x : flip_x;
  if (!exchange) return flip_right ? 180 : 0;
  return flip_right ? 90 : 270;
}

Orientation Orientation::from_matrix(const std::int32_t* m, const std::string& name) {
  // x' = a x + c y, y' = b x + d y
  const std::int64_t a = m[0], b = m[1], c = m[3], d = m[4];
  const auto larger = [](std::int64_t u, std::int64_t v) { return std::max(std::abs(u), std::abs(v)); };
  const std::int64_t straight = std::min(std::abs(a), std::abs(d)),
                     crossed = std::min(std::abs(b), std::abs(c));
  constexpr std::int64_t kSlack = 64;  // of rounding, in parts of which `straight` or `crossed` is one
  if (straight > kSlack * larger(b, c)) return {false, a < 0, d < 0};
  if (crossed > kSlack * larger(a, d)) return {true, c < 0, b < 0};
  fail("{}: the video is to be turned by an angle that is not a multiple of 90 degrees; turn it first", name);
}

Frame oriented(const Frame& frame, const Orientation& o) {
  Frame out(o.exchange ? frame.width : frame.height, o.exchange ? frame.height : frame.width);
  for (int y = 0; y < out.height; ++y) {
    const int v = o.flip_y ? out.height - 1 - y : y;
    std::int16_t* to = out.at(y, 0);
    for (int x = 0; x < out.width; ++x, to += 3) {
      const int u = o.flip_x ? out.width - 1 - x : x;
      const std::int16_t* from = o.exchange ? frame.at(u, v) : frame.at(v, u);
      std::copy_n(from, 3, to);
    }
  }
  return out;
}

}  // namespace lithe
