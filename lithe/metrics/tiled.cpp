#include "lithe/metrics/tiled.h"

#include <algorithm>

#include "lithe/base/error.h"

namespace lithe {

RunBatch tiled(const Graph& graph, RunBatch run, const Tiling& tiling, std::int64_t side,
               const std::string& wanted) {
  const std::int64_t step = (side + tiling.alignment - 1) / tiling.alignment * tiling.alignment;
  if (side < 1) fail("a tile of {} pixels is none", side);
  const std::string output = wanted.empty() ? graph.outputs.at(0).name : wanted;
  return [=, run = std::move(run)](const Feeds& feeds) {
    if (feeds.size() != 1 || feeds.begin()->second.dim() != 4) fail("tiles need one image [n, c, h, w]");
    const auto& [name, image] = *feeds.begin();
    const std::int64_t height = image.size(2), width = image.size(3);
    at::Tensor whole;
    for (std::int64_t top = 0; top < height; top += step)
      for (std::int64_t left = 0; left < width; left += step) {
        const std::int64_t bottom = std::min(height, top + step), right = std::min(width, left + step);
        const std::int64_t y0 = std::max<std::int64_t>(0, top - tiling.overlap),
                           x0 = std::max<std::int64_t>(0, left - tiling.overlap);
        const std::int64_t y1 = std::min(height, bottom + tiling.overlap),
                           x1 = std::min(width, right + tiling.overlap);
        const at::Tensor part = image.narrow(2, y0, y1 - y0).narrow(3, x0, x1 - x0).contiguous();
        const at::Tensor out = run({{name, part}}).at(output);
        const std::int64_t s = tiling.scale;
        if (out.dim() != 4 || out.size(2) != s * (y1 - y0) || out.size(3) != s * (x1 - x0))
          fail("a tile of {}x{} gave {}x{} pixels instead of {} times as many", y1 - y0, x1 - x0,
               out.dim() == 4 ? out.size(2) : 0, out.dim() == 4 ? out.size(3) : 0, s);
        if (!whole.defined())
          whole = at::empty({out.size(0), out.size(1), s * height, s * width}, out.options());
        whole.narrow(2, s * top, s * (bottom - top))
            .narrow(3, s * left, s * (right - left))
            .copy_(out.narrow(2, s * (top - y0), s * (bottom - top))
                       .narrow(3, s * (left - x0), s * (right - left)));
      }
    return Feeds{{output, whole}};
  };
}

}  // namespace lithe
