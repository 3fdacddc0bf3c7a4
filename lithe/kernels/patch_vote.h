// A picture put together of the patches that its pixels' neighbours match.
#pragma once

#include <cstdint>
#include <vector>

#include "lithe/kernels/patch_image.h"

namespace lithe {

struct VoteWorkspace {
  std::vector<std::int32_t> sums, ramp;
  std::vector<std::int16_t> row;
};

/// out(p) = mean of style(N(p + o) - o) over the offsets o of a patch of odd side `patch` (up to
/// kLargestPatch) for which p + o lies in the target and the place in the source, rounded to the nearest
/// (halves up). `places` are N [height][width]; pixels of `out` are `pixel_step` numbers apart, its rows
/// `row_step`, and three numbers a pixel are written.
///
/// Of neighbours with one offset all vote for one pixel of the style: each run of them in a row is added to
/// the rows around it at once, with the number of its members in reach as a factor.
void patch_vote(const VoteImage& style, const Place* places, int height, int width, int patch,
                std::int16_t* out, std::int64_t pixel_step, std::int64_t row_step, VoteWorkspace& workspace);
void patch_vote_reference(const VoteImage& style, const Place* places, int height, int width, int patch,
                          std::int16_t* out, std::int64_t pixel_step, std::int64_t row_step);

}  // namespace lithe
