#include "lithe/video/window_blender.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "lithe/base/parallel.h"
#include "lithe/video/planes.h"
#include "lithe/video/restore_detail.h"
#include "lithe/video/warp.h"

namespace lithe {

WindowBlender::WindowBlender(const DeflickerOptions& options, std::int64_t frames, std::int64_t scene_start,
                             std::int64_t first_pushed)
    : options_(options),
      frames_(frames),
      scene_start_(scene_start),
      first_(first_pushed),
      highest_(highest_level(options.window)) {}

void WindowBlender::push(Frame guide, Frame style) {
  Slot slot{.guide_pyramid = make_pyramid(guide, options_.match),
            .style_pyramid = make_pyramid(style, options_.match)};
  slot.guide = std::move(guide);
  slot.style = std::move(style);
  slots_.push_back(std::move(slot));
}

std::vector<WindowBlender::Node> WindowBlender::nodes_of(std::int64_t frame, bool ahead) const {
  const std::int64_t last = ahead ? frames_ - 1 - frame : frame;
  std::vector<Node> nodes;
  for (const TableNode& node : query_nodes(std::max<std::int64_t>(0, last - options_.window), last, highest_))
    nodes.push_back({ahead, node});
  return nodes;
}

WindowBlender::Brought WindowBlender::bring(const WeightedFrame& picture, const Pyramid& pyramid,
                                            std::int64_t source, std::int64_t target) const {
  const MatchPair pair{slot(source).guide_pyramid, slot(target).guide_pyramid, pyramid};
  std::optional<Field> start;
  if (options_.warm_start) start = matches_by_flow(slot(source).guide, slot(target).guide);
  return finish_bringing(picture, source, target,
                         match(pair, options_.match, key_of(source, target), start ? &*start : nullptr));
}

WindowBlender::Brought WindowBlender::bring_own(std::int64_t source, std::int64_t target) const {
  return bring(own(source), slot(source).style_pyramid, source, target);
}

WindowBlender::Brought WindowBlender::finish_bringing(const WeightedFrame& picture, std::int64_t source,
                                                      std::int64_t target, Matched matched) const {
  const Slot &from = slot(source), &to = slot(target);
  Brought result{.frame = {.picture = std::move(matched.picture), .uniform = picture.uniform}};
  if (!options_.fractions && !options_.weigh) return result;
  const FineField fine = options_.fractions ? refine(matched.field, from.guide, to.guide)
                                            : whole_pixels(matched.field, from.guide, to.guide);
  if (options_.fractions) result.frame.picture = sample_at(fine, picture.picture);
  if (options_.weigh) {
    result.trust = trust(fine, flicker_variance(fine, result.frame.picture, to.style));
    if (!picture.weights.empty()) result.frame.weights = weights_at(fine, picture.weights);
  }
  return result;
}

void WindowBlender::build_nodes(std::int64_t begin, std::int64_t end, Progress& progress) {
  std::set<Node> wanted;
  for (std::int64_t frame = begin; frame < end; ++frame)
    for (const bool ahead : {false, true})
      for (Node node : nodes_of(frame, ahead))
        for (; node.at.level > 0; --node.at.level)
          if (!nodes_.contains(node)) wanted.insert(node);

  struct Task {
    Node node;
    std::int64_t source, target;
  };
  std::vector<Task> tasks;
  std::map<Node, std::pair<std::int64_t, FrameSum>> sums;  // what is missing, and what is there
  for (const Node& node : wanted) {
    const LevelSources sources = level_sources(node.at);
    sums[node].first = sources.count;
    for (std::int64_t i = 0; i < sources.count; ++i) {
      Node source = node;
      source.at.frame = sources.first + i;
      tasks.push_back({node, frame_of(source), frame_of(node)});
    }
  }
  std::vector<Brought> brought(tasks.size());
  const auto count = static_cast<std::int64_t>(tasks.size());
  parallel_for(
      count, options_.threads,
      [&](std::int64_t i) {
        const Task& task = tasks[static_cast<std::size_t>(i)];
        brought[static_cast<std::size_t>(i)] = bring_own(task.source, task.target);
      },
      [&](std::int64_t i) {
        const Node& node = tasks[static_cast<std::size_t>(i)].node;
        const Brought one = std::exchange(brought[static_cast<std::size_t>(i)], {});
        auto& [missing, sum] = sums[node];
        sum.add(one.frame, one.trust);
        if (--missing == 0) {
          nodes_[node] = sum.average();
          sum = {};
        }
        progress.advance();
      });
  for (const Node& node : wanted) {  // a level below comes before
    FrameSum sum;
    Node below = node;
    --below.at.level;
    sum.add(below.at.level == 0 ? own(frame_of(node)) : nodes_.at(below));
    sum.add(nodes_.at(node));
    nodes_[node] = sum.average();
  }
}

WindowBlender::Brought WindowBlender::bring_node(const Node& node, std::int64_t target) const {
  const WeightedFrame& average = nodes_.at(node);
  return bring(average, make_pyramid(average.picture, options_.match), frame_of(node), target);
}

std::vector<FrameSum> WindowBlender::add_nodes(std::int64_t begin, std::int64_t end,
                                               Progress& progress) const {
  struct Task {
    Node node;
    std::int64_t target;
  };
  std::vector<FrameSum> sums(static_cast<std::size_t>(end - begin));
  std::vector<Task> tasks;
  for (std::int64_t frame = begin; frame < end; ++frame) {
    FrameSum& sum = sums[static_cast<std::size_t>(frame - begin)];
    for (const bool ahead : {false, true}) {
      const std::vector<Node> nodes = nodes_of(frame, ahead);
      sum.add(nodes[0].at.level == 0 ? own(frame) : nodes_.at(nodes[0]));
      for (std::size_t i = 1; i < nodes.size(); ++i) tasks.push_back({nodes[i], frame});
    }
    sum.subtract(own(frame));  // which both sides hold
  }
  std::vector<Brought> brought(tasks.size());
  parallel_for(
      static_cast<std::int64_t>(tasks.size()), options_.threads,
      [&](std::int64_t i) {
        const Task& task = tasks[static_cast<std::size_t>(i)];
        const std::int64_t source = frame_of(task.node);
        brought[static_cast<std::size_t>(i)] =
            task.node.at.level == 0 ? bring_own(source, task.target) : bring_node(task.node, task.target);
      },
      [&](std::int64_t i) {
        const Brought one = std::exchange(brought[static_cast<std::size_t>(i)], {});
        sums[static_cast<std::size_t>(tasks[static_cast<std::size_t>(i)].target - begin)].add(one.frame,
                                                                                              one.trust);
        progress.advance();
      });
  return sums;
}

std::vector<FrameSum> WindowBlender::add_pairs(std::int64_t begin, std::int64_t end,
                                               Progress& progress) const {
  struct Task {
    std::int64_t source, target;
  };
  std::vector<FrameSum> sums(static_cast<std::size_t>(end - begin));
  std::vector<Task> tasks;
  for (std::int64_t frame = begin; frame < end; ++frame) {
    sums[static_cast<std::size_t>(frame - begin)].add(own(frame));
    const auto [first, last] = window_of(frame);
    for (std::int64_t source = first; source <= last; ++source)
      if (source != frame) tasks.push_back({source, frame});
  }
  std::vector<Brought> brought(tasks.size());
  parallel_for(
      static_cast<std::int64_t>(tasks.size()), options_.threads,
      [&](std::int64_t i) {
        const Task& task = tasks[static_cast<std::size_t>(i)];
        brought[static_cast<std::size_t>(i)] = bring_own(task.source, task.target);
      },
      [&](std::int64_t i) {
        const Brought one = std::exchange(brought[static_cast<std::size_t>(i)], {});
        sums[static_cast<std::size_t>(tasks[static_cast<std::size_t>(i)].target - begin)].add(one.frame,
                                                                                              one.trust);
        progress.advance();
      });
  return sums;
}

std::vector<FrameSum> WindowBlender::add_aligned(std::int64_t begin, std::int64_t end,
                                                 Progress& progress) const {
  std::vector<FrameSum> sums(static_cast<std::size_t>(end - begin));
  parallel_for(
      end - begin, options_.threads,
      [&](std::int64_t i) {
        const std::int64_t target = begin + i;
        const auto [first, last] = window_of(target);
        const std::int64_t batch = options_.accurate_batch > 0 ? options_.accurate_batch : last - first + 1;
        for (std::int64_t from = first; from <= last; from += batch) {
          std::vector<MatchPair> pairs;
          for (std::int64_t source = from; source <= std::min(last, from + batch - 1); ++source)
            pairs.push_back(
                {slot(source).guide_pyramid, slot(target).guide_pyramid, slot(source).style_pyramid});
          std::vector<Matched> matched = match_aligned(pairs, options_.match, key_of(from, target));
          for (std::size_t k = 0; k < matched.size(); ++k) {
            const std::int64_t source = from + static_cast<std::int64_t>(k);
            const Brought one = finish_bringing(own(source), source, target, std::move(matched[k]));
            sums[static_cast<std::size_t>(i)].add(one.frame, one.trust);
          }
        }
      },
      [&](std::int64_t i) {
        const auto [first, last] = window_of(begin + i);
        progress.advance(last - first + 1);
      });
  return sums;
}

Frame WindowBlender::finish(const FrameSum& sum, std::int64_t frame) const {
  const Frame& own = slot(frame).style;
  Frame result = sum.average().picture;
  if (options_.restore_detail) result = restore_detail(result, own, sum.share_of_one());
  if (options_.strength == 1) return result;
  return to_frame(to_float(result) * options_.strength + to_float(own) * (1 - options_.strength));
}

std::vector<Frame> WindowBlender::blend(std::int64_t begin, std::int64_t end, Progress& progress) {
  if (options_.mode == BlendMode::Fast) build_nodes(begin, end, progress);
  const std::vector<FrameSum> sums = options_.mode == BlendMode::Fast ? add_nodes(begin, end, progress)
                                     : options_.mode == BlendMode::Balanced
                                         ? add_pairs(begin, end, progress)
                                         : add_aligned(begin, end, progress);
  std::vector<Frame> results(sums.size());
  parallel_for(end - begin, options_.threads, [&](std::int64_t i) {
    results[static_cast<std::size_t>(i)] = finish(sums[static_cast<std::size_t>(i)], begin + i);
  });
  forget(end);
  return results;
}

void WindowBlender::forget(std::int64_t next) {
  const std::int64_t oldest = next - options_.window;
  for (; !slots_.empty() && first_ < oldest; ++first_) slots_.pop_front();
  std::erase_if(nodes_,
                [&](const auto& node) { return frame_of(node.first) < (node.first.ahead ? next : oldest); });
}

}  // namespace lithe
