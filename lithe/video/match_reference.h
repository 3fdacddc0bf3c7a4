// The matching algorithm written down plainly, as the judge of the fast one.
#pragma once

#include <cstdint>
#include <opencv2/core/mat.hpp>
#include <vector>

#include "lithe/video/match.h"

namespace lithe {

/// In grey levels, 0..255, not rounded.
struct ReferenceMatch {
  Field field;
  cv::Mat picture;             // CV_64FC3
  std::vector<double> errors;  // [height][width]
};

/// `match` in double precision, patch by patch; about a hundred times slower. If `rounded`, the running style
/// is rounded as that of `match` is, and fields and errors are the same.
ReferenceMatch match_reference(const MatchPair& pair, const MatchOptions& options, std::uint64_t key,
                               const Field* start = nullptr, bool rounded = false);

/// Pictures are CV_64FC3 of one size. The mean of what patches vote for, and the weighted sums of squared
/// differences of patches around a pixel of the target and its match, beyond the border against black.
cv::Mat remap_reference(const Field& field, const cv::Mat& source, int patch);
std::vector<double> patch_errors_reference(const Field& field, const cv::Mat& source, const cv::Mat& target,
                                           int patch);

}  // namespace lithe
