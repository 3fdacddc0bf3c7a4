#include "lithe/stylize/recipes.h"

#include <algorithm>
#include <cmath>

#include "lithe/base/error.h"

namespace lithe {

const std::vector<StylizeRecipe>& stylize_recipes() {
  static const std::vector<StylizeRecipe> recipes{
      {.name = "text",
       .summary = "a video in a style that words describe",
       .controls = "depth 1, soft edges 1",
       .height = 512,
       .width = 960,
       .steps = 20,
       .strength = 1,
       .cross_frames = {-10000, -1, 0, 1},
       .mode = BlendMode::Fast,
       .window = 30,
       .contrast = 1.5,
       .sharpness = 5,
       .interval = 5,
       .ignored_last = 0,
       .smooth_finished = true,
       .final_contrast = 1.5,
       .final_sharpness = 3},
      {.name = "fashion",
       .summary = "a person in a garment that the model was tuned for",
       .controls = "depth 1",
       .height = 768,
       .width = 512,
       .steps = 10,
       .strength = 1,
       .cross_frames = {-1, 0, 1},
       .mode = BlendMode::Balanced,
       .window = 3,
       .contrast = 1,
       .sharpness = 1,
       .interval = 1,
       .ignored_last = 1,
       .smooth_finished = false,
       .final_contrast = 1,
       .final_sharpness = 1},
      {.name = "image",
       .summary = "a video in the style of a picture",
       .controls = "depth 1, shuffled style picture 1",
       .height = 544,
       .width = 960,
       .steps = 20,
       .strength = 1,
       .cross_frames = {-1, 0, 1},
       .mode = BlendMode::Fast,
       .window = kWholeVideo,
       .contrast = 1,
       .sharpness = 1,
       .interval = 1,
       .ignored_last = 0,
       .smooth_finished = false,
       .final_contrast = 1,
       .final_sharpness = 1},
      {.name = "restore",
       .summary = "a video that was enlarged, with its details mended",
       .controls = "the frames themselves (tile) 1",
       .height = 1024,
       .width = 2112,
       .steps = 10,
       .strength = 0.3,
       .cross_frames = {-1, 0, 1},
       .mode = BlendMode::Fast,
       .window = kWholeVideo,
       .contrast = 1,
       .sharpness = 1,
       .interval = 1,
       .ignored_last = 0,
       .smooth_finished = false,
       .final_contrast = 1,
       .final_sharpness = 1},
      {.name = "render",
       .summary = "a picture-like video of a rendered scene",
       .controls = "depth 1",
       .height = 544,
       .width = 960,
       .steps = 20,
       .strength = 1,
       .cross_frames = {-1, 0, 1},
       .mode = BlendMode::Fast,
       .window = kWholeVideo,
       .contrast = 1,
       .sharpness = 1,
       .interval = 1,
       .ignored_last = 1,
       .smooth_finished = false,
       .final_contrast = 1,
       .final_sharpness = 1},
  };
  return recipes;
}

const StylizeRecipe& find_stylize_recipe(std::string_view name) {
  std::string names;
  for (const StylizeRecipe& recipe : stylize_recipes()) {
    if (recipe.name == name) return recipe;
    names += fmt::format("{}{}", names.empty() ? "" : ", ", recipe.name);
  }
  fail("no recipe is called '{}'; there are {}", name, names);
}

void apply(const StylizeRecipe& recipe, StylizeOptions& options) {
  options.steps = recipe.steps;
  options.strength = recipe.strength;
  options.network.cross_frames = recipe.cross_frames;
  const auto taken = make_latent_steps({}, recipe.steps, recipe.strength, options.spacing).size();
  options.smoothing =
      regular_smoothing(static_cast<std::int64_t>(taken), recipe.interval, recipe.ignored_last);
  options.smooth_finished = recipe.smooth_finished;
  options.contrast = recipe.contrast;
  options.sharpness = recipe.sharpness;
  options.final_contrast = recipe.final_contrast;
  options.final_sharpness = recipe.final_sharpness;
}

}  // namespace lithe
