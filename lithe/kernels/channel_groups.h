// How a dense weight is cut into N:M groups.
#pragma once

#include <cstdint>

namespace lithe {

/// A dense, row-major weight seen as [outer][channels][inner], `channels` being the axis of the input
/// channels: a convolution [O][C][kh][kw] has outer O and inner kh*kw; a MatMul weight [C][O] has outer 1 and
/// inner O. A group of an N:M pattern is M consecutive channels at one outer and one inner index, so that
/// every output channel and kernel position is pruned for itself. Where M does not divide the channels, the
/// last group is shorter.
struct ChannelGroups {
  std::int64_t outer = 0, channels = 0, inner = 0;

  std::int64_t count() const { return outer * channels * inner; }
  std::int64_t groups(std::int64_t m) const { return outer * inner * ((channels + m - 1) / m); }
};

}  // namespace lithe
