#include "cli/quantize_report.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>

#include "cli/budget_report.h"
#include "cli/dfsq_flags.h"
#include "cli/json.h"
#include "cli/reconstruct_report.h"
#include "cli/score_json.h"
#include "cli/verb.h"

namespace lithe::cli {
namespace {

std::string bits_text(int bits) {
  return bits == kFloatBits ? "float" : std::to_string(bits);
}

std::string decibels(const std::optional<double>& value) {
  if (!value) return "";
  return std::isfinite(*value) ? fmt::format("{:.1f}", *value) : "exact";
}

const char* range_name(ReduceRange reduce) {
  return reduce == ReduceRange::Off ? "off" : reduce == ReduceRange::All ? "all" : "first_last";
}

/// The number that a curve over bits shows, and its name.
struct Headline {
  std::string name;
  std::optional<double> Evaluation::*member;
  double factor;
};

Headline headline(const Evaluation& score) {
  if (score.top1) return {"top-1, %", &Evaluation::top1, 100};
  if (score.psnr_y) return {"PSNR (Y), dB", &Evaluation::psnr_y, 1};
  if (score.argmax_agreement) return {"same class as float, %", &Evaluation::argmax_agreement, 100};
  return {"SQNR of the output, dB", &Evaluation::sqnr_db, 1};
}

/// What the plain method would have given.
std::string comparison_line(const Quantized& quantized) {
  if (!quantized.output_sqnr_db || !quantized.minmax_sqnr_db) return "";
  const std::string nearest =
      quantized.nearest_sqnr_db ? fmt::format("nearest rounding {} dB, ", decibels(quantized.nearest_sqnr_db))
                                : "";
  return fmt::format("SQNR of the output on calibration data: {} dB; {}plain min-max would give {} dB",
                     decibels(quantized.output_sqnr_db), nearest, decibels(quantized.minmax_sqnr_db));
}

}  // namespace

std::vector<std::string> warnings_about(const Quantized& quantized, const QuantizeSummary& summary) {
  constexpr double kPoorDecibels = 5, kMuchAccuracy = 0.1, kWorseDecibels = 0.5;
  std::vector<std::string> warnings;
  if (quantized.nearest_sqnr_db && quantized.output_sqnr_db &&
      *quantized.output_sqnr_db < *quantized.nearest_sqnr_db - kWorseDecibels)
    warnings.push_back(fmt::format(
        "learning made the output worse on the calibration data ({:.1f} dB; nearest rounding {:.1f} dB); "
        "give it more --steps and data, lower its rates, or use --method mse",
        *quantized.output_sqnr_db, *quantized.nearest_sqnr_db));
  const std::optional<double> sqnr = summary.after ? summary.after->sqnr_db : quantized.output_sqnr_db;
  const bool labelled = summary.before && summary.before->top1 && summary.after && summary.after->top1;
  std::string what;
  if (labelled && *summary.before->top1 - *summary.after->top1 > kMuchAccuracy)
    what = fmt::format("top-1 fell from {:.1f} to {:.1f} %", 100 * *summary.before->top1,
                       100 * *summary.after->top1);
  else if (sqnr && *sqnr < kPoorDecibels)
    what = fmt::format("the output's SQNR is only {:.1f} dB", *sqnr);
  else
    return warnings;
  const QuantizeOptions& options = summary.options;
  std::vector<std::string> remedies;
  if (options.budget)
    remedies.push_back("a larger --budget");
  else if (options.weight_bits < 8 || options.activation_bits < 8)
    remedies.push_back(
        "more bits (--weight-bits, --activation-bits, or --bits-for the layers of least SQNR)");
  if (options.first_last == FirstLast::Same && !remedies.empty()) remedies.push_back("--first-last 8");
  if (options.method == QuantizeMethod::MinMax) remedies.push_back("--method mse");
  if (!options.reconstruct)
    remedies.push_back("--method qdrop");
  else if (options.reconstruct->schedule.steps < 20000)
    remedies.push_back("more --steps");
  if (!options.correct_bias) remedies.push_back("--correct-bias");
  if (!options.equalize) remedies.push_back("--equalize");
  if (remedies.empty()) remedies.push_back("--exclude for the layers of least SQNR");
  std::string text;
  for (std::size_t i = 0; i < remedies.size(); ++i)
    text += (i == 0 ? "" : i + 1 == remedies.size() ? " or " : ", ") + remedies[i];
  warnings.push_back(what + "; try " + text);
  return warnings;
}

json choices_json(Profile profile, PlacementStyle placement, ReduceRange reduce_range) {
  return {{"profile", profile == Profile::Int8 ? "int8" : "exact"},
          {"placement", placement == PlacementStyle::Deploy ? "deploy" : "academic"},
          {"reduce_range", range_name(reduce_range)}};
}

json result_json(const Quantized& quantized, const QuantizeSummary& summary) {
  json layers = json::array(), activations = json::array(), sweep = json::array();
  for (const LayerResult& layer : quantized.layers)
    layers.push_back({{"name", layer.name},
                      {"op", layer.op},
                      {"weight_bits", layer.weight_bits},
                      {"activation_bits", layer.activation_bits},
                      {"sqnr_db", or_null(layer.sqnr_db)},
                      {"bytes", layer.bytes},
                      {"float_bytes", layer.float_bytes},
                      {"weight_range", {layer.weight_low, layer.weight_high}},
                      {"input_range", {layer.input_low, layer.input_high}}});
  for (const ActivationResult& one : quantized.activations)
    activations.push_back({{"value", one.value},
                           {"bits", one.bits},
                           {"seen", {one.low, one.high}},
                           {"range", {one.range_low, one.range_high}},
                           {"saturated", one.saturated}});
  for (const auto& [bits, score] : summary.sweep) {
    json point = score_json(score);
    point["bits"] = bits;
    sweep.push_back(std::move(point));
  }
  json result{{"method", summary.method},
              {"opset", quantized.graph.opset()},
              {"calibration_samples", quantized.samples},
              {"layers", layers},
              {"activations", activations},
              {"before", score_json(summary.before)},
              {"after", score_json(summary.after)},
              {"output_sqnr_db", or_null(quantized.output_sqnr_db)},
              {"minmax_sqnr_db", or_null(quantized.minmax_sqnr_db)},
              {"file_bytes", {{"before", summary.bytes_before}, {"after", summary.bytes_after}}},
              {"notes", quantized.notes},
              {"warnings", summary.warnings}};
  result.update(choices_json(quantized.profile, quantized.placement, quantized.reduce_range));
  if (quantized.reconstruction) {
    result["nearest_sqnr_db"] = or_null(quantized.nearest_sqnr_db);
    result["reconstruction"] = reconstruction_json(*quantized.reconstruction);
  }
  if (quantized.dfsq) result["dfsq"] = dfsq_json(*quantized.dfsq);
  if (quantized.precision) result["budget"] = budget_json(*quantized.precision, *summary.options.budget);
  if (!summary.sweep.empty()) result["sweep"] = std::move(sweep);
  return result;
}

std::string layer_table(const std::vector<LayerResult>& layers) {
  const bool measured = std::any_of(layers.begin(), layers.end(),
                                    [](const LayerResult& layer) { return layer.sqnr_db.has_value(); });
  std::vector<std::string> header{"layer", "op", "weight bits", "input bits"};
  if (measured) header.push_back("SQNR dB");
  header.push_back("size");
  std::vector<std::vector<std::string>> rows;
  for (const LayerResult& layer : layers) {
    rows.push_back({layer.name, layer.op, bits_text(layer.weight_bits), bits_text(layer.activation_bits)});
    if (measured) rows.back().push_back(decibels(layer.sqnr_db));
    rows.back().push_back(format_bytes(static_cast<double>(layer.bytes)));
  }
  return format_table(header, rows);
}

std::string summary_table(const Quantized& quantized, const QuantizeSummary& summary) {
  std::vector<std::vector<std::string>> rows;
  const auto add = [&](const char* name, std::optional<double> Evaluation::*member, double factor,
                       const char* unit) {
    const std::optional<double> after = (*summary.after).*member;
    if (!after) return;
    const auto text = [&](const std::optional<double>& value) {
      if (!value) return std::string();
      return std::isfinite(*value) ? fmt::format("{:.2f}{}", *value * factor, unit) : "exact";
    };
    rows.push_back(
        {name, text(summary.before ? (*summary.before).*member : std::optional<double>()), text(after)});
  };
  std::string head = "";
  if (summary.after) {
    head = fmt::format("{} samples", summary.after->n);
    add("top-1", &Evaluation::top1, 100, " %");
    add("top-5", &Evaluation::top5, 100, " %");
    add("loss", &Evaluation::loss, 1, "");
    add("PSNR (Y)", &Evaluation::psnr_y, 1, " dB");
    add("PSNR (Y) of bicubic", &Evaluation::bicubic_psnr_y, 1, " dB");
    add("same class as float", &Evaluation::argmax_agreement, 100, " %");
    add("SQNR of the output", &Evaluation::sqnr_db, 1, " dB");
  }
  rows.push_back({"file", format_bytes(static_cast<double>(summary.bytes_before)),
                  format_bytes(static_cast<double>(summary.bytes_after))});
  std::string text = format_table({head, "before", "after"}, rows);
  if (const std::string line = comparison_line(quantized); !line.empty()) text += "\n" + line;
  if (!summary.sweep.empty()) {
    const Headline wanted = headline(*summary.after);
    rows.clear();
    for (const auto& [bits, score] : summary.sweep) {
      const std::optional<double> value = score.*wanted.member;
      rows.push_back({bits_text(bits), value ? fmt::format("{:.2f}", *value * wanted.factor) : ""});
    }
    text += "\n" + format_table({"bits", wanted.name}, rows);
  }
  return text;
}

Report report_of(const Quantized& quantized, const QuantizeSummary& summary) {
  Report report{
      .title = std::filesystem::path(summary.model).filename().string() + ", quantised",
      .subtitle = fmt::format("lithe quantize: method {}, profile {}, {} calibration samples", summary.method,
                              quantized.profile == Profile::Int8 ? "int8" : "exact", quantized.samples)};
  const Evaluation scored = summary.after.value_or(Evaluation{});
  const Headline head = headline(scored);
  const std::optional<double> after = scored.*head.member;
  const bool has_before = summary.before && (*summary.before).*head.member;
  const double before = has_before ? *((*summary.before).*head.member) * head.factor : 0;
  const auto fact = [&](const char* when, double value) {
    report.facts.push_back({head.name + when, std::isfinite(value) ? fmt::format("{:.2f}", value) : "exact"});
  };
  if (has_before) fact(" before", before);
  if (after) fact(has_before ? " after" : "", *after * head.factor);
  if (scored.sqnr_db && head.member != &Evaluation::sqnr_db)
    report.facts.push_back({"SQNR of the output, dB", decibels(scored.sqnr_db)});
  report.facts.push_back({"file before", format_bytes(static_cast<double>(summary.bytes_before))});
  report.facts.push_back({"file after", format_bytes(static_cast<double>(summary.bytes_after))});

  if (!summary.sweep.empty()) {
    LinePlot plot{.title = "Accuracy against bits",
                  .x_label = summary.options.activation_bits == kFloatBits
                                 ? "bits of the weights"
                                 : "bits of weights and activations",
                  .y_label = head.name,
                  .note = "First and last layers as set by --first-last; profile exact for every point."};
    std::vector<std::pair<double, double>> points;
    for (const auto& [bits, score] : summary.sweep)
      if (const std::optional<double> value = score.*head.member; value && std::isfinite(*value))
        points.emplace_back(bits, *value * head.factor);
    std::sort(points.begin(), points.end());
    Series curve{.name = summary.method}, flat{.name = "float"};
    for (const auto& [x, y] : points) {
      curve.x.push_back(x);
      curve.y.push_back(y);
      if (has_before && std::isfinite(before)) {
        flat.x.push_back(x);
        flat.y.push_back(before);
      }
    }
    if (!points.empty()) {
      plot.series.push_back(std::move(curve));
      if (!flat.x.empty()) plot.series.push_back(std::move(flat));
      report.add(std::move(plot));
    }
  }
  if (quantized.precision) add_budget(report, *quantized.precision, *summary.options.budget);
  if (quantized.reconstruction) add_reconstruction(report, *quantized.reconstruction);
  BarPlot sqnr{.title = "Signal to quantisation noise of each layer's output",
               .y_label = "SQNR, dB",
               .bars = {{.name = "SQNR"}},
               .note = "The quantised network against the float one, on calibration data."};
  RangePlot weights{.title = "Weight ranges", .y_label = "weight", .spans = {{.name = "weights"}}};
  Table table{
      .title = "Layers",
      .columns = {{"layer", false}, {"op", false}, {"weight bits"}, {"input bits"}, {"SQNR dB"}, {"size"}}};
  for (const LayerResult& layer : quantized.layers) {
    sqnr.categories.push_back(layer.name);
    const bool finite = layer.sqnr_db && std::isfinite(*layer.sqnr_db);
    sqnr.bars[0].values.push_back(finite ? *layer.sqnr_db : std::numeric_limits<double>::quiet_NaN());
    weights.categories.push_back(layer.name);
    weights.spans[0].low.push_back(layer.weight_low);
    weights.spans[0].high.push_back(layer.weight_high);
    table.rows.push_back({layer.name, layer.op, bits_text(layer.weight_bits),
                          bits_text(layer.activation_bits), decibels(layer.sqnr_db),
                          format_bytes(static_cast<double>(layer.bytes))});
  }
  if (std::any_of(sqnr.bars[0].values.begin(), sqnr.bars[0].values.end(),
                  [](double v) { return std::isfinite(v); }))
    report.add(std::move(sqnr));
  report.add(std::move(weights));
  if (!quantized.activations.empty()) {
    RangePlot activations{.title = "Activation ranges",
                          .y_label = "activation",
                          .spans = {{.name = "seen in calibration"}, {.name = "representable"}}};
    for (const ActivationResult& one : quantized.activations) {
      activations.categories.push_back(one.value);
      activations.spans[0].low.push_back(one.low);
      activations.spans[0].high.push_back(one.high);
      activations.spans[1].low.push_back(one.range_low);
      activations.spans[1].high.push_back(one.range_high);
    }
    report.add(std::move(activations));
  }
  report.add(std::move(table));
  if (const std::string line = comparison_line(quantized); !line.empty()) report.add(Text{line});
  if (!quantized.notes.empty() || !summary.warnings.empty()) {
    Table notes{.title = "Notes", .columns = {{"note", false}}};
    for (const std::string& warning : summary.warnings) notes.rows.push_back({"Warning: " + warning});
    for (const std::string& note : quantized.notes) notes.rows.push_back({note});
    report.add(std::move(notes));
  }
  return report;
}

}  // namespace lithe::cli
