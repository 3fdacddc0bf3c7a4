// Settings by task.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lithe/stylize/stylize.h"
#include "lithe/video/deflicker.h"

namespace lithe {

/// The settings that DiffSynth's authors give for a task (Duan et al., ECML PKDD 2024, and the files that go
/// with the paper). Smoothing over the whole video is a window of kWholeVideo.
struct StylizeRecipe {
  const char* name;
  const char* summary;
  const char* controls;  // what leads the model there, for people
  std::int64_t height, width;
  std::int64_t steps;
  double strength;
  std::vector<std::int64_t> cross_frames;
  BlendMode mode;
  std::int64_t window;
  double contrast, sharpness;
  std::int64_t interval, ignored_last;  // see regular_smoothing
  bool smooth_finished;
  double final_contrast, final_sharpness;
};

inline constexpr std::int64_t kWholeVideo = 1000;  // frames on each side, the most that deflickering takes

const std::vector<StylizeRecipe>& stylize_recipes();
/// Throws Error(Input) that lists the names.
const StylizeRecipe& find_stylize_recipe(std::string_view name);

/// Options with the recipe's steps, strength, cross-frame attention and smoothing in them.
void apply(const StylizeRecipe& recipe, StylizeOptions& options);

}  // namespace lithe
