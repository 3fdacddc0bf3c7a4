#include "cli/reconstruct_report.h"

#include <algorithm>
#include <cmath>

#include "cli/json.h"
#include "cli/verb.h"
#include "lithe/quantize/reconstruct/oscillation.h"

namespace lithe::cli {
namespace {

struct Curve {
  std::vector<double> losses;
  std::vector<std::string> names;
  Oscillation seen;
  bool falls_into_output = false;  // which says nothing: the output is of another kind

  std::string text() const { return summarise(seen, losses, names); }
};

/// The losses behind each unit; those inside a group are not known.
Curve curve_of(const std::vector<SliceResult>& slices) {
  Curve curve;
  for (const SliceResult& slice : slices) {
    curve.losses.push_back(slice.loss_after);
    curve.names.push_back(slice.name);
  }
  curve.seen = describe_oscillation(curve.losses, {}, kLeastFall);
  curve.falls_into_output = forget_fall_into_output(curve.seen, curve.losses.size());
  return curve;
}

/// The losses unit by unit without groups: measured first, or of the run itself.
const std::vector<SliceResult>* ungrouped(const Reconstruction& reconstruction) {
  if (!reconstruction.survey.empty()) return &reconstruction.survey;
  return reconstruction.slices.size() == reconstruction.units.size() ? &reconstruction.slices : nullptr;
}

json slices_json(const std::vector<SliceResult>& slices) {
  json list = json::array();
  for (const SliceResult& slice : slices)
    list.push_back({{"name", slice.name},
                    {"units", slice.units},
                    {"steps", slice.steps},
                    {"loss_before", or_null(slice.loss_before)},
                    {"loss_after", or_null(slice.loss_after)},
                    {"power", or_null(slice.power)},
                    {"kept_nearest", slice.kept_nearest},
                    {"loss_learnt", slice.kept_nearest ? or_null(slice.loss_learnt) : json(nullptr)},
                    {"diverged_at_step", slice.diverged > 0 ? json(slice.diverged) : json(nullptr)},
                    {"scales_taken_back", slice.scales_taken_back},
                    {"loss_at_warmup", slice.loss_at_warmup},
                    {"regulariser_at_warmup", slice.regulariser_at_warmup},
                    {"weights", slice.weights},
                    {"undecided", slice.undecided},
                    {"seconds", slice.seconds}});
  return list;
}

json oscillation_json(const std::vector<SliceResult>& slices) {
  const Curve curve = curve_of(slices);
  const Oscillation& seen = curve.seen;
  return {{"falling_edges", seen.edges},
          {"peaks", seen.peaks},
          {"falls_into_output", curve.falls_into_output},
          {"sum_squared", seen.sum_squared},
          {"mean_absolute", seen.mean_absolute},
          {"largest", seen.largest},
          {"last", seen.last}};
}

/// A point for each slice but the last of several, whose loss is of another kind and would flatten the
/// others.
Series series_of(const std::string& name, const std::vector<SliceResult>& slices,
                 double SliceResult::*loss = &SliceResult::loss_after) {
  Series series{.name = name};
  for (std::size_t s = 0; s + 1 < std::max<std::size_t>(slices.size(), 2); ++s) {
    series.x.push_back(slices[s].units.empty() ? 0 : slices[s].units.back());
    series.y.push_back(slices[s].*loss);
  }
  return series;
}

/// "grouped, 2000 steps": curves of different steps are not of one measure.
std::string with_steps(const char* name, const std::vector<SliceResult>& slices) {
  std::int64_t steps = 0;
  for (const SliceResult& slice : slices) steps = std::max(steps, slice.steps);
  return fmt::format("{}, {} steps", name, steps);
}

/// What of a slice was taken back.
std::string kept_text(const SliceResult& slice) {
  if (slice.kept_nearest) return slice.weights > 0 ? "kept nearest" : "kept scales";
  return slice.scales_taken_back ? "kept scales" : "";
}

std::string units_text(const SliceResult& slice) {
  return fmt::format("{}", fmt::join(slice.units, "-"));
}

std::string loss_text(double loss) {
  return std::isnan(loss) ? "" : fmt::format("{:.4g}", loss);
}

std::string relative_text(const SliceResult& slice) {
  return fmt::format("{:.4f}", slice.power > 0 ? slice.loss_after / slice.power : 0);
}

/// The slices, and the polish of all behind them.
std::vector<SliceResult> learnt(const Reconstruction& reconstruction) {
  std::vector<SliceResult> results = reconstruction.slices;
  if (reconstruction.polish) {
    results.push_back(*reconstruction.polish);
    results.back().name = "polish";
    results.back().units.clear();
  }
  return results;
}

}  // namespace

json reconstruction_json(const Reconstruction& reconstruction) {
  json units = json::array();
  for (std::size_t i = 0; i < reconstruction.units.size(); ++i) {
    units.push_back(
        {{"name", reconstruction.units[i].name}, {"stage_boundary", reconstruction.units[i].stage_boundary}});
    if (!reconstruction.capacity.empty()) units.back()["capacity"] = reconstruction.capacity[i];
  }
  json object{{"units", units},
              {"groups", reconstruction.groups},
              {"slices", slices_json(reconstruction.slices)},
              {"oscillation", oscillation_json(reconstruction.slices)},
              {"samples", reconstruction.samples},
              {"rounding_weight", reconstruction.rounding_weight},
              {"peak_cache_bytes", reconstruction.peak_cache},
              {"spilled_bytes", reconstruction.spilled},
              {"held_bytes", reconstruction.held > 0 ? json(reconstruction.held) : json(nullptr)},
              {"seconds", reconstruction.seconds}};
  if (reconstruction.polish) object["polish"] = slices_json({*reconstruction.polish}).front();
  if (!reconstruction.survey.empty()) {
    object["survey"] = slices_json(reconstruction.survey);
    object["oscillation_ungrouped"] = oscillation_json(reconstruction.survey);
  }
  return object;
}

std::string reconstruction_table(const Reconstruction& reconstruction) {
  std::vector<std::vector<std::string>> rows;
  for (const SliceResult& slice : learnt(reconstruction))
    rows.push_back({slice.name, units_text(slice), loss_text(slice.loss_before), loss_text(slice.loss_after),
                    relative_text(slice), format_seconds(slice.seconds), kept_text(slice)});
  return format_table({"learnt together", "units", "loss, nearest", "loss, learnt", "relative", "time", ""},
                      rows);
}

std::string oscillation_text(const Reconstruction& reconstruction) {
  std::string text;
  if (const auto* before = ungrouped(reconstruction)) text = curve_of(*before).text();
  if (reconstruction.slices.size() < reconstruction.units.size())
    text += (text.empty() ? "grouped: " : "; grouped: ") + curve_of(reconstruction.slices).text();
  return text;
}

void add_reconstruction(Report& report, const Reconstruction& reconstruction) {
  LinePlot plot{.title = "Reconstruction loss from unit to unit",
                .x_label = "unit",
                .y_label = "squared error, summed over channels",
                .note = oscillation_text(reconstruction)};
  const std::vector<SliceResult>&slices = reconstruction.slices, &survey = reconstruction.survey;
  plot.series.push_back(series_of("nearest, behind learnt units", slices, &SliceResult::loss_before));
  if (!survey.empty()) plot.series.push_back(series_of(with_steps("unit by unit", survey), survey));
  plot.series.push_back(series_of(
      with_steps(slices.size() < reconstruction.units.size() ? "grouped" : "learnt", slices), slices));
  if (!survey.empty())
    plot.note +=
        ". The curve unit by unit was measured first, in its own number of steps and at its own rates: that "
        "another lies lower is no gain of grouping by itself";
  if (slices.size() > 1)
    plot.note += fmt::format(". '{}', which makes the output, is in the table only", slices.back().name);
  report.add(std::move(plot));
  Table table{.title = "Reconstruction",
              .columns = {{"learnt together", false},
                          {"units", false},
                          {"loss, nearest"},
                          {"loss, learnt"},
                          {"relative"},
                          {"undecided"},
                          {"steps"},
                          {"seconds"},
                          {"", false}}};
  for (const SliceResult& slice : learnt(reconstruction))
    table.rows.push_back(
        {slice.name, units_text(slice), loss_text(slice.loss_before), loss_text(slice.loss_after),
         relative_text(slice), fmt::format("{} of {}", slice.undecided, slice.weights),
         std::to_string(slice.steps), fmt::format("{:.1f}", slice.seconds), kept_text(slice)});
  report.add(std::move(table));
}

}  // namespace lithe::cli
