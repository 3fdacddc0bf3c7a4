// What a search of schedules found, for people and programs.
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "cli/json.h"
#include "cli/sample_json.h"
#include "cli/schedule.h"
#include "lithe/data/picture_grid.h"
#include "lithe/metrics/features.h"

namespace lithe::cli {
namespace {

constexpr std::int64_t kShownImages = 36, kShownRows = 12;
constexpr std::int64_t kLeastShown = 32;  // pixels across one image

std::string number(double value) {
  return std::isfinite(value) ? fmt::format("{:.4g}", value) : "not finite";
}

json finite(double value) {
  return std::isfinite(value) ? json(value) : json();
}

json judged_json(const std::vector<Judged>& judged) {
  json out = json::array();
  for (const Judged& one : judged) {
    json streams = json::array();
    for (const double value : one.fitness) streams.push_back(finite(value));
    json timesteps = json::array(), skipped = json::array();
    for (auto gene = one.candidate.rbegin(); gene != one.candidate.rend(); ++gene) {
      timesteps.push_back(gene->t);
      skipped.push_back(gene->skipped);
    }
    out.push_back({{"name", one.name},
                   {"timesteps", timesteps},
                   {"skipped", skipped},
                   {"fitness", finite(one.mean)},
                   {"sd", finite(one.sd)},
                   {"streams", streams},
                   {"against_by_hand", finite(one.against)},
                   {"against_sd", finite(one.against_sd)}});
  }
  return out;
}

std::string short_plan(const Candidate& candidate) {
  std::string out;
  for (auto gene = candidate.rbegin(); gene != candidate.rend(); ++gene) {
    if (out.size() > 70) return out + " ...";
    out += fmt::format("{}{}", out.empty() ? "" : " ", gene->t);
    if (!gene->skipped.empty()) out += fmt::format("(-{})", gene->skipped.size());
  }
  return out;
}

std::vector<std::vector<std::string>> judged_rows(const std::vector<Judged>& judged) {
  std::vector<std::vector<std::string>> rows;
  for (const Judged& one : judged)
    rows.push_back({one.name, short_plan(one.candidate),
                    fmt::format("{} ± {}", number(one.mean), number(one.sd)),
                    fmt::format("{:+.3g} ± {:.3g}", one.against, one.against_sd)});
  return rows;
}
const std::vector<std::string> kJudgedHeader{"schedule", "steps", "distance", "against best by hand"};

Table judged_report(const std::string& title, const std::vector<Judged>& judged, const std::string& note) {
  Table table{.title = title, .columns = {}, .rows = judged_rows(judged), .note = note};
  for (std::size_t i = 0; i < kJudgedHeader.size(); ++i) table.columns.push_back({kJudgedHeader[i], i > 1});
  return table;
}

HeatMap skip_map(const SavedSchedule& schedule, const std::vector<SkippableLayer>& layers) {
  HeatMap map{.title = "Layers that are executed",
              .rows = {},
              .columns = {},
              .values = {},
              .note = "Bright: executed; dark: left out. Steps from the noisy end on."};
  for (auto step = schedule.steps.rbegin(); step != schedule.steps.rend(); ++step)
    map.columns.push_back(fmt::format("{:.6g}", step->timestep));
  for (const SkippableLayer& layer : layers) {
    map.rows.push_back(layer.name);
    std::vector<double> row;
    for (auto step = schedule.steps.rbegin(); step != schedule.steps.rend(); ++step)
      row.push_back(std::count(step->skipped.begin(), step->skipped.end(), layer.name) > 0 ? 0 : 1);
    map.values.push_back(std::move(row));
  }
  return map;
}

/// The same noise through the best schedules, side by side.
void add_samples(Report& report, const ScheduleSearchResult& result, const LoadedDenoiser& model) {
  if (model.task.shape[0] != 1 && model.task.shape[0] != 3) return;
  ImageTask task = model.task;
  task.make_features = nullptr;
  ImageMaker maker(task);
  const std::int64_t magnify =
      std::max<std::int64_t>(1, kLeastShown / std::max(task.shape[1], task.shape[2]));
  std::int64_t shown = 0;
  bool by_hand = false;
  for (const Judged& one : result.judged) {
    const bool searched = one.candidate == result.best;
    if (!searched && one.name != result.by_hand && one.name != "leading") continue;
    if (++shown > 3) break;
    by_hand = by_hand || !searched;
    const at::Tensor images = maker.images(plan_of(one.candidate), 0, 0, kShownImages);
    report.add(Picture{.title = fmt::format("{}: {}", one.name, short_plan(one.candidate)),
                       .png = grid_png(to_uint8(images.nan_to_num(0, 1, -1)), kShownRows, magnify),
                       .note = "The same noise for each schedule."});
  }
}

LinePlot course_plot(const ScheduleSearchResult& result) {
  LinePlot plot{
      .title = "Course of the search", .x_label = "evaluations", .y_label = "distance", .series = {}};
  Series best{.name = "best so far", .x = {}, .y = {}},
      mean{.name = "mean of what was judged", .x = {}, .y = {}};
  for (const GenerationRecord& one : result.search.history) {
    best.x.push_back(static_cast<double>(one.evaluations));
    best.y.push_back(one.best);
    mean.x.push_back(static_cast<double>(one.evaluations));
    mean.y.push_back(std::isfinite(one.mean) ? one.mean : std::nan(""));
  }
  plot.series = {best, mean};
  plot.log_y = true;
  return plot;
}

}  // namespace

LinePlot log_snr_plot(const NoiseSchedule& noise,
                      const std::vector<std::pair<std::string, SamplingPlan>>& plans) {
  LinePlot plot{.title = "Steps on the log-SNR axis",
                .x_label = "half log signal-to-noise ratio",
                .y_label = "step of the network",
                .series = {},
                .note = "Sampling goes from left to right; each point is a call of the network."};
  for (const auto& [name, plan] : plans) {
    Series series{.name = name, .x = {}, .y = {}};
    for (std::size_t i = plan.size(); i-- > 0;) {
      series.x.push_back(noise.lambda_at(noise.time_of_step(plan[i].timestep)));
      series.y.push_back(plan[i].timestep);
    }
    plot.series.push_back(std::move(series));
  }
  return plot;
}

std::string judged_table(const ScheduleSearchResult& result) {
  return format_table(kJudgedHeader, judged_rows(result.judged));
}

json search_json(const ScheduleSearchResult& result, const SearchSummary& summary,
                 const SavedSchedule& schedule) {
  json timesteps = json::array(), skipped = json::array();
  for (auto step = schedule.steps.rbegin(); step != schedule.steps.rend(); ++step) {
    timesteps.push_back(static_cast<std::int64_t>(step->timestep));
    skipped.push_back(step->skipped);
  }
  const auto best = std::find_if(result.judged.begin(), result.judged.end(),
                                 [&](const Judged& one) { return one.candidate == result.best; });
  json history = json::array();
  for (const GenerationRecord& one : result.search.history)
    history.push_back({{"generation", one.generation},
                       {"best", finite(one.best)},
                       {"mean", finite(one.mean)},
                       {"evaluations", one.evaluations},
                       {"calls", one.calls}});
  json verdicts = json::object();
  for (const auto& [name, judged] : summary.verdicts) verdicts[name] = judged_json(judged);
  return {{"timesteps", timesteps},
          {"skip_layers", skipped},
          {"fitness", finite(best->mean)},
          {"fitness_sd", finite(best->sd)},
          {"against_by_hand", finite(best->against)},
          {"against_sd", finite(best->against_sd)},
          {"by_hand", result.by_hand},
          {"nfe", summary.nfe},
          {"macs", summary.macs},
          {"full_macs", summary.full_macs},
          {"metric", summary.metric},
          {"noise_floor", summary.noise_floor},
          {"method", summary.method},
          {"images", summary.images},
          {"final_images", summary.final_images},
          {"evaluations", result.evaluations},
          {"search_calls", result.search_calls},
          {"judge_calls", result.judge_calls},
          {"history", history},
          {"judged", judged_json(result.judged)},
          {"verdicts", verdicts}};
}

Report search_report(const ScheduleSearchResult& result, const SearchSummary& summary,
                     const SavedSchedule& schedule, const LoadedDenoiser& model) {
  const auto best = std::find_if(result.judged.begin(), result.judged.end(),
                                 [&](const Judged& one) { return one.candidate == result.best; });
  Report report{
      .title = "Search of a sampling schedule", .subtitle = summary.model, .facts = {}, .items = {}};
  report.facts = {
      {"distance", fmt::format("{} ± {}", number(best->mean), number(best->sd))},
      {"against " + result.by_hand, fmt::format("{:+.3g} ± {:.2g}", best->against, best->against_sd)},
      {"network calls an image", std::to_string(summary.nfe)},
      {"multiply-accumulates of all layers",
       fmt::format("{:.1f} %", 100 * summary.macs / summary.full_macs)}};
  report.add(Text{
      fmt::format("{} over {} evaluations ({:.4g} calls of the network), {} images each at most; {} in the "
                  "features of {} against {}.",
                  summary.method, result.evaluations, result.search_calls, summary.images, summary.metric,
                  summary.features, summary.data)});
  std::string note = fmt::format(
      "{} images on noise that the search did not use, {} streams: mean and standard deviation, and the "
      "paired "
      "difference to the best schedule made by hand.",
      summary.final_images, best->fitness.size());
  if (summary.noise_floor > 0)
    note += fmt::format(" So many images of the real distribution itself would be about {} away.",
                        number(summary.noise_floor));
  report.add(judged_report("Verdict", result.judged, note));
  for (const auto& [name, judged] : summary.verdicts)
    report.add(judged_report("Verdict in the features of " + name, judged,
                             "A network that the search did not use, on the same images."));
  std::vector<std::pair<std::string, SamplingPlan>> plans{{"searched", plan_of(result.best)}};
  for (const Judged& one : result.judged)
    if (one.name == result.by_hand || one.name == "leading")
      plans.emplace_back(one.name, plan_of(one.candidate));
  report.add(log_snr_plot(model.task.noise, plans));
  if (!result.search.history.empty()) report.add(course_plot(result));
  if (std::any_of(schedule.steps.begin(), schedule.steps.end(),
                  [](const SavedStep& one) { return !one.skipped.empty(); }))
    report.add(skip_map(schedule, model.layers));
  add_samples(report, result, model);
  return report;
}

}  // namespace lithe::cli
