#include "cli/train_report.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>

#include "lithe/train/recipe.h"

namespace lithe::cli {
namespace {

std::string cell(const std::optional<double>& value, double factor, int digits) {
  return value && std::isfinite(*value) ? fmt::format("{:.{}f}", *value * factor, digits) : "";
}

/// The record that the returned weights belong to.
const EpochRecord* best_of(const TrainResult& result) {
  for (const EpochRecord& record : result.history)
    if (record.epoch == result.best_epoch) return &record;
  return nullptr;
}

void add_table(Report& report, const TrainResult& result) {
  Table table{.title = "Epochs",
              .columns = {{"epoch", false},
                          {"learning rate"},
                          {"loss"},
                          {"training top-1 %"},
                          {"held-out loss"},
                          {"held-out top-1 %"},
                          {"held-out PSNR dB"},
                          {"seconds"},
                          {"images/s"}},
              .rows = {},
              .note = ""};
  for (const EpochRecord& r : result.history)
    table.rows.push_back({std::to_string(r.epoch), fmt::format("{:.4g}", r.learning_rate),
                          fmt::format("{:.4f}", r.loss), cell(r.train_top1, 100, 2),
                          cell(r.validation_loss, 1, 4), cell(r.validation_top1, 100, 2),
                          cell(r.validation_psnr, 1, 2), fmt::format("{:.1f}", r.seconds),
                          fmt::format("{:.0f}", r.images_per_second)});
  report.add(std::move(table));
}

}  // namespace

std::string epoch_line(const EpochRecord& r, std::int64_t epochs) {
  std::string line = fmt::format("epoch {:>{}}/{}  lr {:.4g}  loss {:.4f}", r.epoch,
                                 std::to_string(epochs).size(), epochs, r.learning_rate, r.loss);
  if (r.train_top1) line += fmt::format("  train {:.2f} %", 100 * *r.train_top1);
  if (r.validation_top1) line += fmt::format("  held out {:.2f} %", 100 * *r.validation_top1);
  if (r.validation_loss && r.validation_top1) line += fmt::format(" (loss {:.4f})", *r.validation_loss);
  if (r.validation_loss && !r.validation_top1) line += fmt::format("  held out {:.4f}", *r.validation_loss);
  if (r.validation_psnr) line += fmt::format("  held out {:.2f} dB", *r.validation_psnr);
  for (const auto& [name, value] : r.extra) line += fmt::format("  {} {:.4g}", name, value);
  return line + fmt::format("  {:.1f} s, {:.0f} images/s", r.seconds, r.images_per_second);
}

json history_json(const std::vector<EpochRecord>& history) {
  json out = json::array();
  for (const EpochRecord& record : history) {
    json one = to_json(record);
    const json extra = one.at("extra");
    one.erase("extra");
    one.update(extra);
    out.push_back(std::move(one));
  }
  return out;
}

Series epoch_curve(const std::string& name, const std::vector<EpochRecord>& history, double factor,
                   const std::function<std::optional<double>(const EpochRecord&)>& number) {
  Series series{.name = name, .x = {}, .y = {}};
  for (const EpochRecord& record : history) {
    series.x.push_back(static_cast<double>(record.epoch));
    series.y.push_back(number(record).value_or(std::numeric_limits<double>::quiet_NaN()) * factor);
  }
  return series;
}

void add_epoch_plot(Report& report, const std::string& title, const std::string& label,
                    std::vector<Series> series) {
  std::erase_if(series, [](const Series& one) {
    return std::all_of(one.y.begin(), one.y.end(), [](double y) { return std::isnan(y); });
  });
  if (!series.empty())
    report.add(LinePlot{.title = title, .x_label = "epoch", .y_label = label, .series = std::move(series)});
}

void add_history(Report& report, const std::vector<EpochRecord>& history) {
  const auto curve = [&](const std::string& name, double factor, auto member) {
    return epoch_curve(name, history, factor, [member](const EpochRecord& record) -> std::optional<double> {
      return record.*member;
    });
  };
  add_epoch_plot(
      report, "Loss", "loss",
      {curve("training", 1, &EpochRecord::loss), curve("held out", 1, &EpochRecord::validation_loss)});
  add_epoch_plot(report, "Accuracy", "top-1 in %",
                 {curve("training, augmented", 100, &EpochRecord::train_top1),
                  curve("held out", 100, &EpochRecord::validation_top1)});
  add_epoch_plot(report, "PSNR", "dB", {curve("held out", 1, &EpochRecord::validation_psnr)});
  add_epoch_plot(report, "Learning rate", "", {curve("learning rate", 1, &EpochRecord::learning_rate)});
}

json train_json(const TrainResult& result, const TrainOptions& options, std::int64_t parameters) {
  const EpochRecord* best = best_of(result);
  return {{"epochs", history_json(result.history)},
          {"complete", result.complete},
          {"best_epoch", best ? json(best->epoch) : json()},
          {"best", best ? to_json(*best) : json()},
          {"parameters", parameters},
          {"batch", options.batch},
          {"images_per_second", result.images_per_second},
          {"notes", result.notes}};
}

Report train_report(const TrainResult& result, const TrainOptions& options, const std::string& model,
                    const std::string& data) {
  Report report{.title = std::filesystem::path(model).filename().string(),
                .subtitle = "lithe train on " + data,
                .facts = {},
                .items = {}};
  if (const EpochRecord* best = best_of(result)) {
    if (best->validation_top1)
      report.facts.push_back({"held-out top-1", fmt::format("{:.2f} %", 100 * *best->validation_top1)});
    if (best->validation_psnr)
      report.facts.push_back({"held-out PSNR", fmt::format("{:.2f} dB", *best->validation_psnr)});
    if (best->validation_loss && !best->validation_top1)
      report.facts.push_back({"held-out loss", fmt::format("{:.4f}", *best->validation_loss)});
    report.facts.push_back({"best epoch", std::to_string(best->epoch)});
  }
  if (!result.history.empty())
    report.facts.push_back({"training loss", fmt::format("{:.4f}", result.history.back().loss)});
  report.facts.push_back({"epochs", fmt::format("{} of {}", result.history.size(), options.epochs)});
  report.facts.push_back({"images a second", fmt::format("{:.0f}", result.images_per_second)});
  if (!result.history.empty()) {
    add_history(report, result.history);
    add_table(report, result);
  }
  for (const std::string& note : result.notes) report.add(Text{note});
  return report;
}

}  // namespace lithe::cli
