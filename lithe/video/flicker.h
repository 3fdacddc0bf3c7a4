// Flicker of known kinds, put onto videos that have none.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "lithe/video/frame.h"

namespace lithe {

enum class FlickerKind {
  Gain,    // gain N(1, 0.10), of each channel besides N(1, 0.04), and an offset N(0, 8)
  Blotch,  // coloured clouds: 8x8 nodes of N(0, 15)
  Jitter,  // a smooth displacement, 8x8 nodes of N(0, 1.5) pixels, and white noise N(0, 8)
  Detail,  // as of diffusion models: noise between sigma 1.5 and 5, deviation 20, and gain N(1, 0.04)
  Styles,  // two styles that alternate, so that a mean is visibly wrong
};

inline constexpr std::array kFlickerKinds{FlickerKind::Gain, FlickerKind::Blotch, FlickerKind::Jitter,
                                          FlickerKind::Detail, FlickerKind::Styles};

/// "gain", "blotch", "jitter", "detail", "styles".
std::string_view to_string(FlickerKind kind);
/// Throws Error(Input) that lists the names.
FlickerKind flicker_kind(std::string_view name);

/// `frame` as number t of a flickering video: it depends on kind, seed and t alone. Figures above are in grey
/// levels of 255; the result is rounded and clipped. Of Styles, frames of even t stay as they are.
Frame flickering(const Frame& frame, FlickerKind kind, std::uint64_t seed, std::int64_t t);

}  // namespace lithe
