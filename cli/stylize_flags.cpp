#include "cli/stylize_flags.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <filesystem>

#include "cli/validators.h"
#include "lithe/base/error.h"
#include "lithe/stylize/control_pictures.h"
#include "lithe/stylize/pixels.h"
#include "lithe/stylize/recipes.h"
#include "lithe/stylize/vae.h"
#include "lithe/video/io/reader.h"

namespace lithe::cli {
namespace {

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  for (std::size_t from = 0; from <= text.size();) {
    const std::size_t end = std::min(text.find(',', from), text.size());
    parts.push_back(text.substr(from, end - from));
    from = end + 1;
  }
  return parts;
}

std::vector<std::int64_t> parse_list(const std::string& text, const char* flag) {
  std::vector<std::int64_t> numbers;
  for (const std::string& part : split(text)) {
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), number);
    if (error != std::errc() || end != part.data() + part.size())
      fail("{} {}: '{}' is no whole number; give some, separated by commas", flag, text, part);
    numbers.push_back(number);
  }
  return numbers;
}

/// "depth/,scale=0.5,network=depth.onnx,shuffle=1".
struct ControlFlag {
  std::string source, network;
  double scale = 1;
  bool shuffle = false;
};

ControlFlag parse_control(const std::string& text) {
  const std::vector<std::string> parts = split(text);
  ControlFlag control{.source = parts[0], .network = ""};
  if (control.source.empty()) fail("--control {}: name a video, a folder of pictures, canny or tile", text);
  for (std::size_t i = 1; i < parts.size(); ++i) {
    const std::size_t equals = std::min(parts[i].find('='), parts[i].size());
    const std::string key = parts[i].substr(0, equals);
    const std::string value = equals < parts[i].size() ? parts[i].substr(equals + 1) : "";
    char rest = 0;
    if (key == "network" && !value.empty())
      control.network = value;
    else if (key == "shuffle" && (value == "0" || value == "1"))
      control.shuffle = value == "1";
    else if (key != "scale" || std::sscanf(value.c_str(), "%lf%c", &control.scale, &rest) != 1 ||
             !(control.scale >= 0 && control.scale <= 100))
      fail("--control {}: '{}' is none of scale=0.5 (0 to 100), network=FILE and shuffle=1", text, parts[i]);
  }
  return control;
}

std::vector<Frame> read_pictures(const StylizeFlags& flags, const ControlFlag& control,
                                 const std::vector<Frame>& frames) {
  if (control.source == "tile") return frames;
  if (control.source == "canny") return canny_edges(frames);
  ReadOptions options = read_options(flags.video);
  options.most = static_cast<std::int64_t>(frames.size());
  const auto reader = VideoReader::open(control.source, options);
  std::vector<Frame> pictures;
  for (Frame frame; reader->read(frame);)
    pictures.push_back(fit_frame(frame, frames[0].height, frames[0].width));
  if (pictures.size() == 1 && control.shuffle) pictures.resize(frames.size(), Frame(pictures[0]));
  if (pictures.size() != frames.size())
    fail("--control {}: has {} pictures for {} frames", control.source, pictures.size(), frames.size());
  return pictures;
}

}  // namespace

std::vector<std::int64_t> parse_smoothing(const std::string& text, std::int64_t count) {
  if (text == "none") return {};
  if (text == "all") return regular_smoothing(count, 1, 0);
  if (text == "all-but-last") return regular_smoothing(count, 1, 1);
  constexpr std::string_view kEvery = "every:";
  if (text.starts_with(kEvery)) {
    const auto interval = parse_list(text.substr(kEvery.size()), "--smooth every:");
    if (interval.size() == 1 && interval[0] >= 1) return regular_smoothing(count, interval[0], 0);
    fail("--smooth {}: give one whole number of steps, 1 or more", text);
  }
  std::vector<std::int64_t> steps = parse_list(text, "--smooth");
  std::sort(steps.begin(), steps.end());
  steps.erase(std::unique(steps.begin(), steps.end()), steps.end());
  if (steps.front() < 0 || steps.back() >= count)
    fail("--smooth {}: there are {} steps, 0 to {}", text, count, count - 1);
  return steps;
}

StylizeOptions stylize_options(const StylizeFlags& flags) {
  StylizeOptions options = flags.options;
  const StylizeOptions& own = flags.options;
  options.spacing = parse_time_spacing(flags.spacing);
  options.solver = parse_latent_solver(flags.sampler);
  options.seed = flags.call.options.seed;
  options.fixed_noise = !flags.own_noise;
  options.resume = flags.call.options.resume;
  if (!flags.recipe.empty()) {
    apply(find_stylize_recipe(flags.recipe), options);
    if (flags.given("--steps")) options.steps = own.steps;
    if (flags.given("--strength")) options.strength = own.strength;
    if (flags.given("--smooth-finished")) options.smooth_finished = own.smooth_finished;
    if (flags.given("--contrast")) options.contrast = own.contrast;
    if (flags.given("--sharpness")) options.sharpness = own.sharpness;
    if (flags.given("--final-contrast")) options.final_contrast = own.final_contrast;
    if (flags.given("--final-sharpness")) options.final_sharpness = own.final_sharpness;
  }
  if (flags.given("--cross-frames"))
    options.network.cross_frames = flags.cross_frames == "none"
                                       ? std::vector<std::int64_t>{}
                                       : parse_list(flags.cross_frames, "--cross-frames");
  const auto count = static_cast<std::int64_t>(
      make_latent_steps({}, options.steps, options.strength, options.spacing).size());
  if (flags.given("--smooth")) {
    options.smoothing = parse_smoothing(flags.smooth, count);
  } else if (flags.recipe.empty()) {
    options.smoothing = parse_smoothing("all-but-last", count);
  } else {
    const StylizeRecipe& recipe = find_stylize_recipe(flags.recipe);
    options.smoothing = regular_smoothing(count, recipe.interval, recipe.ignored_last);
  }
  return options;
}

DeflickerOptions smoothing_options(const StylizeFlags& flags) {
  DeflickerOptions options = flags.published ? DeflickerOptions::published() : DeflickerOptions();
  if (!flags.recipe.empty()) {
    const StylizeRecipe& recipe = find_stylize_recipe(flags.recipe);
    options.mode = recipe.mode;
    options.window = recipe.window;
  }
  if (flags.given("--window")) options.window = flags.deflicker.window;
  if (flags.given("--mode"))
    options.mode = flags.mode == "balanced"   ? BlendMode::Balanced
                   : flags.mode == "accurate" ? BlendMode::Accurate
                                              : BlendMode::Fast;
  options.match.seed = flags.call.options.seed;
  options.threads = flags.call.threads();
  check(options);
  return options;
}

PictureSize picture_size(const StylizeFlags& flags, const VideoInfo& video) {
  constexpr int kBlock = StableDiffusionVae::kBlock, kMost = 8192;
  PictureSize size{video.height, video.width};
  if (!flags.size.empty()) {
    char rest = 0;
    if (std::sscanf(flags.size.c_str(), "%dx%d%c", &size.width, &size.height, &rest) != 2 ||
        size.width < kBlock || size.height < kBlock || size.width > kMost || size.height > kMost)
      fail("--size {}: give width and height such as 512x512, {} to {}", flags.size, kBlock, kMost);
    if (size.width % kBlock != 0 || size.height % kBlock != 0)
      fail("--size {}: both must be multiples of {}", flags.size, kBlock);
  } else if (!flags.recipe.empty()) {
    const StylizeRecipe& recipe = find_stylize_recipe(flags.recipe);
    size = {static_cast<int>(recipe.height), static_cast<int>(recipe.width)};
  }
  return {floor_to_multiple(size.height, kBlock), floor_to_multiple(size.width, kBlock)};
}

std::vector<Control> read_controls(const StylizeFlags& flags, const std::vector<Frame>& frames) {
  std::vector<Control> controls;
  for (const std::string& text : flags.controls) {
    const ControlFlag flag = parse_control(text);
    controls.push_back({.frames = read_pictures(flags, flag, frames),
                        .scale = flag.scale,
                        .network = flag.network,
                        .shuffle = flag.shuffle});
  }
  return controls;
}

void add_stylize_flags(CLI::App& verb, StylizeFlags& flags) {
  StylizeOptions& options = flags.options;
  GuidedUnetOptions& network = options.network;
  std::string recipes;
  for (const StylizeRecipe& recipe : stylize_recipes())
    recipes += (recipes.empty() ? "" : ", ") + std::string(recipe.name);
  verb.add_option("--model", flags.model, "folder of a Stable Diffusion 1 or 2 model exported to ONNX")
      ->required();
  verb.add_option("--prompt", network.prompt, "what to paint");
  verb.add_option("--negative", network.negative_prompt, "what to keep away from");
  verb.add_option("--guidance", network.guidance_scale, "how much of the prompt; 1 leaves --negative out")
      ->check(in_range(0, 1000))
      ->capture_default_str();
  verb.add_option("--recipe", flags.recipe, "the paper's settings for a task: " + recipes);
  verb.add_option("--size", flags.size,
                  "width and height such as 512x512 (default: the video's, multiples of 8)");
  verb.add_option("--steps", options.steps, "of sampling")->check(in_range(1, 1000))->capture_default_str();
  verb.add_option("--strength", options.strength, "1: from noise; less: from the frames with so much noise")
      ->check(positive_up_to(1))
      ->capture_default_str();
  verb.add_option("--sampler", flags.sampler, "ddim or dpmpp2m")
      ->check(CLI::IsMember({"ddim", "dpmpp2m"}))
      ->capture_default_str();
  verb.add_option("--spacing", flags.spacing, "of the steps: paper, studio or leading")
      ->check(CLI::IsMember({"paper", "studio", "leading"}))
      ->capture_default_str();
  verb.add_flag("--own-noise", flags.own_noise, "other noise for each frame");
  verb.add_option(
      "--smooth", flags.smooth,
      "steps to smooth frames at: all, all-but-last, none, every:5, or 4,9,14,19 (default: all-but-last)");
  verb.add_flag("--smooth-finished", options.smooth_finished, "smooth the finished frames too");
  verb.add_option("--mode", flags.mode, "of smoothing: fast, balanced or accurate (default: fast)")
      ->check(CLI::IsMember({"fast", "balanced", "accurate"}));
  verb.add_option("--window", flags.deflicker.window, "of smoothing: frames on each side")
      ->check(in_range(0, 1000))
      ->capture_default_str();
  verb.add_flag("--published", flags.published, "smooth as published, without what Lithe adds");
  verb.add_flag("--compensate", options.compensate, "keep the autoencoder's own error out of smoothing");
  const auto ratio = [&](const char* name, double& value, const char* help) {
    verb.add_option(name, value, help)->check(in_range(0, 100))->capture_default_str();
  };
  ratio("--contrast", options.contrast, "of frames smoothed between steps");
  ratio("--sharpness", options.sharpness, "of frames smoothed between steps");
  ratio("--final-contrast", options.final_contrast, "of finished frames that are smoothed");
  ratio("--final-sharpness", options.final_sharpness, "of finished frames that are smoothed");
  verb.add_option(
      "--cross-frames", flags.cross_frames,
      "frames that each one sees beside itself, such as -10000,-1,0,1 for the first and its neighbours");
  verb.add_option("--control", flags.controls,
                  "pictures that lead the model: VIDEO, canny or tile, with scale=, network= and shuffle=1 "
                  "behind commas");
  verb.add_option("--batch", network.batch, "pictures in one run of the U-Net")
      ->check(in_range(1, 4096))
      ->capture_default_str();
  verb.add_option("--vae-batch", options.vae_batch, "pictures in one run of the autoencoder")
      ->check(in_range(1, 4096))
      ->capture_default_str();
}

}  // namespace lithe::cli
