// Matching several pairs side by side, where the error of one depends on the others' matches.
#pragma once

#include <cstdint>
#include <vector>

#include "lithe/kernels/patch_error.h"
#include "lithe/kernels/patch_vote.h"
#include "lithe/video/match_plan.h"
#include "lithe/video/patch_planes.h"

namespace lithe {

/// The loop over levels, iterations and candidates; what an error is, a subclass says. All members'
/// candidates are proposed at once, and each member accepts by its own error. Random numbers of member k are
/// those of key + (k << 32), the order of propagation those of `key`.
class GroupMatcher {
 public:
  /// Throws Error(Input) if there is no pair, or pairs differ in size.
  GroupMatcher(const std::vector<MatchPair>& pairs, const MatchOptions& options, std::uint64_t key);
  virtual ~GroupMatcher() = default;
  std::vector<Matched> run();

 protected:
  using Fields = std::vector<std::vector<Place>>;  // of each member, [height][width]
  using Errors = std::vector<std::vector<std::int64_t>>;
  struct Member {
    PatchPlane source;
    VotePlane votes;
  };

  /// A level's frames are in place.
  virtual void begin_level(int level) = 0;
  /// Before the errors of an iteration, whose patch is `patch_`.
  virtual void begin_iteration(const Fields& fields) = 0;
  virtual void evaluate(const Fields& fields, Errors& errors) = 0;

  /// What a member's field votes for with the patch of the iteration.
  void vote(std::size_t member, const std::vector<Place>& field, std::int16_t* out, std::int64_t pixel_step,
            std::int64_t row_step);
  /// errors = guide_factor * guide + style_factor * style of each pixel's match in `source`. Places in the
  /// target: `targets`, or the pixels themselves if that is empty.
  void measure(const PatchImage& source, const std::vector<Place>& field, const PatchImage& target,
               const std::vector<Place>& targets, std::int64_t guide_factor, std::int64_t style_factor,
               std::vector<std::int64_t>& errors);

  const std::vector<MatchPair>& pairs_;
  MatchPlan plan_;
  PyramidLevel size_;
  int patch_ = 0;
  std::vector<Member> members_;

 private:
  void match_level(int level);
  void iterate(int number, int iteration);
  void consider();

  const MatchOptions& options_;
  std::vector<MatchDraws> draws_;
  std::vector<Place> here_;
  Fields fields_, candidates_;
  Errors errors_, candidate_errors_;
  PatchWorkspace error_work_;
  VoteWorkspace vote_work_;
  std::vector<std::int64_t> guide_, style_;
};

}  // namespace lithe
