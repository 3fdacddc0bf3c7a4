#include "lithe/video/match_candidates.h"

#include <algorithm>

namespace lithe {

void neighbour_candidates(const Place* places, const PyramidLevel& size, int row, int direction,
                          Place* candidates) {
  const int from = direction == 0   ? std::max(0, row - 1)
                   : direction == 2 ? std::min(size.height - 1, row + 1)
                                    : row;
  const Place* base = places + static_cast<std::int64_t>(from) * size.width;
  const Place lowest = place_at(size.height - 1, 0);
  switch (direction) {
    case 0:
      for (int x = 0; x < size.width; ++x)
        candidates[x] = base[x] < lowest ? base[x] + place_at(1, 0) : base[x];
      break;
    case 2:
      for (int x = 0; x < size.width; ++x)
        candidates[x] = base[x] >= place_at(1, 0) ? base[x] - place_at(1, 0) : base[x];
      break;
    default: {
      const int step = direction == 1 ? 1 : -1;
      for (int x = 0; x < size.width; ++x) {
        const Place neighbour = base[std::clamp(x - step, 0, size.width - 1)];
        const int column = place_column(neighbour) + step;
        candidates[x] = column >= 0 && column < size.width ? neighbour + step : neighbour;
      }
    }
  }
}

void random_candidates(const Place* places, const PyramidLevel& size, int row, int radius,
                       const MatchDraws::Step& step, Place* candidates) {
  const auto choices = static_cast<std::uint32_t>(2 * radius + 1);
  const std::int64_t first = static_cast<std::int64_t>(row) * size.width;
  for (int x = 0; x < size.width; ++x) {
    const Place place = places[first + x];
    const auto [down, right] = step.pair(static_cast<std::uint64_t>(first + x), choices, choices);
    candidates[x] = place_at(std::clamp(place_row(place) + down - radius, 0, size.height - 1),
                             std::clamp(place_column(place) + right - radius, 0, size.width - 1));
  }
}

}  // namespace lithe
