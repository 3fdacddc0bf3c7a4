#include "lithe/video/pyramid.h"

#include <algorithm>
#include <cmath>
#include <opencv2/imgproc.hpp>

#include "lithe/base/error.h"
#include "lithe/kernels/patch_image.h"
#include "lithe/video/planes.h"

namespace lithe {

void check(const MatchOptions& o) {
  if (o.patch < 1 || o.patch % 2 == 0)
    fail("a patch of {} pixels has no centre; its side must be odd and positive, as 5 is", o.patch);
  if (o.iterations < 1 || o.iterations > kLargestPatch)
    fail("{} iterations a level are not possible; 1 to {} are", o.iterations, kLargestPatch);
  if (const int largest = o.patch + 2 * (o.iterations - 1); largest > kLargestPatch)
    fail("patches would begin with {} pixels, more than {}; choose a smaller patch or fewer iterations",
         largest, kLargestPatch);
  if (!(o.guide_weight >= 0 && o.guide_weight <= 10000))
    fail("guide weight {} does not lie in 0..10000", o.guide_weight);
  if (o.random_steps < 0 || o.random_steps > 64)
    fail("{} random steps are not possible; 0 to 64 are", o.random_steps);
  if (o.random_radius < 0 || o.random_radius > kLargestSide)
    fail("a random radius of {} pixels is not possible; 0 to {} are", o.random_radius, kLargestSide);
  if (o.warm_levels < 1) fail("{} warm levels are too few; 1 is the least", o.warm_levels);
  if (o.warm_iterations < 1) fail("{} warm iterations are too few; 1 is the least", o.warm_iterations);
  if (o.tracking < 0 || o.tracking > 1000)
    fail("a tracking window of {} frames is not possible; 0 to 1000 are", o.tracking);
}

std::vector<PyramidLevel> pyramid_levels(int height, int width, const MatchOptions& options) {
  const int shorter = std::min(height, width), largest = options.patch + 2 * (options.iterations - 1);
  int levels = 1;
  while ((shorter >> (levels + 1)) >= largest) ++levels;
  std::vector<PyramidLevel> sizes;
  for (int l = levels - 1; l >= 0; --l) sizes.push_back({height >> l, width >> l});
  return sizes;
}

std::vector<int> patch_sizes(const PyramidLevel& finest, const MatchOptions& options) {
  const int shorter = std::min(finest.height, finest.width), most = shorter - (shorter + 1) % 2;
  std::vector<int> sizes;
  for (int k = options.iterations - 1; k >= 0; --k) sizes.push_back(std::min(options.patch + 2 * k, most));
  return sizes;
}

Pyramid::Pyramid(const Frame& frame, const MatchOptions& options) {
  const std::vector<PyramidLevel> sizes = pyramid_levels(frame.height, frame.width, options);
  for (const PyramidLevel& size : sizes) {
    Frame& level = levels_.emplace_back(size.height, size.width);
    if (level.same_size(frame)) {
      level = frame;
    } else {
      cv::Mat out = as_mat(level);
      cv::resize(as_mat(frame), out, out.size(), 0, 0, cv::INTER_AREA);
    }
  }
}

Pyramid make_pyramid(const Frame& frame, const MatchOptions& options) {
  check(options);
  if (frame.height < 1 || frame.width < 1) fail("a frame without pixels cannot be matched");
  if (std::max(frame.height, frame.width) > kLargestSide)
    fail("frames of {}x{} are too large to match; sides may have {} pixels", frame.width, frame.height,
         kLargestSide);
  return {frame, options};
}

}  // namespace lithe
