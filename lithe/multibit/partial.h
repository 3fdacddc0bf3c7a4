// Branches of fewer channels, for odd bit-widths: at most half of the multiply-accumulates.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>

#include "lithe/multibit/body.h"

namespace lithe {

/// Channels of a value in a whole branch and in a partial one.
struct Channels {
  std::int64_t full = 0, narrow = 0;
};

/// Channels that convolutions of so many keep in a partial branch.
using NarrowWidths = std::map<std::int64_t, std::int64_t>;

/// Throws Error(Input), with a list, unless `widths` names every width that a part can narrow, and no other:
/// those of convolutions that are not grouped and behind which others lie.
void check_narrow_widths(const Body& body, const NarrowWidths& widths);

/// Channels of every data value of the body in a partial branch. It reads all channels of the entry, and its
/// last convolutions give all of theirs, so that the exit has its full width. Where two paths of different
/// widths meet, the first channels of both go on; behind a last convolution the narrow one is filled up with
/// zeros instead. Zeros that pad channels are shared out in proportion. Throws Error(Input) naming the node
/// if channels cannot be told apart there (grouped convolutions other than depthwise ones, reshapes).
std::map<std::string, Channels> partial_channels(const Graph& graph, const Body& body,
                                                 const NarrowWidths& widths);

/// The data values that a last convolution made, or that follow from one.
std::set<std::string> behind_last_convolutions(const Graph& graph, const Body& body);

/// Multiply-accumulates of the body's quantised convolutions in a partial branch over those in a whole one.
double partial_share(const Body& body, const std::map<std::string, Channels>& channels);

/// One narrow width for each width of a convolution, so that paths that meet stay consistent: the largest
/// common ratio whose share of multiply-accumulates is at most 1/2, then single channels more while it stays
/// there. Throws Error(Input) as `partial_channels` does, and if no widths reach 1/2.
NarrowWidths choose_narrow_widths(const Graph& graph, const Body& body);

}  // namespace lithe
