// `lithe superpoints`: scenes in small pieces of surface.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>

#include "cli/validators.h"
#include "cli/verb.h"
#include "cli/verbs.h"
#include "lithe/base/clock.h"
#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/points/ply.h"
#include "lithe/points/superpoint_files.h"
#include "lithe/points/superpoints.h"
#include "lithe/report/report.h"

namespace lithe::cli {
namespace {

namespace fs = std::filesystem;

struct SuperpointFlags {
  Invocation call{"superpoints"};
  SuperpointOptions options;
  PlyOptions read;
  std::vector<double> viewpoint;
  std::string up = "z";
  bool cloud = false;
};

/// Numbers of points of the superpoints, rising.
std::vector<std::int64_t> sizes_of(const Superpoints& superpoints) {
  std::vector<std::int64_t> sizes(static_cast<std::size_t>(superpoints.count));
  for (const std::int32_t id : superpoints.ids) ++sizes[static_cast<std::size_t>(id)];
  std::sort(sizes.begin(), sizes.end());
  return sizes;
}

struct Outputs {
  fs::path coloured, segments;  // coloured: empty where it is not wanted

  std::vector<std::string> files() const {
    if (coloured.empty()) return {segments.string()};
    return {coloured.string(), segments.string()};
  }
};

Outputs check_outputs(const SuperpointFlags& flags) {
  const CommonOptions& common = flags.call.options;
  const fs::path output = common.output;
  if (output.empty()) fail("superpoints needs -o: a file such as pieces.ply, or pieces.json");
  std::string ending = output.extension().string();
  std::transform(ending.begin(), ending.end(), ending.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  if (ending != ".ply" && ending != ".json")
    fail("-o {} ends neither in .ply nor in .json; give one of them", common.output);
  Outputs out;
  if (ending == ".ply") out.coloured = output;
  out.segments = ending == ".ply" ? segments_path(output, flags.options.threshold) : output;
  for (const std::string& file : out.files()) {
    std::error_code missing;
    if (fs::equivalent(common.model, file, missing))
      fail("-o {}: {} is the scene itself, which would be lost; give another file", common.output, file);
    require_writable(file);
  }
  flags.call.check_outputs();
  return out;
}

Report report_of(const std::string& scene, const json& result, const std::vector<std::int64_t>& sizes) {
  Report report{.title = "Superpoints", .subtitle = fs::path(scene).filename().string()};
  report.facts = {{"superpoints", result["superpoints"].dump()},
                  {"points", result["points"].dump()},
                  {"median size", result["sizes"]["median"].dump()}};
  BarPlot plot{.title = "Superpoints by size", .y_label = "superpoints", .bars = {{"superpoints", {}}}};
  for (std::int64_t low = 1; low <= sizes.back(); low *= 2) {
    const auto first = std::lower_bound(sizes.begin(), sizes.end(), low),
               last = std::lower_bound(sizes.begin(), sizes.end(), 2 * low);
    plot.categories.push_back(low == 1 ? "1" : fmt::format("{} to {}", low, 2 * low - 1));
    plot.bars[0].values.push_back(static_cast<double>(last - first));
  }
  report.add(std::move(plot));
  for (const json& note : result["notes"]) report.add(Text{note.get<std::string>()});
  return report;
}

std::vector<std::string> notes_of(const SuperpointFlags& flags, const PlyScene& scene, bool mesh) {
  std::vector<std::string> notes = scene.notes();
  if (scene.dropped_points > 0)
    notes.push_back("the results number the points that are left, not those of the scene");
  if (flags.options.colour > 0 && scene.cloud.colours.empty())
    notes.push_back("the scene has no colours; --colour changes nothing");
  if (mesh && !flags.viewpoint.empty()) notes.push_back("the scene is a mesh; --viewpoint changes nothing");
  return notes;
}

void run_superpoints(SuperpointFlags& flags) {
  Invocation& call = flags.call;
  const Outputs outputs = check_outputs(flags);
  flags.read.y_up = flags.up == "y";
  PlyScene scene = read_ply(call.options.model, flags.read);
  SuperpointOptions options = flags.options;
  options.threads = call.threads();
  if (!flags.viewpoint.empty()) {
    Float3 place{};
    for (std::size_t axis = 0; axis < 3; ++axis)
      place[axis] = static_cast<float>(flags.viewpoint[axis] - scene.offset[axis]);
    options.viewpoint = place;
  }
  const bool mesh = !scene.cloud.faces.empty() && !flags.cloud;
  const std::vector<std::string> notes = notes_of(flags, scene, mesh);
  for (const std::string& note : notes) call.warn(note);
  const auto start = Clock::now();
  const Superpoints found =
      mesh ? mesh_superpoints(scene.cloud, options) : cloud_superpoints(scene.cloud, options);
  const double seconds = seconds_since(start);
  const std::vector<std::int64_t> sizes = sizes_of(found);
  json result{{"points", scene.cloud.size()},
              {"faces", scene.cloud.faces.size()},
              {"from", mesh ? "mesh" : "cloud"},
              {"superpoints", found.count},
              {"sizes",
               {{"smallest", sizes.front()}, {"median", sizes[sizes.size() / 2]}, {"largest", sizes.back()}}},
              {"dropped_points", scene.dropped_points},
              {"dropped_faces", scene.dropped_faces},
              {"offset", scene.offset},
              {"segmentation_seconds", seconds},
              {"notes", notes}};
  if (!outputs.coloured.empty()) {
    scene.cloud.colours = superpoint_colours(found);
    write_ply(outputs.coloured, scene.cloud, scene.offset);
  }
  write_segments(outputs.segments, fs::path(call.options.model).stem().string(), options, found);
  std::vector<std::string> files = outputs.files();
  if (!call.options.report.empty()) {
    const auto written = write_report(report_of(call.options.model, result, sizes),
                                      call.envelope(result, files), call.options.report);
    files.insert(files.end(), written.begin(), written.end());
  }
  call.say("{} superpoints of a {} of {} points, of {} to {} points, half of them {} or more; {:.0f} ms",
           found.count, mesh ? "mesh" : "cloud", scene.cloud.size(), sizes.front(), sizes.back(),
           sizes[sizes.size() / 2], 1e3 * seconds);
  for (const std::string& file : files) call.say("wrote {}", file);
  call.finish(result, files);
}

}  // namespace

void add_superpoints(CLI::App& app) {
  auto flags = std::make_shared<SuperpointFlags>();
  CLI::App* verb = app.add_subcommand("superpoints", summary_of("superpoints"));
  flags->call.add_flags(*verb, {Flag::Output, Flag::Threads}, false);
  verb->add_option("scene", flags->call.options.model, "a mesh or a cloud of points: a PLY file")->required();
  SuperpointOptions& options = flags->options;
  verb->add_option("--threshold", options.threshold, "larger makes larger superpoints")
      ->check(at_least(0))
      ->capture_default_str();
  verb->add_option("--least", options.least, "points; smaller superpoints join a neighbour")
      ->check(at_least(1))
      ->capture_default_str();
  verb->add_option("--colour", options.colour, "weight of differences of colour against those of direction")
      ->check(at_least(0))
      ->capture_default_str();
  verb->add_flag("--dead-zone", options.dead_zone,
                 "exactly flat surfaces count as flat, whatever rounding says");
  verb->add_flag("--cloud", flags->cloud, "leave faces aside: neighbours are the nearest points");
  verb->add_option("--neighbours", options.neighbours, "of each point of a cloud")
      ->check(in_range(1, 256))
      ->capture_default_str();
  verb->add_option("--normal-neighbours", options.normal_neighbours, "points that a normal is fitted to")
      ->check(in_range(4, 256))
      ->capture_default_str();
  verb->add_option("--viewpoint", flags->viewpoint,
                   "X,Y,Z: where the scanner stood, in metres with z up; normals face it")
      ->delimiter(',')
      ->expected(3);
  verb->add_option("--scale", flags->read.scale, "metres a unit of the file")
      ->check(positive())
      ->capture_default_str();
  verb->add_option("--up", flags->up, "the axis of the file that points up: z or y")
      ->check(CLI::IsMember({"z", "y"}))
      ->capture_default_str();
  verb->callback([flags] { run_superpoints(*flags); });
}

}  // namespace lithe::cli
