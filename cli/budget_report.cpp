#include "cli/budget_report.h"

#include <fmt/format.h>

#include "cli/verb.h"

namespace lithe::cli {
namespace {

json point_json(const TradeOff& point) {
  return {{"bytes", point.bytes}, {"mean_bits", point.mean_bits}, {"loss", point.loss}};
}

const char* kind_name(BitBudget::Kind kind) {
  return kind == BitBudget::Kind::Bytes ? "bytes" : kind == BitBudget::Kind::Share ? "share" : "mean_bits";
}

const BitChoice& choice_of(const MixedPrecision& precision, std::size_t weight) {
  return precision.sensitivities[weight].choices.choices[precision.assignment.choice[weight]];
}

}  // namespace

json budget_json(const MixedPrecision& precision, const BitBudget& asked) {
  json curve = json::array(), layers = json::array();
  for (const TradeOff& point : precision.assignment.curve) curve.push_back(point_json(point));
  for (std::size_t i = 0; i < precision.sensitivities.size(); ++i) {
    const LayerChoices& one = precision.sensitivities[i].choices;
    json candidates = json::array();
    for (const BitChoice& choice : one.choices)
      candidates.push_back({{"bits", choice.weight_bits}, {"bytes", choice.bytes}, {"loss", choice.loss}});
    layers.push_back({{"name", one.name},
                      {"weights", one.weights},
                      {"weight_bits", choice_of(precision, i).weight_bits},
                      {"candidates", candidates}});
  }
  return {{"asked", {{"kind", kind_name(asked.kind)}, {"value", asked.value}}},
          {"achieved", point_json(precision.assignment.achieved)},
          {"curve", curve},
          {"layers", layers}};
}

std::string budget_line(const MixedPrecision& precision, const BitBudget& asked) {
  const TradeOff& achieved = precision.assignment.achieved;
  const std::string size =
      asked.kind == BitBudget::Kind::MeanBits
          ? ""
          : fmt::format("{} in the file, ", format_bytes(static_cast<double>(achieved.bytes)));
  return fmt::format("budget of {}: {}{:.2f} bits a weight in the mean, measured losses {:.4g} in all",
                     format_budget(asked), size, achieved.mean_bits, achieved.loss);
}

void add_budget(Report& report, const MixedPrecision& precision, const BitBudget& asked) {
  const bool sized = asked.kind != BitBudget::Kind::MeanBits;
  LinePlot plot{.title = sized ? "Loss against size" : "Loss against bits",
                .x_label = sized ? "size of the file, KB" : "bits a weight, mean",
                .y_label = "sum of the losses of single layers",
                .log_y = true,
                .note = budget_line(precision, asked) +
                        ". Each corner of the curve is the best choice of bits at its size."};
  Series best{.name = "best choices"}, chosen{.name = "chosen"};
  const auto add = [&](Series& series, const TradeOff& point) {
    series.x.push_back(sized ? static_cast<double>(point.bytes) / 1e3 : point.mean_bits);
    series.y.push_back(point.loss);
  };
  for (const TradeOff& point : precision.assignment.curve) add(best, point);
  add(chosen, precision.assignment.achieved);
  plot.series = {std::move(best), std::move(chosen)};
  report.add(std::move(plot));
  Table table{.title = "Bits under the budget",
              .columns = {{"layer", false}, {"weights"}, {"bits"}, {"size"}, {"loss"}},
              .note = "Loss: of the network's output when only this layer is quantised so."};
  for (std::size_t i = 0; i < precision.sensitivities.size(); ++i) {
    const LayerChoices& one = precision.sensitivities[i].choices;
    const BitChoice& choice = choice_of(precision, i);
    table.rows.push_back({one.name, std::to_string(one.weights), std::to_string(choice.weight_bits),
                          format_bytes(static_cast<double>(choice.bytes)),
                          fmt::format("{:.4g}", choice.loss)});
  }
  report.add(std::move(table));
}

}  // namespace lithe::cli
