#include "lithe/video/match.h"

#include <algorithm>
#include <cstddef>
#include <numeric>

#include "lithe/base/error.h"
#include "lithe/kernels/patch_accept.h"
#include "lithe/kernels/patch_error.h"
#include "lithe/kernels/patch_vote.h"
#include "lithe/video/match_candidates.h"
#include "lithe/video/match_plan.h"
#include "lithe/video/patch_planes.h"

namespace lithe {
namespace {

/// Matching of one pair, level by level. Buffers are kept from one level to the next.
class Matcher {
 public:
  Matcher(const MatchPlan& plan, const MatchOptions& options, const MatchDraws& draws)
      : plan_(plan), options_(options), draws_(draws) {}

  void run(const MatchPair& pair, int level, const Field& start) {
    level_ = plan_.from_finest(level);
    size_ = plan_.levels[static_cast<std::size_t>(level)];
    const Frame& style = pair.source_style.level(level);
    source_.set(pair.source_guide.level(level), &style, plan_.border());
    target_.set(pair.target_guide.level(level), nullptr, plan_.border());
    votes_.set(style, plan_.border());
    places_ = to_places(start);
    errors_.resize(places_.size());
    lost_.resize(places_.size());
    guide_.resize(static_cast<std::size_t>(size_.width));
    style_.resize(static_cast<std::size_t>(size_.width));
    candidates_.resize(static_cast<std::size_t>(size_.width));
    task_ = {source_.image(), target_.image(), 0, plan_.guide_weight};
    for (std::size_t k = 0; k < plan_.patches.size(); ++k) iterate(static_cast<int>(k));
  }

  Field field() const { return to_field(places_, size_.height, size_.width); }
  Matched result() {
    Matched matched{Frame(size_.height, size_.width), field(), in_grey_levels(errors_)};
    patch_vote(votes_.image(), places_.data(), size_.height, size_.width, plan_.patches.back(),
               matched.picture.pixels.data(), 3, size_.width * 3, vote_work_);
    return matched;
  }

 private:
  void iterate(int iteration) {
    task_.patch = plan_.patches[static_cast<std::size_t>(iteration)];
    patch_vote(votes_.image(), places_.data(), size_.height, size_.width, task_.patch, target_.style(), 8,
               target_.row_step(), vote_work_);
    for (int y = 0; y < size_.height; ++y) measure(y);
    std::fill(lost_.begin(), lost_.end(), -1);
    const std::array<int, 4> order =
        options_.random_order ? draws_.order(level_, iteration) : std::array<int, 4>{0, 1, 2, 3};
    for (const int direction : order)
      for (int i = 0; i < size_.height; ++i) {
        // Rows that candidates come from must not have changed yet.
        const int y = direction == 0 ? size_.height - 1 - i : i;
        neighbour_candidates(places_.data(), size_, y, direction, candidates_.data());
        accept(y);
      }
    for (int s = 0; s < options_.random_steps; ++s) {
      const MatchDraws::Step step = draws_.step(level_, iteration, s);
      for (int y = 0; y < size_.height; ++y) {
        random_candidates(places_.data(), size_, y, options_.random_radius, step, candidates_.data());
        accept(y);
      }
    }
  }

  std::size_t row(int y) const { return static_cast<std::size_t>(y) * static_cast<std::size_t>(size_.width); }

  void measure(int y) {
    std::iota(candidates_.begin(), candidates_.end(), place_at(y, 0));
    patch_sums(task_, places_.data() + row(y), candidates_.data(), size_.width, guide_.data(), style_.data(),
               error_work_);
    for (std::size_t x = 0; x < guide_.size(); ++x)
      errors_[row(y) + x] = task_.guide_weight * guide_[x] + 256 * style_[x];
  }

  void accept(int y) {
    patch_accept(task_, place_at(y, 0), candidates_.data(), size_.width, places_.data() + row(y),
                 errors_.data() + row(y), lost_.data() + row(y), error_work_);
  }

  const MatchPlan& plan_;
  const MatchOptions& options_;
  const MatchDraws& draws_;
  int level_ = 0;
  PyramidLevel size_;
  PatchPlane source_, target_;
  VotePlane votes_;
  PatchTask task_;
  std::vector<Place> places_, lost_, candidates_;
  std::vector<std::int64_t> errors_, guide_, style_;
  PatchWorkspace error_work_;
  VoteWorkspace vote_work_;
};

}  // namespace

Matched match(const MatchPair& pair, const MatchOptions& options, std::uint64_t key, const Field* start) {
  const MatchPlan plan = plan_match(pair, options, start);
  const MatchDraws draws(options.seed, key);
  Matcher matcher(plan, options, draws);
  Field coarser;
  for (int level = plan.first; level < static_cast<int>(plan.levels.size()); ++level) {
    matcher.run(pair, level, first_field(plan, options, draws, level, start, coarser));
    if (level + 1 < static_cast<int>(plan.levels.size())) coarser = matcher.field();
  }
  return matcher.result();
}

Frame remap(const Field& field, const Frame& source, int patch) {
  if (patch < 1 || patch > kLargestPatch || patch % 2 == 0)
    fail("a patch of {} pixels cannot vote; its side must be odd, 1 to {}", patch, kLargestPatch);
  for (std::size_t i = 0; i < field.rows.size(); ++i)
    if (field.rows[i] < 0 || field.rows[i] >= source.height || field.columns[i] < 0 ||
        field.columns[i] >= source.width)
      fail("the field leads out of a source of {}x{}, to row {}, column {}", source.width, source.height,
           field.rows[i], field.columns[i]);
  VotePlane votes;
  votes.set(source, patch / 2);
  VoteWorkspace workspace;
  Frame result(field.height, field.width);
  const std::vector<Place> places = to_places(field);
  patch_vote(votes.image(), places.data(), field.height, field.width, patch, result.pixels.data(), 3,
             field.width * 3, workspace);
  return result;
}

}  // namespace lithe
