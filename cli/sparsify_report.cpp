#include "cli/sparsify_report.h"

#include <filesystem>

#include "cli/inspect_sparsity.h"
#include "cli/json.h"
#include "cli/score_json.h"
#include "cli/train_report.h"
#include "cli/verb.h"

namespace lithe::cli {
namespace {

std::string pattern_text(const SparseLayer& layer) {
  return layer.pattern ? format_sparsity(*layer.pattern) : "dense";
}

std::int64_t count_of(const SparseLayer& layer) {
  std::int64_t count = 1;
  for (const std::int64_t size : layer.shape) count *= size;
  return count;
}

std::string percent(double share) {
  return fmt::format("{:.1f} %", 100 * share);
}

std::string macs_text(const SparseLayer& layer) {
  return layer.macs > 0 ? std::to_string(layer.macs) : "?";
}

double density_of(const Sparsified& result) {
  double all = 0, left = 0;
  for (const SparsifiedLayer& one : result.layers) {
    all += static_cast<double>(one.weights);
    left += static_cast<double>(one.nonzero);
  }
  return all > 0 ? left / all : 1;
}

json spatial_json(const SparsifiedLayer& one) {
  if (!one.spatial) return nullptr;
  return {{"zeros", one.spatial->zeros},
          {"deviation", one.spatial->deviation},
          {"centre", one.spatial->centre},
          {"corner", one.spatial->corner},
          {"z", one.spatial->noise_ratio}};
}

std::string branch_text(const SparsifiedLayer& one) {
  return one.branch.empty() ? "" : kernel_bits(one.branch, one.layer.kernel().back());
}

struct Headline {
  const char* name;
  std::optional<double> Evaluation::*member;
  double factor;
};

Headline headline(const Evaluation& score) {
  if (score.top1) return {"top-1, %", &Evaluation::top1, 100};
  return {"PSNR (Y), dB", &Evaluation::psnr_y, 1};
}

using Rows = std::vector<std::vector<std::string>>;
const std::vector<std::string> kLayerHeader{"layer",          "op", "pattern",  "not zero", "of",
                                            "kept magnitude", "Z",  "branch at"};

Rows layer_rows(const Sparsified& result) {
  Rows rows;
  for (const SparsifiedLayer& one : result.layers)
    rows.push_back({one.layer.name, one.layer.op, pattern_text(one.layer), std::to_string(one.nonzero),
                    std::to_string(one.weights),
                    one.layer.pattern ? percent(one.kept_magnitude) : one.layer.dense_reason,
                    one.spatial ? fmt::format("{:.1f}", one.spatial->noise_ratio) : "", branch_text(one)});
  return rows;
}

void add_flips(Report& report, const std::vector<EpochRecord>& history) {
  const auto curve = [&](const char* name, const char* key) {
    return epoch_curve(name, history, 100, [key](const EpochRecord& record) {
      const auto found = record.extra.find(key);
      return found == record.extra.end() ? std::nullopt : std::optional<double>(found->second);
    });
  };
  add_epoch_plot(report, "Masks that changed in an epoch", "share, %",
                 {curve("weights", "mask_flips"), curve("kernel positions", "spatial_flips")});
  add_epoch_plot(report, "Masks that differ from those at the start", "share, %",
                 {curve("weights", "mask_divergence")});
}

}  // namespace

std::string method_name(SparsifyMethod method) {
  switch (method) {
    case SparsifyMethod::Magnitude:
      return "magnitude";
    case SparsifyMethod::Asp:
      return "asp";
    case SparsifyMethod::SrSte:
      return "sr-ste";
    case SparsifyMethod::SpRe:
      break;
  }
  return "spre";
}

json plan_json(const std::vector<SparseLayer>& layers) {
  json out = json::array();
  for (const SparseLayer& layer : layers)
    out.push_back(
        {{"name", layer.name},
         {"op", layer.op},
         {"ops", {layer.op}},
         {"pattern", layer.pattern ? json(pattern_text(layer)) : json(nullptr)},
         {"dense_reason", layer.dense_reason},
         {"weights", count_of(layer)},
         {"kept", static_cast<std::int64_t>(static_cast<double>(count_of(layer)) * layer.density())},
         {"macs", layer.macs > 0 ? json(layer.macs) : json(nullptr)},
         {"modcap", nullptr},
         {"shape", layer.shape}});
  return out;
}

std::string plan_table(const std::vector<SparseLayer>& layers) {
  Rows rows;
  for (const SparseLayer& layer : layers)
    rows.push_back({layer.name, layer.op, format_shape(layer.shape), macs_text(layer), pattern_text(layer),
                    layer.dense_reason});
  return format_table({"layer", "op", "weight", "MACs", "pattern", "why dense"}, rows);
}

json result_json(const Sparsified& result, const SparsifySummary& summary) {
  json layers = json::array(), permuted = json::array(), sensitivities = json::array();
  for (const SparsifiedLayer& one : result.layers) {
    const TensorData& weight = result.graph.constants.at(one.layer.weight);
    layers.push_back({{"name", one.layer.name},
                      {"op", one.layer.op},
                      {"weight_bits", dtype_bits(weight.dtype())},
                      {"activation_bits", dtype_bits(weight.dtype())},
                      {"sqnr_db", nullptr},  // weights that learn have no original to be near to
                      {"bytes", weight.bytes().size()},
                      {"pattern", one.layer.pattern ? json(pattern_text(one.layer)) : json(nullptr)},
                      {"dense_reason", one.layer.dense_reason},
                      {"weights", one.weights},
                      {"nonzero", one.nonzero},
                      {"macs", one.layer.macs > 0 ? json(one.layer.macs) : json(nullptr)},
                      {"kept_magnitude", one.kept_magnitude},
                      {"spatial", spatial_json(one)},
                      {"branch", one.branch}});
  }
  for (const PermutedGroup& group : result.permuted)
    permuted.push_back({{"layers", group.layers},
                        {"channels", group.channels},
                        {"swaps", group.swaps},
                        {"kept_before", group.kept_before},
                        {"kept_after", group.kept_after}});
  for (const Sensitivity& one : result.sensitivities)
    sensitivities.push_back({{"name", result.layers.at(one.layer).layer.name},
                             {"pattern", format_sparsity(one.pattern)},
                             {"harm", one.harm}});
  return {{"method", method_name(summary.options.method)},
          {"variant", summary.options.method != SparsifyMethod::SpRe ? json(nullptr)
                      : summary.options.faithful                     ? json("faithful")
                                                                     : json("stabilised")},
          {"layers", layers},
          {"before", score_json(summary.before)},
          {"after", score_json(summary.after)},
          {"density", density_of(result)},
          {"fold_difference",
           {{"absolute", result.fold_difference.absolute},
            {"relative", result.fold_difference.relative},
            {"exact", or_null(result.fold_difference.exact)}}},
          {"file_bytes", {{"before", summary.bytes_before}, {"after", summary.bytes_after}}},
          {"history", history_json(result.history)},
          {"best_epoch", result.best_epoch},
          {"permuted", permuted},
          {"sensitivities", sensitivities},
          {"notes", result.notes}};
}

std::string layer_table(const Sparsified& result) {
  return format_table(kLayerHeader, layer_rows(result));
}

std::string summary_table(const Sparsified& result, const SparsifySummary& summary) {
  Rows rows;
  const auto add = [&](const char* name, std::optional<double> Evaluation::*member, double factor,
                       const char* unit) {
    if (!summary.after || !((*summary.after).*member)) return;
    const auto text = [&](const Evaluation& evaluation) {
      const auto& value = evaluation.*member;
      return value ? fmt::format("{:.2f}{}", value.value() * factor, unit) : std::string();
    };
    rows.push_back({name, summary.before ? text(*summary.before) : "", text(*summary.after)});
  };
  add("top-1", &Evaluation::top1, 100, " %");
  add("top-5", &Evaluation::top5, 100, " %");
  add("loss", &Evaluation::loss, 1, "");
  add("PSNR (Y)", &Evaluation::psnr_y, 1, " dB");
  add("same class as dense", &Evaluation::argmax_agreement, 100, " %");
  rows.push_back({"weights that are not zero", "100.0 %", percent(density_of(result))});
  rows.push_back({"file", format_bytes(static_cast<double>(summary.bytes_before)),
                  format_bytes(static_cast<double>(summary.bytes_after))});
  return format_table({summary.after ? fmt::format("{} samples", summary.after->n) : "", "before", "after"},
                      rows);
}

Report report_of(const Sparsified& result, const SparsifySummary& summary) {
  const auto& pattern = summary.options.layers.pattern;
  Report report{.title = std::filesystem::path(summary.model).filename().string() + ", sparsified",
                .subtitle = fmt::format("lithe sparsify: method {}, pattern {}:{}",
                                        method_name(summary.options.method), pattern.kept, pattern.group)};
  if (summary.after) {
    const Headline head = headline(*summary.after);
    const auto fact = [&](const char* when, const std::optional<Evaluation>& score) {
      if (score && (*score).*(head.member))
        report.facts.push_back(
            {std::string(head.name) + when, fmt::format("{:.2f}", *((*score).*(head.member)) * head.factor)});
    };
    fact(" before", summary.before);
    fact(" after", summary.after);
  }
  report.facts.push_back({"weights left", percent(density_of(result))});
  report.facts.push_back(
      {"fold changes the output by", fmt::format("{:.1e}", result.fold_difference.absolute)});

  BarPlot weights{
      .title = "Weights by layer", .y_label = "weights, thousands", .bars = {{"all", {}}, {"not zero", {}}}};
  BarPlot noise{.title = "Noise-floor ratio Z by layer",
                .y_label = "Z",
                .bars = {{"Z", {}}},
                .note = "How uneven unstructured pruning would be over the kernel; about 1 is noise."};
  std::map<std::vector<std::int64_t>, HeatMap> maps;
  for (const SparsifiedLayer& one : result.layers) {
    weights.categories.push_back(one.layer.name);
    weights.bars[0].values.push_back(static_cast<double>(one.weights) / 1e3);
    weights.bars[1].values.push_back(static_cast<double>(one.nonzero) / 1e3);
    if (!one.spatial) continue;
    noise.categories.push_back(one.layer.name);
    noise.bars[0].values.push_back(one.spatial->noise_ratio);
    HeatMap& map = maps[one.layer.kernel()];
    map.title = fmt::format("Zeros by kernel position {} if pruned without structure",
                            format_shape(one.layer.kernel()));
    map.rows.push_back(one.layer.name);
    map.values.push_back(one.spatial->zeros);
  }
  report.add(std::move(weights));
  if (!result.history.empty()) add_history(report, result.history);
  add_flips(report, result.history);
  if (!noise.categories.empty()) report.add(std::move(noise));
  for (auto& [kernel, map] : maps) {
    for (std::size_t i = 0; i < map.values[0].size(); ++i) {
      const auto at = static_cast<std::int64_t>(i);
      map.columns.push_back(fmt::format("{},{}", at / kernel.back(), at % kernel.back()));
    }
    report.add(std::move(map));
  }
  Table table{.title = "Layers", .rows = layer_rows(result)};
  for (std::size_t i = 0; i < kLayerHeader.size(); ++i)
    table.columns.push_back({kLayerHeader[i], i >= 3 && i != 7});
  report.add(std::move(table));
  if (!result.notes.empty()) {
    Table notes{.title = "Notes", .columns = {{"note", false}}};
    for (const std::string& note : result.notes) notes.rows.push_back({note});
    report.add(std::move(notes));
  }
  return report;
}

}  // namespace lithe::cli
