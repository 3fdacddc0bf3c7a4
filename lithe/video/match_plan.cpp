#include "lithe/video/match_plan.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "lithe/base/error.h"

namespace lithe {

MatchPlan plan_match(const MatchPair& pair, const MatchOptions& options, const Field* start) {
  check(options);
  if (pair.target_guide.levels() == 0) fail("a pyramid without a frame cannot be matched");
  const Frame& target = pair.target_guide.finest();
  MatchPlan plan{.levels = pyramid_levels(target.height, target.width, options)};
  plan.patches = patch_sizes(plan.levels.back(), options);
  for (const Pyramid* pyramid : {&pair.source_guide, &pair.target_guide, &pair.source_style}) {
    if (pyramid->levels() == 0 || !pyramid->finest().same_size(target))
      fail("frames that are matched must be of one size; one has {}x{}, another {}x{}", target.width,
           target.height, pyramid->levels() ? pyramid->finest().width : 0,
           pyramid->levels() ? pyramid->finest().height : 0);
    if (pyramid->levels() != static_cast<int>(plan.levels.size()))
      fail("a pyramid of {} levels was made with other options; these want {}", pyramid->levels(),
           plan.levels.size());
  }
  if (start) {
    if (start->height != target.height || start->width != target.width)
      fail("a start of {}x{} does not fit frames of {}x{}", start->width, start->height, target.width,
           target.height);
    for (std::size_t i = 0; i < start->rows.size(); ++i)
      if (start->rows[i] < 0 || start->rows[i] >= start->height || start->columns[i] < 0 ||
          start->columns[i] >= start->width)
        fail("the start leads out of the frame, to row {}, column {}", start->rows[i], start->columns[i]);
    plan.first = std::max(0, static_cast<int>(plan.levels.size()) - options.warm_levels);
    const auto count = std::min(plan.patches.size(), static_cast<std::size_t>(options.warm_iterations));
    plan.patches.erase(plan.patches.begin(), plan.patches.end() - static_cast<std::ptrdiff_t>(count));
  }
  plan.guide_weight = std::llround(options.guide_weight * 256);
  return plan;
}

Field first_field(const MatchPlan& plan, const MatchOptions& options, const MatchDraws& draws, int level,
                  const Field* start, const Field& coarser) {
  const auto [height, width] = plan.levels[static_cast<std::size_t>(level)];
  if (level > plan.first) return upsample(coarser, height, width, options.exact_upsample);
  if (start) return downsample(*start, height, width);
  Field field = identity_field(height, width);
  if (options.start == MatchOptions::Start::Identity) return field;
  const MatchDraws::Step step = draws.start(plan.from_finest(level));
  for (std::size_t i = 0; i < field.rows.size(); ++i) {
    const auto [row, column] =
        step.pair(i, static_cast<std::uint32_t>(height), static_cast<std::uint32_t>(width));
    field.rows[i] = static_cast<std::int16_t>(row);
    field.columns[i] = static_cast<std::int16_t>(column);
  }
  return field;
}

std::vector<float> in_grey_levels(const std::vector<std::int64_t>& errors) {
  std::vector<float> result(errors.size());
  std::transform(errors.begin(), errors.end(), result.begin(), [](std::int64_t error) {
    return static_cast<float>(static_cast<double>(error) / (256.0 * kFrameScale * kFrameScale));
  });
  return result;
}

}  // namespace lithe
