// Averages over the windows of one scene, a few frames at a time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <map>
#include <tuple>
#include <vector>

#include "lithe/base/progress.h"
#include "lithe/video/blend_table.h"
#include "lithe/video/deflicker.h"
#include "lithe/video/pyramid.h"
#include "lithe/video/weighted_frame.h"

namespace lithe {

/// Frames are pushed in order and asked for in order; what no later average needs is forgotten. Holds about
/// two windows of frames and of the table's partial averages.
class WindowBlender {
 public:
  /// For a scene of `frames` frames, which begins at frame `scene_start` of the video (which the random
  /// numbers of matching depend on). Of these, the first that will be pushed is number `first_pushed`.
  WindowBlender(const DeflickerOptions& options, std::int64_t frames, std::int64_t scene_start,
                std::int64_t first_pushed);

  void push(Frame guide, Frame style);
  std::int64_t pushed() const { return first_ + static_cast<std::int64_t>(slots_.size()); }

  /// Averages begin..end-1, every frame of whose windows must have been pushed; before the first ones also
  /// the frames of twice the window before them.
  std::vector<Frame> blend(std::int64_t begin, std::int64_t end, Progress& progress);

 private:
  struct Slot {
    Frame guide, style;
    Pyramid guide_pyramid, style_pyramid;
  };
  struct Brought {
    WeightedFrame frame;
    cv::Mat trust;
  };
  /// A node of the table of the frames in their order, or (ahead) of the frames in reversed order.
  struct Node {
    bool ahead = false;
    TableNode at;
    friend auto operator<=>(const Node&, const Node&) = default;
  };

  const Slot& slot(std::int64_t frame) const { return slots_[static_cast<std::size_t>(frame - first_)]; }
  WeightedFrame own(std::int64_t frame) const { return {.picture = slot(frame).style}; }
  std::int64_t frame_of(const Node& node) const {
    return node.ahead ? frames_ - 1 - node.at.frame : node.at.frame;
  }
  std::vector<Node> nodes_of(std::int64_t frame, bool ahead) const;

  struct Range {
    std::int64_t first, last;
  };
  Range window_of(std::int64_t frame) const {
    return {std::max<std::int64_t>(0, frame - options_.window),
            std::min(frames_ - 1, frame + options_.window)};
  }
  /// Names a pair for the random numbers of matching.
  std::uint64_t key_of(std::int64_t source, std::int64_t target) const {
    return (static_cast<std::uint64_t>(scene_start_ + source) << 32) +
           static_cast<std::uint64_t>(scene_start_ + target);
  }

  /// A picture on the geometry of `source`, brought to that of `target`.
  Brought bring(const WeightedFrame& picture, const Pyramid& pyramid, std::int64_t source,
                std::int64_t target) const;
  Brought bring_own(std::int64_t source, std::int64_t target) const;
  Brought bring_node(const Node& node, std::int64_t target) const;
  Brought finish_bringing(const WeightedFrame& picture, std::int64_t source, std::int64_t target,
                          Matched matched) const;

  void build_nodes(std::int64_t begin, std::int64_t end, Progress& progress);
  std::vector<FrameSum> add_nodes(std::int64_t begin, std::int64_t end, Progress& progress) const;
  std::vector<FrameSum> add_pairs(std::int64_t begin, std::int64_t end, Progress& progress) const;
  std::vector<FrameSum> add_aligned(std::int64_t begin, std::int64_t end, Progress& progress) const;
  Frame finish(const FrameSum& sum, std::int64_t frame) const;
  void forget(std::int64_t next);

  DeflickerOptions options_;
  std::int64_t frames_, scene_start_, first_;
  int highest_;                          // level of the table
  std::deque<Slot> slots_;               // from frame first_
  std::map<Node, WeightedFrame> nodes_;  // of level 1 and above
};

}  // namespace lithe
