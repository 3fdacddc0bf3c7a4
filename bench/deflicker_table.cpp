// Ways to take flicker out of stylised videos side by side, where the truth is known.
//   deflicker_table [--tier smoke|small|paper] [--results FILE] [--seeds N] [--threads N] [--shard I/N]
//                   [--scenes two,pan] [--flickers gain,jitter] [--methods mean,dis] [--clip FILE]
// Every finished run is one JSON line appended to FILE (default deflicker_table_<tier>.jsonl); a run that is
// there is not done again. The table comes from the file.
//
// Scenes and their flickers come from formulas (lithe/video/scenes.h, flicker.h); a seed draws texture and
// flicker. Warp errors of scenes use the true flow. --clip takes the first 48 frames of a video at half size
// instead: the truth is the style of the scenes drawn on each frame, the clip is the guide, and the warp
// error uses flow estimated on it. All methods average over at most 7 frames on each side, but for FFmpeg's,
// which have their own windows. Detail is that of the truth at 1.
#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <opencv2/imgproc.hpp>
#include <string>
#include <vector>

#include "bench/deflicker_baselines.h"
#include "bench/filter_graph.h"
#include "bench/run_file.h"
#include "bench/statistics.h"
#include "bench/table_flags.h"
#include "lithe/video/deflicker.h"
#include "lithe/video/flicker.h"
#include "lithe/video/io/reader.h"
#include "lithe/video/scenes.h"
#include "lithe/video/video_score.h"

namespace {

using namespace lithe;
using bench::RunFile;
using nlohmann::json;

constexpr int kClipFrames = 48;
constexpr int kLeastClipFrames = 8;
const std::vector<std::string> kFields{"scene",  "flicker",    "method", "seed",          "psnr",
                                       "ssim",   "warp_error", "detail", "flicker_index", "flow_difference",
                                       "seconds"};

/// A video with a truth.
struct Video {
  std::string name;
  std::vector<Frame> guide, truth;
  std::vector<Flow> neighbours;  // from frame t - 1 to t; the first is empty
  bench::FlowBetween true_flow;  // empty for clips
};

struct Method {
  std::string name;
  std::function<std::vector<Frame>(const Video&, const std::vector<Frame>& style)> run;
  int tier = 0;         // the least that has it: 0 smoke, 1 small, 2 paper
  bool oracle = false;  // knows what no method can know, and does not compete
};

Method with_filter(const std::string& name, const std::string& filter) {
  return {name,
          [filter](const Video&, const std::vector<Frame>& style) { return bench::filtered(style, filter); }};
}

Method with_options(const std::string& name, DeflickerOptions options, int threads, int tier) {
  options.window = bench::kReach;
  options.threads = threads;
  return {.name = name,
          .run =
              [options](const Video& video, const std::vector<Frame>& style) {
                return deflicker_frames(style, video.guide, options);
              },
          .tier = tier};
}

std::vector<Method> methods_of(int threads) {
  const auto published = [](BlendMode mode) { return DeflickerOptions::published(mode); };
  return {
      {"truth", [](const Video& video, const std::vector<Frame>&) { return video.truth; }, 0, true},
      {"input", [](const Video&, const std::vector<Frame>& style) { return style; }},
      {"mean", [](const Video&, const std::vector<Frame>& style) { return bench::temporal_mean(style); }},
      {"median", [](const Video&, const std::vector<Frame>& style) { return bench::temporal_median(style); }},
      with_filter("ffmpeg deflicker", "deflicker=size=15"),
      with_filter("ffmpeg hqdn3d", "hqdn3d=4:3:24:18"),
      with_filter("ffmpeg atadenoise", "atadenoise=0a=0.08:0b=0.16:1a=0.08:1b=0.16:2a=0.08:2b=0.16:s=15"),
      {"dis",
       [](const Video& video, const std::vector<Frame>& style) {
         return bench::flow_mean(style, [&](int t, int n) {
           return checked_flow(video.guide[static_cast<std::size_t>(t)],
                               video.guide[static_cast<std::size_t>(n)]);
         });
       }},
      with_options("published fast", published(BlendMode::Fast), threads, 0),
      with_options("published balanced", published(BlendMode::Balanced), threads, 1),
      with_options("published accurate", published(BlendMode::Accurate), threads, 2),
      with_options("lithe fast", {}, threads, 0),
      with_options("lithe balanced", {.mode = BlendMode::Balanced}, threads, 1),
      with_options("lithe accurate", {.mode = BlendMode::Accurate}, threads, 2),
      {"true flow",
       [](const Video& video, const std::vector<Frame>& style) {
         return bench::flow_mean(style, video.true_flow);
       },
       0, true},
  };
}

Video video_of(SceneKind kind, int seed) {
  const auto scene =
      std::make_shared<Scene>(SceneOptions{.kind = kind, .seed = static_cast<std::uint64_t>(seed)});
  Video video{.name = std::string(to_string(kind))};
  for (int t = 0; t < scene->options().frames; ++t) {
    video.guide.push_back(scene->guide(t));
    video.truth.push_back(scene->truth(t));
    video.neighbours.push_back(t ? scene->flow(t - 1, t) : Flow{});
  }
  video.true_flow = [scene](int t, int n) { return scene->flow(t, n); };
  return video;
}

Video clip_of(const std::filesystem::path& path) {
  const auto reader = VideoReader::open(path, {.most = kClipFrames});
  Video video{.name = path.stem().string()};
  for (Frame frame; reader->read(frame);) {
    cv::Mat half;
    cv::resize(to_float(frame), half, {frame.width / 2, frame.height / 2}, 0, 0, cv::INTER_AREA);
    video.guide.push_back(to_frame(half));
    video.truth.push_back(drawn_style(video.guide.back()));
    video.neighbours.push_back(video.guide.size() > 1
                                   ? checked_flow(video.guide[video.guide.size() - 2], video.guide.back())
                                   : Flow{});
  }
  if (video.guide.size() < kLeastClipFrames)
    fail("{}: only {} frames; give a video of {} at least", path.string(), video.guide.size(),
         kLeastClipFrames);
  return video;
}

json scored(const Video& video, const std::vector<Frame>& result) {
  VideoScorer scorer({.flow_difference = true});
  for (std::size_t t = 0; t < result.size(); ++t)
    scorer.add(
        {.frame = result[t], .reference = &video.truth[t], .flow = t ? &video.neighbours[t] : nullptr});
  const VideoScore score = scorer.finish();
  return {{"psnr", *score.psnr},
          {"ssim", *score.ssim},
          {"warp_error", score.warp_error.value_or(0)},
          {"detail", score.detail.value_or(0)},
          {"flicker_index", score.flicker.value_or(0)},
          {"flow_difference", score.flow_difference.value_or(0)}};
}

struct Plan {
  std::vector<std::string> scenes, flickers;
  std::vector<Method> methods;
  std::string clip;
  int seeds = 1;
};

void run_all(const Plan& plan, RunFile& runs, const bench::TableFlags& flags) {
  int piece = 0;
  for (int seed = 1; seed <= plan.seeds; ++seed)
    for (const std::string& scene : plan.scenes) {
      if (!flags.mine(piece++)) continue;
      Video video;  // made when the first run needs it
      for (const std::string& flicker : plan.flickers)
        for (const Method& method : plan.methods) {
          const std::string key = fmt::format("{}/{}/{}/{}", scene, flicker, method.name, seed);
          if (runs.find(key)) continue;
          if (video.truth.empty())
            video = plan.clip.empty() ? video_of(scene_kind(scene), seed) : clip_of(plan.clip);
          if (method.name == "true flow" && !video.true_flow) continue;
          std::vector<Frame> style;
          for (std::size_t t = 0; t < video.truth.size(); ++t)
            style.push_back(flickering(video.truth[t], flicker_kind(flicker),
                                       static_cast<std::uint64_t>(seed), static_cast<std::int64_t>(t)));
          const std::clock_t start = std::clock();
          const std::vector<Frame> result = method.run(video, style);
          const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
          json run = scored(video, result);
          run.update({{"key", key},
                      {"scene", scene},
                      {"flicker", flicker},
                      {"method", method.name},
                      {"seed", seed},
                      {"seconds", seconds}});
          runs.add(run);
          fmt::print(stderr, "{}: {:.2f} dB, {:.1f} s\n", key, run["psnr"].get<double>(), seconds);
        }
    }
}

/// The values of one cell over the seeds that the plan has.
bench::Moments cell(const Plan& plan, const RunFile& runs, const std::string& scene,
                    const std::string& flicker, const std::string& method, const std::string& field) {
  std::vector<double> values;
  for (int seed = 1; seed <= plan.seeds; ++seed)
    if (const json* run = runs.find(fmt::format("{}/{}/{}/{}", scene, flicker, method, seed)))
      values.push_back(run->at(field).get<double>());
  return bench::moments(values);
}

/// PSNR and its spread / SSIM / warp error in 1e-4 / detail, and seconds of the processor a video.
void print_scene(const Plan& plan, const RunFile& runs, const std::string& scene) {
  fmt::print("\n{:<20}", scene);
  for (const std::string& flicker : plan.flickers) fmt::print("  {:<29}", flicker);
  fmt::print("  cpu s\n");
  for (const Method& method : plan.methods) {
    fmt::print("{:<20}", method.name);
    double seconds = 0;
    for (const std::string& flicker : plan.flickers) {
      const auto of = [&](const char* field) { return cell(plan, runs, scene, flicker, method.name, field); };
      const bench::Moments psnr = of("psnr");
      const std::string text =
          psnr.n == 0 ? "-"
                      : fmt::format("{:.2f}+-{:.2f}/{:.3f}/{:.2f}/{:.2f}", psnr.mean, psnr.deviation,
                                    of("ssim").mean, 1e4 * of("warp_error").mean, of("detail").mean);
      fmt::print("  {:<29}", text);
      seconds += of("seconds").mean / static_cast<double>(plan.flickers.size());
    }
    fmt::print("  {:.1f}\n", seconds);
  }
}

/// Of all cells, those where a method has the highest mean PSNR of those that compete, and those where it
/// keeps three quarters of the detail without adding a quarter.
void print_cells(const Plan& plan, const RunFile& runs) {
  std::map<std::string, int> won, detailed;
  int cells = 0;
  for (const std::string& scene : plan.scenes)
    for (const std::string& flicker : plan.flickers) {
      std::string best;
      double highest = -1;
      for (const Method& method : plan.methods) {
        const bench::Moments psnr = cell(plan, runs, scene, flicker, method.name, "psnr");
        const double detail = cell(plan, runs, scene, flicker, method.name, "detail").mean;
        if (psnr.n && detail >= 0.75 && detail <= 1.25) ++detailed[method.name];
        if (method.oracle || psnr.n == 0 || psnr.mean <= highest) continue;
        highest = psnr.mean;
        best = method.name;
      }
      if (best.empty()) continue;
      ++won[best];
      ++cells;
    }
  fmt::print("\n{:<20}  {:>12}  {:>20}\n", fmt::format("of {} cells", cells), "highest PSNR",
             "detail 0.75 to 1.25");
  for (const Method& method : plan.methods)
    fmt::print("{:<20}  {:>12}  {:>20}\n", method.name,
               method.oracle ? "-" : std::to_string(won[method.name]), detailed[method.name]);
}

/// Those of `all` that are asked for; all, where none is.
std::vector<std::string> chosen(const std::vector<std::string>& all, const std::vector<std::string>& asked,
                                const char* flag) {
  for (const std::string& name : asked)
    if (std::find(all.begin(), all.end(), name) == all.end())
      fail("{} {}: give some of {}", flag, name, fmt::join(all, ", "));
  return asked.empty() ? all : asked;
}

int run_table(const bench::TableFlags& flags, const std::vector<std::string>& scenes,
              const std::vector<std::string>& flickers, const std::vector<std::string>& names,
              const std::string& clip) {
  Plan plan{.clip = clip, .seeds = flags.seeds ? flags.seeds : flags.choose(1, 3, 5)};
  const int tier = flags.choose(0, 1, 2);
  std::vector<std::string> all_scenes, all_flickers, all_names;
  for (const SceneKind kind : kSceneKinds) all_scenes.emplace_back(to_string(kind));
  for (const FlickerKind kind : kFlickerKinds) all_flickers.emplace_back(to_string(kind));
  if (!clip.empty() && !scenes.empty()) fail("--scenes beside --clip: the clip is the scene; leave one out");
  plan.scenes = !clip.empty()                 ? std::vector{std::filesystem::path(clip).filename().string()}
                : scenes.empty() && tier == 0 ? std::vector<std::string>{"two"}
                                              : chosen(all_scenes, scenes, "--scenes");
  plan.flickers = chosen(all_flickers, flickers, "--flickers");
  const std::vector<Method> methods = methods_of(flags.threads);
  for (const Method& method : methods) all_names.push_back(method.name);
  const std::vector<std::string> asked = chosen(all_names, names, "--methods");
  for (const Method& method : methods)
    if (std::find(asked.begin(), asked.end(), method.name) != asked.end() &&
        (!names.empty() || method.tier <= tier))
      plan.methods.push_back(method);
  RunFile runs(flags.results, kFields);
  run_all(plan, runs, flags);
  if (flags.partial()) return 0;
  fmt::print("PSNR dB +- its deviation over {} seeds / SSIM / warp error in 1e-4 / detail\n", plan.seeds);
  for (const std::string& scene : plan.scenes) print_scene(plan, runs, scene);
  print_cells(plan, runs);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Ways to take flicker out of stylised videos", "deflicker_table");
  bench::TableFlags flags;
  bench::add_table_flags(app, flags);
  std::vector<std::string> scenes, flickers, methods;
  std::string clip;
  app.add_option("--scenes", scenes, "some of the scenes")->delimiter(',');
  app.add_option("--flickers", flickers, "some of the flickers")->delimiter(',');
  app.add_option("--methods", methods, "some of the methods, also those of higher tiers")->delimiter(',');
  app.add_option("--clip", clip, "a video instead of the scenes");
  return bench::run_table(app, flags, argc, argv,
                          [&] { return run_table(flags, scenes, flickers, methods, clip); });
}
