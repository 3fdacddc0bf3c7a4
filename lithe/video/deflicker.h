// Taking the flicker out of a stylised video: each frame becomes an average of its neighbours, brought to its
// geometry by matching patches of the video that the style was applied to.
//
// Duan et al., "FastBlend: a Powerful Model-Free Toolkit Making Video Stylization Easier", 2023; and the
// deflickering of Duan et al., "DiffSynth: Latent In-Iteration Deflickering for Realistic Video Synthesis",
// ECML PKDD 2024.
//
//   const std::vector<Frame> calm = deflicker_frames(styled, original, {.window = 15});
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "lithe/base/progress.h"
#include "lithe/video/frame.h"
#include "lithe/video/match.h"
#include "lithe/video/scan.h"

namespace lithe {

enum class BlendMode {
  Fast,      // partial averages from a table; O(log window) pairs of frames to match for each frame
  Balanced,  // every pair of the window
  Accurate,  // every pair, the frames of a window being drawn to one common picture while they are matched
};

struct DeflickerOptions {
  BlendMode mode = BlendMode::Fast;
  std::int64_t window = 15;  // frames on each side, 0..1000
  MatchOptions match;
  std::int64_t accurate_batch = 0;  // frames that are drawn together by Accurate; 0: all of a window
  // Beyond the published method; each can be switched off.
  bool even_colours = true;    // gains and offsets of the colours are evened out before (see scan.h)
  bool fractions = true;       // matches are refined to fractions of a pixel (see warp.h)
  bool weigh = true;           // pixels count by how well their guides agree
  bool restore_detail = true;  // see restore_detail.h
  bool find_scenes = true;     // averages do not reach over cuts
  bool warm_start = true;      // matching starts from the optical flow of the guides, on the finest levels
  double strength = 1;         // 0..1, of the result against the frame as it was
  int threads = 1;

  /// The method as it was published, with its off-by-one mended and results rounded instead of truncated.
  static DeflickerOptions published(BlendMode mode = BlendMode::Fast);
};

/// Throws Error(Input) naming the option that is out of its range.
void check(const DeflickerOptions& options);

/// Pairs of frames that are matched for a scene of so many frames.
std::int64_t pair_count(const DeflickerOptions& options, std::int64_t frames);

/// Bytes that `deflicker` holds at a time for pictures of that size.
std::int64_t memory_needed(const DeflickerOptions& options, int height, int width);

/// Gives the next frame of a video; false at its end.
using ReadFrame = std::function<bool(Frame& frame)>;
/// Takes the frames of the result in order, with their numbers.
using WriteFrame = std::function<void(std::int64_t number, Frame frame)>;

/// `scan` is that of the same frames (see VideoScanner). Results begin at frame `first`; they are the same
/// whatever it is, and whatever the number of threads. Progress counts pairs. Throws Error(Input) if the
/// videos end early, or frames differ in size.
void deflicker(const ReadFrame& style, const ReadFrame& guide, const VideoScan& scan,
               const DeflickerOptions& options, const WriteFrame& write, Progress& progress,
               std::int64_t first = 0);

/// The same for videos in memory, of one length and size; scans them itself.
std::vector<Frame> deflicker_frames(const std::vector<Frame>& style, const std::vector<Frame>& guide,
                                    const DeflickerOptions& options, Progress* progress = nullptr);

}  // namespace lithe
