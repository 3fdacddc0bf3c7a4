#include "lithe/video/deflicker.h"

#include <algorithm>
#include <utility>

#include "lithe/base/error.h"
#include "lithe/video/blend_table.h"
#include "lithe/video/window_blender.h"

namespace lithe {
namespace {

/// Frames that are blended at a time: enough to keep the threads busy to the end of each round.
std::int64_t chunk_of(const DeflickerOptions& options) {
  return std::max<std::int64_t>(4, 2 * std::int64_t{options.threads});
}

/// Reads both videos side by side.
class PairReader {
 public:
  PairReader(const ReadFrame& style, const ReadFrame& guide, std::int64_t frames)
      : style_(style), guide_(guide), frames_(frames) {}

  void skip(std::int64_t count) {
    Frame style, guide;
    for (; count > 0; --count) next(style, guide);
  }

  void next(Frame& style, Frame& guide) {
    const std::int64_t number = sizes_.number();
    if (!style_(style))
      fail("the video ends at frame {}, of {} that it had when it was scanned", number, frames_);
    if (!guide_(guide))
      fail("the guide ends at frame {}, of {} that it had when it was scanned", number, frames_);
    sizes_.next(style, guide);
  }

 private:
  const ReadFrame &style_, &guide_;
  std::int64_t frames_;
  SizeCheck sizes_;
};

}  // namespace

DeflickerOptions DeflickerOptions::published(BlendMode mode) {
  return {.mode = mode,
          .accurate_batch = 16,
          .even_colours = false,
          .fractions = false,
          .weigh = false,
          .restore_detail = false,
          .find_scenes = false,
          .warm_start = false};
}

void check(const DeflickerOptions& options) {
  if (options.window < 0 || options.window > 1000)
    fail("a window of {} frames is not possible; 0 to 1000 are", options.window);
  if (!(options.strength >= 0 && options.strength <= 1))
    fail("strength {} does not lie in 0..1", options.strength);
  if (options.threads < 1) fail("{} threads cannot work", options.threads);
  check(options.match);
}

std::int64_t pair_count(const DeflickerOptions& options, std::int64_t frames) {
  std::int64_t pairs = 0;
  const int highest = highest_level(options.window);
  for (std::int64_t frame = 0; frame < frames; ++frame) {
    const std::int64_t first = std::max<std::int64_t>(0, frame - options.window);
    if (options.mode == BlendMode::Fast) {
      pairs += (std::int64_t{1} << levels_at(frame, highest)) - 1;
      pairs += static_cast<std::int64_t>(query_nodes(first, frame, highest).size()) - 1;
    } else {
      pairs += frame - first;
    }
  }
  return 2 * pairs + (options.mode == BlendMode::Accurate ? frames : 0);
}

std::int64_t memory_needed(const DeflickerOptions& options, int height, int width) {
  const std::int64_t pixels = std::int64_t{height} * width;
  const std::int64_t chunk = chunk_of(options);
  // A frame has guide and style, each with a pyramid; a node or a result is a picture with weights; a sum has
  // four numbers; a pair at work takes about a hundred bytes.
  const std::int64_t frames = (2 * options.window + chunk) * 28;
  const std::int64_t nodes = options.mode == BlendMode::Fast ? (2 * options.window + chunk) * 8 : 0;
  const std::int64_t group = options.mode != BlendMode::Accurate ? 0
                             : options.accurate_batch > 0        ? options.accurate_batch
                                                                 : 2 * options.window + 1;
  return pixels * (frames + nodes + chunk * 24 + options.threads * (100 + 50 * group));
}

void deflicker(const ReadFrame& style, const ReadFrame& guide, const VideoScan& scan,
               const DeflickerOptions& options, const WriteFrame& write, Progress& progress,
               std::int64_t first) {
  check(options);
  PairReader reader(style, guide, scan.frames);
  for (std::size_t i = 0; i < scan.scenes.size(); ++i) {
    const std::int64_t start = scan.scenes[i];
    const std::int64_t end = i + 1 < scan.scenes.size() ? scan.scenes[i + 1] : scan.frames;
    const std::int64_t frames = end - start;
    if (end <= first) {
      reader.skip(frames);
      continue;
    }
    const std::int64_t begin = std::max<std::int64_t>(0, first - start);
    const std::int64_t needed = std::max<std::int64_t>(0, begin - 2 * options.window);
    reader.skip(needed);
    WindowBlender blender(options, frames, start, needed);
    const std::int64_t chunk = chunk_of(options);
    for (std::int64_t from = begin; from < frames; from += chunk) {
      const std::int64_t to = std::min(frames, from + chunk);
      while (blender.pushed() < std::min(frames, to + options.window)) {
        const std::int64_t number = start + blender.pushed();
        Frame styled, guided;
        reader.next(styled, guided);
        if (!scan.colours.empty()) styled = apply(scan.colours[static_cast<std::size_t>(number)], styled);
        blender.push(std::move(guided), std::move(styled));
      }
      std::vector<Frame> results = blender.blend(from, to, progress);
      for (std::size_t k = 0; k < results.size(); ++k)
        write(start + from + static_cast<std::int64_t>(k), std::move(results[k]));
    }
  }
}

std::vector<Frame> deflicker_frames(const std::vector<Frame>& style, const std::vector<Frame>& guide,
                                    const DeflickerOptions& options, Progress* progress) {
  if (style.size() != guide.size()) fail("the video has {} frames, the guide {}", style.size(), guide.size());
  VideoScanner scanner({.find_scenes = options.find_scenes,
                        .even_colours = options.even_colours,
                        .blend_window = options.window});
  for (std::size_t i = 0; i < style.size(); ++i) scanner.add(guide[i], style[i]);
  const auto reader_of = [](const std::vector<Frame>& frames) -> ReadFrame {
    return [&frames, next = std::size_t{0}](Frame& frame) mutable {
      if (next == frames.size()) return false;
      frame = frames[next++];
      return true;
    };
  };
  Progress silent;
  std::vector<Frame> results(style.size());
  deflicker(
      reader_of(style), reader_of(guide), scanner.finish(), options,
      [&](std::int64_t number, Frame frame) { results[static_cast<std::size_t>(number)] = std::move(frame); },
      progress ? *progress : silent);
  return results;
}

}  // namespace lithe
