#include "lithe/video/match_group.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <numeric>

#include "lithe/base/error.h"
#include "lithe/video/match_candidates.h"

namespace lithe {
namespace {

MatchPlan common_plan(const std::vector<MatchPair>& pairs, const MatchOptions& options) {
  if (pairs.empty()) fail("there is no pair of frames to match");
  MatchPlan plan = plan_match(pairs.front(), options, nullptr);
  for (const MatchPair& pair : pairs) {
    const PyramidLevel size = plan_match(pair, options, nullptr).levels.back();
    if (size.height != plan.levels.back().height || size.width != plan.levels.back().width)
      fail("pairs that are matched together must be of one size; one has {}x{}, another {}x{}",
           plan.levels.back().width, plan.levels.back().height, size.width, size.height);
  }
  return plan;
}

}  // namespace

GroupMatcher::GroupMatcher(const std::vector<MatchPair>& pairs, const MatchOptions& options,
                           std::uint64_t key)
    : pairs_(pairs),
      plan_(common_plan(pairs, options)),
      members_(pairs.size()),
      options_(options),
      fields_(pairs.size()),
      candidates_(pairs.size()),
      errors_(pairs.size()),
      candidate_errors_(pairs.size()) {
  for (std::uint64_t k = 0; k < pairs.size(); ++k) draws_.emplace_back(options.seed, key + (k << 32));
}

void GroupMatcher::vote(std::size_t member, const std::vector<Place>& field, std::int16_t* out,
                        std::int64_t pixel_step, std::int64_t row_step) {
  patch_vote(members_[member].votes.image(), field.data(), size_.height, size_.width, patch_, out, pixel_step,
             row_step, vote_work_);
}

void GroupMatcher::measure(const PatchImage& source, const std::vector<Place>& field,
                           const PatchImage& target, const std::vector<Place>& targets,
                           std::int64_t guide_factor, std::int64_t style_factor,
                           std::vector<std::int64_t>& errors) {
  const PatchTask task{source, target, patch_};
  const auto width = static_cast<std::size_t>(size_.width);
  guide_.resize(width);
  style_.resize(width);
  errors.resize(field.size());
  const Place* to = targets.empty() ? here_.data() : targets.data();
  for (std::size_t first = 0; first < field.size(); first += width) {
    patch_sums(task, field.data() + first, to + first, size_.width, guide_.data(), style_.data(),
               error_work_);
    for (std::size_t x = 0; x < width; ++x)
      errors[first + x] = guide_factor * guide_[x] + style_factor * style_[x];
  }
}

std::vector<Matched> GroupMatcher::run() {
  for (int level = plan_.first; level < static_cast<int>(plan_.levels.size()); ++level) match_level(level);
  std::vector<Matched> results;
  for (std::size_t k = 0; k < members_.size(); ++k) {
    Matched& one = results.emplace_back(Matched{Frame(size_.height, size_.width),
                                                to_field(fields_[k], size_.height, size_.width),
                                                in_grey_levels(errors_[k])});
    vote(k, fields_[k], one.picture.pixels.data(), 3, size_.width * 3);
  }
  return results;
}

void GroupMatcher::match_level(int level) {
  const PyramidLevel coarser = size_;
  size_ = plan_.levels[static_cast<std::size_t>(level)];
  here_ = to_places(identity_field(size_.height, size_.width));
  for (std::size_t k = 0; k < members_.size(); ++k) {
    const Frame& style = pairs_[k].source_style.level(level);
    members_[k].source.set(pairs_[k].source_guide.level(level), &style, plan_.border());
    members_[k].votes.set(style, plan_.border());
    const Field before = to_field(fields_[k], coarser.height, coarser.width);
    fields_[k] = to_places(first_field(plan_, options_, draws_[k], level, nullptr, before));
  }
  begin_level(level);
  for (std::size_t k = 0; k < plan_.patches.size(); ++k)
    iterate(plan_.from_finest(level), static_cast<int>(k));
}

void GroupMatcher::iterate(int number, int iteration) {
  patch_ = plan_.patches[static_cast<std::size_t>(iteration)];
  begin_iteration(fields_);
  evaluate(fields_, errors_);
  const auto propose = [&](const auto& fill_row) {
    for (std::size_t k = 0; k < members_.size(); ++k) {
      candidates_[k].resize(fields_[k].size());
      for (int y = 0; y < size_.height; ++y)
        fill_row(k, y, candidates_[k].data() + static_cast<std::ptrdiff_t>(y) * size_.width);
    }
    consider();
  };
  std::array<int, 4> order{0, 1, 2, 3};
  if (options_.random_order) order = draws_.front().order(number, iteration);
  for (const int direction : order)
    propose([&](std::size_t k, int y, Place* out) {
      neighbour_candidates(fields_[k].data(), size_, y, direction, out);
    });
  for (int s = 0; s < options_.random_steps; ++s)
    propose([&](std::size_t k, int y, Place* out) {
      random_candidates(fields_[k].data(), size_, y, options_.random_radius,
                        draws_[k].step(number, iteration, s), out);
    });
  const auto last = static_cast<std::ptrdiff_t>(members_.size()) - 1;
  for (std::ptrdiff_t distance = 1; distance <= std::min<std::ptrdiff_t>(options_.tracking, last); ++distance)
    for (const std::ptrdiff_t shift : {distance, -distance}) {
      for (std::ptrdiff_t k = 0; k <= last; ++k)
        candidates_[static_cast<std::size_t>(k)] =
            fields_[static_cast<std::size_t>(std::clamp<std::ptrdiff_t>(k + shift, 0, last))];
      consider();
    }
}

void GroupMatcher::consider() {
  evaluate(candidates_, candidate_errors_);
  for (std::size_t k = 0; k < members_.size(); ++k)
    for (std::size_t i = 0; i < fields_[k].size(); ++i)
      if (candidate_errors_[k][i] < errors_[k][i]) {
        fields_[k][i] = candidates_[k][i];
        errors_[k][i] = candidate_errors_[k][i];
      }
}

}  // namespace lithe
