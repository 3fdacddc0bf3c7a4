// Giving back the fine detail that averaging takes.
#pragma once

#include <opencv2/core/mat.hpp>

#include "lithe/video/frame.h"

namespace lithe {

/// Averages of pictures that do not lie on one another to a fraction of a pixel are blurred. `own` is the
/// frame as it was, sharp but flickering, and `share` (CV_32F, 0..1) its part of the average. In each of two
/// bands of fine detail the average is amplified, nowhere more than twice, by the factor with which it
/// explains the own frame in a neighbourhood of 15 pixels: what flickers does not correlate and is not
/// brought back. Nothing is made weaker.
Frame restore_detail(const Frame& average, const Frame& own, const cv::Mat& share);

}  // namespace lithe
