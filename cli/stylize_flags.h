// The flags of lithe stylize, and what they mean for the library.
#pragma once

#include <string>
#include <vector>

#include "cli/verb.h"
#include "cli/video_flags.h"
#include "lithe/stylize/stylize.h"
#include "lithe/video/deflicker.h"
#include "lithe/video/io/video_info.h"

namespace lithe::cli {

struct StylizeFlags {
  Invocation call{"stylize"};
  VideoFlags video;
  StylizeOptions options;
  DeflickerOptions deflicker;
  std::string model, recipe, size, smooth, cross_frames, mode, sampler = "ddim", spacing = "paper";
  std::vector<std::string> controls;
  bool own_noise = false, published = false;
  CLI::App* verb = nullptr;

  bool given(const char* flag) const { return verb->get_option(flag)->count() > 0; }
};

void add_stylize_flags(CLI::App& verb, StylizeFlags& flags);

/// What sampling is told, but for the control pictures: those of the recipe, and flags over them. Throws
/// Error(Input) naming the flag that makes no sense.
StylizeOptions stylize_options(const StylizeFlags& flags);
DeflickerOptions smoothing_options(const StylizeFlags& flags);

/// Steps "all", "all-but-last", "none", "every:5" or "4,9,14,19" of `count`; throws Error(Input).
std::vector<std::int64_t> parse_smoothing(const std::string& text, std::int64_t count);

struct PictureSize {
  int height = 0, width = 0;
};
/// --size, else that of the recipe where one is given, else that of the video; multiples of 8.
PictureSize picture_size(const StylizeFlags& flags, const VideoInfo& video);

/// All --control flags, for these frames. Throws Error(Input) naming the flag or the video.
std::vector<Control> read_controls(const StylizeFlags& flags, const std::vector<Frame>& frames);

}  // namespace lithe::cli
