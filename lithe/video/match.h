// Matching a frame to another by their patches: for each pixel of a target the most alike of a source.
//
// The algorithm of Duan et al., "FastBlend: a Powerful Model-Free Toolkit Making Video Stylization Easier",
// 2023. A match minimises, over square patches,
//   guide_weight |target guide - source guide|^2 + |running target style - source style|^2,
// where the running style is what the present matches vote for. From coarse to fine, matches are taken over
// from neighbours and searched at random nearby. Results depend on frames, options and key alone.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "lithe/video/field.h"
#include "lithe/video/frame.h"
#include "lithe/video/pyramid.h"

namespace lithe {

/// Pyramids of frames of one size, made with the options of the match.
struct MatchPair {
  const Pyramid& source_guide;
  const Pyramid& target_guide;
  const Pyramid& source_style;
};

struct Matched {
  Frame picture;              // the source's style on the target's geometry
  Field field;                // [height][width] of the target
  std::vector<float> errors;  // [height][width], of the smallest patch: squared grey levels, summed
};

/// `key` names the pair. With a `start` (of full size) only the finest `warm_levels` levels are matched, with
/// `warm_iterations` iterations. Throws Error(Input) if sizes differ.
Matched match(const MatchPair& pair, const MatchOptions& options, std::uint64_t key,
              const Field* start = nullptr);

/// Mean of what the patches of side `patch` (odd, 1..45) around each pixel vote for. Throws Error(Input) if
/// the field leads out of the source.
Frame remap(const Field& field, const Frame& source, int patch);

/// All sources for one target, drawn to one common picture: the running style is the mean of what all
/// members' candidates vote for. Of member k the random numbers are those of key + (k << 32). The mode
/// "accurate" of FastBlend; about three times the work of `match` for each.
std::vector<Matched> match_aligned(const std::vector<MatchPair>& pairs, const MatchOptions& options,
                                   std::uint64_t key);

/// Two key frames for one target. In place of the running style, patches of the two keys' styles are compared
/// with one another, so that both are matched to where they agree. `agreement` fades from that (1) to `match`
/// of each alone (0); rounded to 256ths.
std::array<Matched, 2> match_between(const MatchPair& left, const MatchPair& right,
                                     const MatchOptions& options, std::uint64_t key, double agreement = 1);

/// Pairs of consecutive frames: matches are also taken over from the pairs up to `options.tracking` before
/// and after, the first and last standing in for those beyond. Without tracking it is `match` of each with
/// the keys of `match_aligned`, but for the order of propagation, which all take from the first.
std::vector<Matched> match_tracked(const std::vector<MatchPair>& pairs, const MatchOptions& options,
                                   std::uint64_t key);

}  // namespace lithe
