// Control pictures that need no network of their own.
#pragma once

#include <vector>

#include "lithe/video/frame.h"

namespace lithe {

/// White edges on black by Canny's detector (IEEE PAMI 1986) on grey levels, with thresholds in 8-bit levels,
/// as the Canny ControlNets were trained with. Throws Error(Input) unless 0 <= low <= high.
Frame canny_edges(const Frame& frame, double low = 100, double high = 200);

std::vector<Frame> canny_edges(const std::vector<Frame>& frames, double low = 100, double high = 200);

}  // namespace lithe
