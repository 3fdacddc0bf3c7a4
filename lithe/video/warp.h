// Bringing a picture to another frame's geometry at fractions of a pixel.
#pragma once

#include <cstdint>
#include <opencv2/core/mat.hpp>
#include <optional>
#include <vector>

#include "lithe/video/frame.h"
#include "lithe/video/match.h"

namespace lithe {

/// Where each pixel of the target lies in the source (CV_32FC2: column, row), and how far the guides differ
/// there: the mean over a 5x5 window and the channels of the squared difference, in quarter grey levels
/// (CV_32F).
struct FineField {
  cv::Mat positions, residual;
};

/// Whole-pixel matches by the optical flow of the guides, for the search to start from; nothing for frames
/// too small for it.
std::optional<Field> matches_by_flow(const Frame& source_guide, const Frame& target_guide);

/// The matches as they are.
FineField whole_pixels(const Field& field, const Frame& source_guide, const Frame& target_guide);

/// Refines whole-pixel matches by steps of Lucas and Kanade (1981) on the brightness of the guides. Where
/// matches of a neighbourhood contradict one another, or where the refined position fits worse, the match
/// stays as it was.
FineField refine(const Field& field, const Frame& source_guide, const Frame& target_guide);

/// The source at those positions, by cubic interpolation; the border is repeated.
Frame sample_at(const FineField& field, const Frame& source);

/// Of weights [height][width], the one at the nearest pixel of each position.
std::vector<std::uint16_t> weights_at(const FineField& field, const std::vector<std::uint16_t>& weights);

/// The variance of the style's flicker, from how much a brought picture and the frame it was brought to
/// differ where their guides agree: in squared quarter grey levels.
float flicker_variance(const FineField& field, const Frame& brought, const Frame& style);

/// How much a brought pixel may count, 0..1 (CV_32F), beside one whose guide agrees: by the inverse of the
/// expected squared error, which is `variance` and, taken from the guides, what comes of matching the wrong
/// place. Where everything flickers much, a wrong place does little harm.
cv::Mat trust(const FineField& field, float variance);

}  // namespace lithe
