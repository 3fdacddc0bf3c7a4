// What all ways of matching share: sizes, patches and first fields.
#pragma once

#include <cstdint>
#include <vector>

#include "lithe/video/match.h"
#include "lithe/video/match_draws.h"

namespace lithe {

struct MatchPlan {
  std::vector<PyramidLevel> levels;  // coarse to fine
  int first = 0;                     // level that matching begins at
  std::vector<int> patches;          // sides, one an iteration
  std::int64_t guide_weight = 0;     // in 256ths

  int border() const { return patches.front() / 2; }
  /// As random numbers count levels.
  int from_finest(int level) const { return static_cast<int>(levels.size()) - 1 - level; }
};

/// Checks options, and that pyramids are of one size and made with these options.
MatchPlan plan_match(const MatchPair& pair, const MatchOptions& options, const Field* start);

/// The field that a level begins with: of the start, or from the coarser level's.
Field first_field(const MatchPlan& plan, const MatchOptions& options, const MatchDraws& draws, int level,
                  const Field* start, const Field& coarser);

/// From 256ths of squared quarter grey levels to squared grey levels.
std::vector<float> in_grey_levels(const std::vector<std::int64_t>& errors);

}  // namespace lithe
