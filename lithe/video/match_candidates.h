// Where better matches are looked for.
#pragma once

#include <cstdint>

#include "lithe/kernels/patch_image.h"
#include "lithe/video/match_draws.h"
#include "lithe/video/pyramid.h"

namespace lithe {

/// For row `row` of the target, the matches of the neighbours in a direction (0: above, 1: left, 2: below,
/// 3: right), moved by a pixel so that their offset is kept, and clamped to the frame. A missing neighbour is
/// the pixel itself. `places` are the matches of a level of that size; `candidates` has a place for each
/// column.
void neighbour_candidates(const Place* places, const PyramidLevel& size, int row, int direction,
                          Place* candidates);

/// The matches moved by up to `radius` pixels each way, clamped.
void random_candidates(const Place* places, const PyramidLevel& size, int row, int radius,
                       const MatchDraws::Step& step, Place* candidates);

}  // namespace lithe
