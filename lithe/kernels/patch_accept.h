// The better of two matches, for each pixel.
#pragma once

#include <cstdint>

#include "lithe/kernels/patch_error.h"

namespace lithe {

/// For the `count` pixels of a row of the target from `first` on: where the candidate's error is strictly
/// below `errors`, it takes the place of the match in `places`. `lost` holds for each pixel a place that is
/// known to be no better than the match, or -1; it saves work and never changes the result.
void patch_accept(const PatchTask& task, Place first, const Place* candidates, std::int64_t count,
                  Place* places, std::int64_t* errors, Place* lost, PatchWorkspace& workspace);
void patch_accept_reference(const PatchTask& task, Place first, const Place* candidates, std::int64_t count,
                            Place* places, std::int64_t* errors);

}  // namespace lithe
