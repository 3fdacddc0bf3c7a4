// `lithe deflicker`: calm videos.
#include <cmath>
#include <filesystem>
#include <map>

#include "cli/deflicker_report.h"
#include "cli/validators.h"
#include "cli/verbs.h"
#include "cli/video_flags.h"
#include "cli/video_output.h"
#include "lithe/base/error.h"
#include "lithe/video/deflicker_video.h"

namespace lithe::cli {
namespace {

namespace fs = std::filesystem;

struct DeflickerFlags {
  Invocation call{"deflicker"};
  VideoFlags video;
  DeflickerOptions options;
  std::string guide, mode = "fast";
  std::vector<std::string> without;
  bool published = false, fit = false, direct = false, dry_run = false;
  double preview = 0;
  CLI::App* verb = nullptr;

  bool given(const char* flag) const { return verb->get_option(flag)->count() > 0; }
};

const std::map<std::string, BlendMode> kModes{
    {"fast", BlendMode::Fast}, {"balanced", BlendMode::Balanced}, {"accurate", BlendMode::Accurate}};

/// Where finished frames lie until the result is written.
fs::path default_spool(const std::string& output) {
  std::string name = output;
  while (name.size() > 1 && name.ends_with('/')) name.pop_back();
  return name + ".frames";
}

DeflickerOptions options_of(const DeflickerFlags& flags) {
  DeflickerOptions options = flags.published ? DeflickerOptions::published() : DeflickerOptions();
  options.mode = kModes.at(flags.mode);
  options.window = flags.options.window;
  options.match = flags.options.match;
  options.match.seed = flags.call.options.seed;
  options.strength = flags.options.strength;
  options.threads = flags.call.threads();
  for (const std::string& part : flags.without) {
    if (part == "colours") options.even_colours = false;
    if (part == "fractions") options.fractions = false;
    if (part == "weights") options.weigh = false;
    if (part == "detail") options.restore_detail = false;
    if (part == "scenes") options.find_scenes = false;
  }
  return options;
}

DeflickerJob job_of(DeflickerFlags& flags) {
  const CommonOptions& common = flags.call.options;
  DeflickerJob job{.style = common.model,
                   .guide = flags.guide,
                   .output = common.output,
                   .options = options_of(flags),
                   .read = read_options(flags.video),
                   .write = flags.video.write,
                   .fit = flags.fit,
                   .memory_bytes = common.memory_bytes,
                   .resume = common.resume};
  if (common.limit > 0) job.read.most = common.limit;
  if (flags.preview > 0) {
    const double rate = VideoReader::open(job.style, job.read)->info().rate.value();
    job.read.most = std::max<std::int64_t>(1, std::llround(flags.preview * (rate > 0 ? rate : 30)));
    job.shrink = 2;
  }
  if (!flags.direct) job.spool = default_spool(common.output);
  return job;
}

void check_flags(DeflickerFlags& flags) {
  const CommonOptions& common = flags.call.options;
  if (common.output.empty() && !flags.dry_run)
    fail("deflicker needs -o: a file such as calm.mp4, or a folder");
  if (flags.direct && common.resume) fail("--direct keeps nothing that --resume could go on with");
  if (flags.preview > 0 && common.limit > 0) fail("give one of --preview and --limit");
  if (flags.published && !flags.without.empty())
    fail("--published leaves out all that --without names; drop one");
  if (!flags.dry_run) check_video_output(flags.call, {{"VIDEO", common.model}, {"--guide", flags.guide}});
  const fs::path spool = default_spool(common.output);
  if (!flags.direct && !common.resume && fs::exists(spool / "manifest.json"))
    flags.call.warn(fmt::format("{} holds a run that stopped; it is replaced (--resume goes on with it)",
                                spool.string()));
}

json plan_json(const DeflickerJob& job, const VideoInfo& info) {
  const std::int64_t frames = job.read.most >= 0 ? job.read.most : count_frames(job.style, job.read);
  return {{"frames", frames},
          {"height", info.height / job.shrink},
          {"width", info.width / job.shrink},
          {"pairs", pair_count(job.options, frames)},
          {"memory_bytes", memory_needed(job.options, info.height / job.shrink, info.width / job.shrink)}};
}

void run_dry(DeflickerFlags& flags) {
  const DeflickerJob job = job_of(flags);
  const VideoInfo info = VideoReader::open(job.style, job.read)->info();
  const json result = plan_json(job, info);
  flags.call.say("{} frames of {}x{}: {} pairs of frames to match, {} of memory", result["frames"].dump(),
                 result["width"].dump(), result["height"].dump(), result["pairs"].dump(),
                 format_bytes(result["memory_bytes"].get<double>()));
  flags.call.finish(result);
}

void run_blend(DeflickerFlags& flags) {
  Invocation& call = flags.call;
  DeflickerJob job = job_of(flags);
  if (flags.guide.empty())
    call.warn("no --guide: the video itself, smoothed, guides the matching, whose flicker can mislead it");
  DeflickerWatch watch;
  if (!call.options.report.empty())
    job.on_frame = [&](std::int64_t number, const Frame& guide, const Frame& before, const Frame& after) {
      watch.add(number, guide, before, after);
    };
  const DeflickerOutcome outcome = deflicker_video(job, call.progress());
  for (const std::string& note : outcome.notes) call.warn(note);
  json result{{"frames", outcome.frames},
              {"resumed_frames", outcome.resumed_frames},
              {"pairs", outcome.pairs},
              {"scenes", outcome.scenes},
              {"guided_by", flags.guide.empty() ? "itself" : flags.guide},
              {"mode", flags.mode},
              {"window", job.options.window},
              {"frames_per_second", static_cast<double>(outcome.frames - outcome.resumed_frames) /
                                        std::max(outcome.seconds, 1e-9)},
              {"encoder", outcome.encoder},
              {"pixel_format", outcome.pixel_format},
              {"notes", outcome.notes}};
  std::vector<std::string> files{call.options.output};
  if (!call.options.report.empty()) {
    watch.describe(result);
    const Report report = watch.report(fs::path(call.options.model).filename().string(), outcome);
    const auto written = write_report(report, call.envelope(result, files), call.options.report);
    files.insert(files.end(), written.begin(), written.end());
  }
  call.say("{} frames in {} ({:.2f} a second), {} scene{}, {} pairs matched", outcome.frames,
           format_seconds(outcome.seconds), result["frames_per_second"].get<double>(), outcome.scenes.size(),
           outcome.scenes.size() == 1 ? "" : "s", outcome.pairs);
  for (const std::string& file : files) call.say("wrote {}", file);
  call.finish(result, files);
}

void run_deflicker(DeflickerFlags& flags) {
  check_flags(flags);
  if (flags.dry_run) return run_dry(flags);
  run_blend(flags);
}

}  // namespace

void add_deflicker(CLI::App& app) {
  auto flags = std::make_shared<DeflickerFlags>();
  CLI::App* verb = flags->verb = app.add_subcommand("deflicker", summary_of("deflicker"));
  flags->call.add_flags(
      *verb, {Flag::Output, Flag::Seed, Flag::Threads, Flag::Limit, Flag::Memory, Flag::Resume}, false);
  verb->add_option("video", flags->call.options.model,
                   "the video that flickers: a file or a folder of pictures")
      ->required();
  verb->add_option("--guide", flags->guide, "the video that it was made from");
  verb->add_option("--mode", flags->mode, "fast, balanced or accurate")
      ->check(CLI::IsMember({"fast", "balanced", "accurate"}))
      ->capture_default_str();
  DeflickerOptions& options = flags->options;
  verb->add_option("--window", options.window, "frames on each side that are averaged")
      ->check(in_range(0, 1000))
      ->capture_default_str();
  verb->add_option("--patch", options.match.patch, "side of the smallest patches, odd")
      ->capture_default_str();
  verb->add_option("--iterations", options.match.iterations, "of matching, on each level")
      ->capture_default_str();
  verb->add_option("--guide-weight", options.match.guide_weight, "of the guide against the style in matching")
      ->capture_default_str();
  verb->add_option("--strength", options.strength, "of the result against the frame as it was")
      ->check(in_range(0, 1))
      ->capture_default_str();
  verb->add_flag("--published", flags->published, "the method as published, without what Lithe adds");
  verb->add_option("--without", flags->without, "leave out colours, fractions, weights, detail, scenes")
      ->check(CLI::IsMember({"colours", "fractions", "weights", "detail", "scenes"}))
      ->delimiter(',');
  verb->add_flag("--fit", flags->fit, "resize a guide of another size, and cut the longer of the two");
  verb->add_option("--preview", flags->preview, "only the first so many seconds, at half size")
      ->check(positive());
  verb->add_flag("--direct", flags->direct,
                 "encode at once: keeps no frames on disk, and nothing to resume from");
  verb->add_flag("--dry-run", flags->dry_run, "say what it would take");
  add_video_flags(*verb, flags->video);
  verb->callback([flags] { run_deflicker(*flags); });
}

}  // namespace lithe::cli
