// `lithe stylize`: videos painted by a diffusion model.
#include <algorithm>
#include <filesystem>
#include <memory>

#include "cli/stylize_flags.h"
#include "cli/torch_setup.h"
#include "cli/verbs.h"
#include "cli/video_output.h"
#include "lithe/base/clock.h"
#include "lithe/base/error.h"
#include "lithe/data/picture_grid.h"
#include "lithe/report/report.h"
#include "lithe/stylize/pixels.h"
#include "lithe/video/io/reader.h"
#include "lithe/video/io/writer.h"

namespace lithe::cli {
namespace {

namespace fs = std::filesystem;

struct Clip {
  std::vector<Frame> frames;
  std::vector<FrameTime> times;
  std::vector<std::string> names;
  VideoInfo info;  // of what will be written
  std::optional<CopiedFile> copied;
};

Clip read_clip(StylizeFlags& flags) {
  ReadOptions options = read_options(flags.video);
  if (flags.call.options.limit > 0) options.most = flags.call.options.limit;
  const auto reader = VideoReader::open(flags.call.options.model, options);
  Clip clip{.frames = {}, .times = {}, .names = {}, .info = reader->info(), .copied = reader->copied_file()};
  const PictureSize size = picture_size(flags, clip.info);
  const bool asked = !flags.size.empty() || !flags.recipe.empty();
  if (!asked && (size.height != clip.info.height || size.width != clip.info.width))
    flags.call.warn(fmt::format("frames of {}x{} are cut to the shape of {}x{} and resized", clip.info.width,
                                clip.info.height, size.width, size.height));
  for (Frame frame; reader->read(frame);) {
    clip.frames.push_back(fit_frame(frame, size.height, size.width));
    clip.times.push_back(reader->time());
    clip.names.push_back(reader->name());
  }
  if (clip.frames.empty()) fail("{}: there are no frames to stylise", flags.call.options.model);
  clip.info.height = size.height;
  clip.info.width = size.width;
  return clip;
}

/// Ctrl-C stops smoothing too; its own course is not shown beside that of the steps.
FrameSmoother make_smoother(const DeflickerOptions& options) {
  return [options](const std::vector<Frame>& frames, const std::vector<Frame>& guides) {
    Progress silent;
    return deflicker_frames(frames, guides, options, &silent);
  };
}

/// A few frames evenly spaced over the video, those of the input above those of the result.
std::string strip(const std::vector<Frame>& input, const std::vector<Frame>& painted) {
  constexpr std::size_t kMost = 5;
  constexpr int kWidth = 240;
  const std::size_t count = std::min(kMost, input.size());
  std::vector<Frame> shown;
  for (const auto* video : {&input, &painted})
    for (std::size_t i = 0; i < count; ++i) {
      const Frame& frame = (*video)[count > 1 ? i * (video->size() - 1) / (count - 1) : 0];
      shown.push_back(frame.width > kWidth
                          ? fit_frame(frame, std::max(1, frame.height * kWidth / frame.width), kWidth)
                          : frame);
    }
  return grid_png(pixels_of(shown, 0, 255).round().to(at::kByte), static_cast<std::int64_t>(count));
}

void write_clip(Invocation& call, VideoWriter& writer, const Clip& clip, const std::vector<Frame>& painted) {
  for (std::size_t i = 0; i < painted.size(); ++i) writer.write(painted[i], clip.times[i], clip.names[i]);
  writer.finish();
  for (const std::string& note : writer.notes()) call.warn(note);
}

void check_flags(StylizeFlags& flags) {
  const CommonOptions& common = flags.call.options;
  if (common.output.empty()) fail("stylize needs -o: a file such as painted.mp4, or a folder");
  check_video_output(flags.call, {{"VIDEO", common.model}, {"--model", flags.model}});
}

fs::path state_of(const std::string& output) {
  fs::path path(output);
  if (!path.has_filename()) path = path.parent_path();
  return path.string() + ".state.npz";
}

void run_stylize(StylizeFlags& flags) {
  Invocation& call = flags.call;
  check_flags(flags);
  StylizeOptions options = stylize_options(flags);
  options.state = state_of(call.options.output);
  const DeflickerOptions smoothing = smoothing_options(flags);
  if (!options.resume && fs::exists(options.state))
    call.warn(fmt::format("{} holds a run that stopped; it is replaced (--resume goes on with it)",
                          options.state.string()));
  const Clip clip = read_clip(flags);
  options.network.controls = read_controls(flags, clip.frames);
  if (options.network.prompt.empty()) call.warn("no --prompt: the model paints what it likes");

  const at::Device device = set_up_torch(call);
  StableDiffusion model(flags.model, {.device = device});
  for (const std::string& note : model.notes()) call.warn(note);
  const auto steps = make_latent_steps(model.schedule(), options.steps, options.strength, options.spacing);
  const auto writer = VideoWriter::create(call.options.output, flags.video.write, clip.info, clip.copied);
  const auto start = Clock::now();
  const std::vector<Frame> painted =
      stylize(model, clip.frames, options, make_smoother(smoothing), call.progress());
  const double seconds = seconds_since(start);
  write_clip(call, *writer, clip, painted);
  fs::remove(options.state);

  const auto pictures = set_offsets(options.network.cross_frames).size();
  std::vector<double> times;
  for (const LatentStep& step : steps) times.push_back(step.timestep);
  json result{
      {"frames", painted.size()},
      {"height", clip.info.height},
      {"width", clip.info.width},
      {"timesteps", times},
      {"smoothed_steps", options.smoothing},
      {"smoothed_finished", options.smooth_finished},
      {"pictures_per_frame", pictures},
      {"network_calls_per_frame", steps.size() * pictures * (options.network.guidance_scale == 1 ? 1 : 2)},
      {"fixed_noise", options.fixed_noise},
      {"window", smoothing.window},
      {"controls", flags.controls},
      {"seconds_per_frame", seconds / static_cast<double>(painted.size())},
      {"notes", model.notes()}};
  std::vector<std::string> files{call.options.output};
  if (!call.options.report.empty()) {
    Report report{
        .title = "Stylised video",
        .subtitle = fs::path(call.options.model).filename().string(),
        .facts = {{"frames", std::to_string(painted.size())},
                  {"steps", std::to_string(steps.size())},
                  {"smoothed steps", std::to_string(options.smoothing.size())},
                  {"seconds a frame", fmt::format("{:.1f}", result["seconds_per_frame"].get<double>())}},
        .items = {}};
    report.add(Text{fmt::format("Prompt: {}", options.network.prompt)});
    report.add(Picture{.title = "Before and after", .png = strip(clip.frames, painted), .note = ""});
    const auto written = write_report(report, call.envelope(result, files), call.options.report);
    files.insert(files.end(), written.begin(), written.end());
  }
  call.say("{} frames of {}x{} in {}, {} steps, {} of them smoothed", painted.size(), clip.info.width,
           clip.info.height, format_seconds(seconds), steps.size(), options.smoothing.size());
  for (const std::string& file : files) call.say("wrote {}", file);
  call.finish(result, files);
}

}  // namespace

void add_stylize(CLI::App& app) {
  auto flags = std::make_shared<StylizeFlags>();
  CLI::App* verb = flags->verb = app.add_subcommand("stylize", summary_of("stylize"));
  flags->call.add_flags(
      *verb, {Flag::Output, Flag::Seed, Flag::Threads, Flag::Device, Flag::Limit, Flag::Resume}, false);
  verb->add_option("video", flags->call.options.model, "the video to stylise: a file or a folder of pictures")
      ->required();
  add_stylize_flags(*verb, *flags);
  add_video_flags(*verb, flags->video);
  verb->callback([flags] { run_stylize(*flags); });
}

}  // namespace lithe::cli
