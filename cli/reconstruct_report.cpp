#include "cli/reconstruct_report.h"

#include <algorithm>
#include <cmath>

#include "cli/json.h"
#include "cli/verb.h"
#include "lithe/quantize/reconstruct/oscillation.h"

namespace lithe::cli {
namespace {

struct Curve {
  std::vector<double> losses, powers;
  std::vector<std::string> names;
};

/// The losses behind each unit; those inside a group are not known.
Curve curve_of(const std::vector<SliceResult>& slices) {
  Curve curve;
  for (const SliceResult& slice : slices) {
    curve.losses.push_back(slice.loss_after);
    curve.powers.push_back(slice.power);
    curve.names.push_back(slice.name);
  }
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
                    {"loss_at_warmup", slice.loss_at_warmup},
                    {"regulariser_at_warmup", slice.regulariser_at_warmup},
                    {"weights", slice.weights},
                    {"undecided", slice.undecided},
                    {"seconds", slice.seconds}});
  return list;
}

json oscillation_json(const std::vector<SliceResult>& slices) {
  const Curve curve = curve_of(slices);
  const Oscillation seen = describe_oscillation(curve.losses, {}, kLeastFall);
  return {{"falling_edges", seen.edges},         {"peaks", seen.peaks},     {"sum_squared", seen.sum_squared},
          {"mean_absolute", seen.mean_absolute}, {"largest", seen.largest}, {"last", seen.last}};
}

Series series_of(const char* name, const std::vector<SliceResult>& slices) {
  Series series{.name = name};
  for (const SliceResult& slice : slices) {
    series.x.push_back(slice.units.empty() ? 0 : slice.units.back());
    series.y.push_back(slice.loss_after);
  }
  return series;
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
                    relative_text(slice), format_seconds(slice.seconds),
                    slice.kept_nearest ? "kept nearest" : ""});
  return format_table({"learnt together", "units", "loss, nearest", "loss, learnt", "relative", "time", ""},
                      rows);
}

std::string oscillation_text(const Reconstruction& reconstruction) {
  std::string text;
  if (const auto* before = ungrouped(reconstruction)) {
    const Curve curve = curve_of(*before);
    text = summarise(describe_oscillation(curve.losses, curve.powers, kLeastFall), curve.losses, curve.names,
                     true);
  }
  if (reconstruction.slices.size() < reconstruction.units.size()) {
    const Curve curve = curve_of(reconstruction.slices);
    text += (text.empty() ? "grouped: " : "; grouped: ") +
            summarise(describe_oscillation(curve.losses, curve.powers, kLeastFall), curve.losses, curve.names,
                      true);
  }
  return text;
}

void add_reconstruction(Report& report, const Reconstruction& reconstruction) {
  LinePlot plot{.title = "Reconstruction loss from unit to unit",
                .x_label = "unit",
                .y_label = "squared error, summed over channels",
                .log_y = true,
                .note = oscillation_text(reconstruction)};
  Series nearest{.name = "nearest rounding"};
  for (const SliceResult& slice : reconstruction.slices) {
    nearest.x.push_back(slice.units.empty() ? 0 : slice.units.back());
    nearest.y.push_back(slice.loss_before);
  }
  plot.series.push_back(std::move(nearest));
  if (!reconstruction.survey.empty())
    plot.series.push_back(series_of("unit by unit (survey)", reconstruction.survey));
  plot.series.push_back(
      series_of(reconstruction.slices.size() < reconstruction.units.size() ? "grouped" : "learnt",
                reconstruction.slices));
  report.add(std::move(plot));
  Table table{.title = "Reconstruction",
              .columns = {{"learnt together", false},
                          {"units", false},
                          {"loss, nearest"},
                          {"loss, learnt"},
                          {"relative"},
                          {"undecided"},
                          {"steps"},
                          {"seconds"}}};
  for (const SliceResult& slice : learnt(reconstruction))
    table.rows.push_back({slice.name, units_text(slice), loss_text(slice.loss_before),
                          loss_text(slice.loss_after), relative_text(slice),
                          fmt::format("{} of {}", slice.undecided, slice.weights),
                          std::to_string(slice.steps), fmt::format("{:.1f}", slice.seconds)});
  report.add(std::move(table));
}

}  // namespace lithe::cli
