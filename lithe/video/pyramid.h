// The sizes at which frames are matched, coarse to fine.
#pragma once

#include <cstdint>
#include <vector>

#include "lithe/video/frame.h"

namespace lithe {

struct MatchOptions {
  int patch = 5;             // smallest patch side, odd
  int iterations = 5;        // a level; patch sides fall by 2 to `patch`
  double guide_weight = 10;  // of the guide against the style, 0..10,000; rounded to 256ths
  int random_steps = 3;      // random candidates an iteration
  int random_radius = 4;     // in pixels of the level
  enum class Start { Identity, Random } start = Start::Identity;
  bool exact_upsample = false;  // the published transfer between levels adds no odd pixel
  bool random_order = true;     // of the four directions of propagation; otherwise above, left, below, right
  int warm_levels = 2;          // finest levels that are matched where a start is given
  int warm_iterations = 2;      // on each of them, those of the smallest patches
  int tracking = 0;             // frames on each side to take matches over from, when matched together
  std::uint64_t seed = 0;
};

/// Throws Error(Input) naming the option that is out of its range: the patch must be odd, the largest patch,
/// patch + 2 (iterations - 1), at most 45.
void check(const MatchOptions& options);

struct PyramidLevel {
  int height = 0, width = 0;
};

/// Coarse to fine; the last is the full size, and each halves the next, rounding down. There are
/// trunc(log2(shorter side / largest patch)) levels, and one where that is less.
std::vector<PyramidLevel> pyramid_levels(int height, int width, const MatchOptions& options);

/// The sides of the patches at a level of that size, one an iteration, falling by 2 to `options.patch`. None
/// is larger than the shorter side of the frame.
std::vector<int> patch_sizes(const PyramidLevel& finest, const MatchOptions& options);

/// A frame at the sizes of `pyramid_levels`, by averages over areas.
class Pyramid {
 public:
  Pyramid() = default;
  Pyramid(const Frame& frame, const MatchOptions& options);

  int levels() const { return static_cast<int>(levels_.size()); }
  const Frame& level(int number) const { return levels_[static_cast<std::size_t>(number)]; }  // 0: coarsest
  const Frame& finest() const { return levels_.back(); }

 private:
  std::vector<Frame> levels_;
};

/// Throws Error(Input) if a side is longer than 16,384 pixels or the frame is empty.
Pyramid make_pyramid(const Frame& frame, const MatchOptions& options);

}  // namespace lithe
