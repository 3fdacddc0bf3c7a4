#include "cli/quantize_report.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>

#include "cli/verb.h"

namespace lithe::cli {
namespace {

json or_null(const std::optional<double>& value) {
  return value && std::isfinite(*value) ? json(*value) : json(nullptr);
}

std::string bits_text(int bits) {
  return bits == kFloatBits ? "float" : std::to_string(bits);
}

std::string decibels(const std::optional<double>& value) {
  if (!value) return "";
  return std::isfinite(*value) ? fmt::format("{:.1f}", *value) : "exact";
}

json score_json(const Evaluation& score) {
  json object{{"n", score.n}};
  const auto add = [&](const char* name, const std::optional<double>& value) {
    if (value) object[name] = or_null(value);
  };
  add("top1", score.top1);
  add("top5", score.top5);
  add("loss", score.loss);
  add("psnr_y", score.psnr_y);
  add("ssim_y", score.ssim_y);
  add("argmax_agreement", score.argmax_agreement);
  add("sqnr_db", score.sqnr_db);
  return object;
}

const char* method_name(QuantizeMethod method) {
  switch (method) {
    case QuantizeMethod::MinMax:
      return "minmax";
    case QuantizeMethod::Percentile:
      return "percentile";
    default:
      return "mse";
  }
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

}  // namespace

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
                           {"range", {one.range_low, one.range_high}}});
  for (const auto& [bits, score] : summary.sweep) {
    json point = score_json(score);
    point["bits"] = bits;
    sweep.push_back(std::move(point));
  }
  json result{{"method", method_name(summary.options.method)},
              {"profile", quantized.profile == Profile::Int8 ? "int8" : "exact"},
              {"placement", quantized.placement == PlacementStyle::Deploy ? "deploy" : "academic"},
              {"reduce_range", range_name(quantized.reduce_range)},
              {"opset", quantized.graph.opset()},
              {"calibration_samples", quantized.samples},
              {"layers", layers},
              {"activations", activations},
              {"before", summary.before ? score_json(*summary.before) : json(nullptr)},
              {"after", score_json(summary.after)},
              {"output_sqnr_db", or_null(quantized.output_sqnr_db)},
              {"file_bytes", {{"before", summary.bytes_before}, {"after", summary.bytes_after}}},
              {"notes", quantized.notes}};
  if (!summary.sweep.empty()) result["sweep"] = std::move(sweep);
  return result;
}

std::string layer_table(const Quantized& quantized) {
  std::vector<std::vector<std::string>> rows;
  for (const LayerResult& layer : quantized.layers)
    rows.push_back({layer.name, layer.op, bits_text(layer.weight_bits), bits_text(layer.activation_bits),
                    decibels(layer.sqnr_db), format_bytes(static_cast<double>(layer.bytes))});
  return format_table({"layer", "op", "weight bits", "input bits", "SQNR dB", "size"}, rows);
}

std::string summary_table(const Quantized& quantized, const QuantizeSummary& summary) {
  std::vector<std::vector<std::string>> rows;
  const auto add = [&](const char* name, std::optional<double> Evaluation::*member, double factor,
                       const char* unit) {
    const std::optional<double> after = summary.after.*member;
    if (!after) return;
    const std::optional<double> before = summary.before ? (*summary.before).*member : std::nullopt;
    rows.push_back({name, before ? fmt::format("{:.2f}{}", *before * factor, unit) : "",
                    std::isfinite(*after) ? fmt::format("{:.2f}{}", *after * factor, unit) : "exact"});
  };
  add("top-1", &Evaluation::top1, 100, " %");
  add("top-5", &Evaluation::top5, 100, " %");
  add("loss", &Evaluation::loss, 1, "");
  add("PSNR (Y)", &Evaluation::psnr_y, 1, " dB");
  add("same class as float", &Evaluation::argmax_agreement, 100, " %");
  add("SQNR of the output", &Evaluation::sqnr_db, 1, " dB");
  rows.push_back({"file", format_bytes(static_cast<double>(summary.bytes_before)),
                  format_bytes(static_cast<double>(summary.bytes_after))});
  std::string text = format_table({fmt::format("{} samples", summary.after.n), "before", "after"}, rows);
  if (!summary.sweep.empty()) {
    const Headline head = headline(summary.after);
    rows.clear();
    for (const auto& [bits, score] : summary.sweep) {
      const std::optional<double> value = score.*head.member;
      rows.push_back({bits_text(bits), value ? fmt::format("{:.2f}", *value * head.factor) : ""});
    }
    text += "\n" + format_table({"bits", head.name}, rows);
  }
  return text;
}

Report report_of(const Quantized& quantized, const QuantizeSummary& summary) {
  Report report{
      .title = std::filesystem::path(summary.model).filename().string() + ", quantised",
      .subtitle = fmt::format("lithe quantize: method {}, profile {}, {} calibration samples",
                              method_name(summary.options.method),
                              quantized.profile == Profile::Int8 ? "int8" : "exact", quantized.samples)};
  const Headline head = headline(summary.after);
  const std::optional<double> after = summary.after.*head.member;
  const std::optional<double> before = summary.before ? (*summary.before).*head.member : std::nullopt;
  if (before) report.facts.push_back({head.name + " before", fmt::format("{:.2f}", *before * head.factor)});
  if (after)
    report.facts.push_back(
        {head.name + (before ? " after" : ""), fmt::format("{:.2f}", *after * head.factor)});
  if (summary.after.sqnr_db && head.member != &Evaluation::sqnr_db)
    report.facts.push_back({"SQNR of the output, dB", decibels(summary.after.sqnr_db)});
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
    Series curve{.name = method_name(summary.options.method)}, flat{.name = "float"};
    for (const auto& [x, y] : points) {
      curve.x.push_back(x);
      curve.y.push_back(y);
      if (before) {
        flat.x.push_back(x);
        flat.y.push_back(*before * head.factor);
      }
    }
    if (!points.empty()) {
      plot.series.push_back(std::move(curve));
      if (before) plot.series.push_back(std::move(flat));
      report.add(std::move(plot));
    }
  }
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
  if (!quantized.notes.empty()) {
    Table notes{.title = "Notes", .columns = {{"note", false}}};
    for (const std::string& note : quantized.notes) notes.rows.push_back({note});
    report.add(std::move(notes));
  }
  return report;
}

}  // namespace lithe::cli
