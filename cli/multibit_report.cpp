#include "cli/multibit_report.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <limits>

#include "cli/json.h"

namespace lithe::cli {
namespace {

using Rows = std::vector<std::vector<std::string>>;
const std::vector<std::string> kHeader{"bits",      "branches",   "top-1, %",      "loss",       "MACs, M",
                                       "BitOPs, G", "of uniform", "float MACs, M", "ms, integer"};

std::string branches_text(const BranchSelection& selection) {
  std::string text = fmt::format("{}", fmt::join(selection.full, ","));
  return selection.partial > 0 ? fmt::format("{}, part of {}", text, selection.partial) : text;
}

Rows rows_of(const std::vector<BitRow>& rows) {
  Rows out;
  for (const BitRow& row : rows) {
    const auto score = [&](const std::optional<double> Evaluation::*member, double factor, int digits) {
      const std::optional<double> value = row.score ? (*row.score).*member : std::nullopt;
      return value ? fmt::format("{:.{}f}", *value * factor, digits) : std::string();
    };
    out.push_back(
        {std::to_string(row.path.bits), branches_text(row.path.branches), score(&Evaluation::top1, 100, 2),
         score(&Evaluation::loss, 1, 4), fmt::format("{:.2f}", static_cast<double>(row.cost.macs) / 1e6),
         fmt::format("{:.3f}", row.cost.bit_operations / 1e9), fmt::format("{:.4f}", row.cost.ratio()),
         fmt::format("{:.2f}", static_cast<double>(row.cost.float_macs) / 1e6),
         row.integer_ms ? fmt::format("{:.3f}", *row.integer_ms) : ""});
  }
  return out;
}

struct Columns {
  std::vector<std::string> header;
  Rows rows;
};

/// Without those in which no row has anything.
Columns filled_columns(const std::vector<BitRow>& rows) {
  const Rows all = rows_of(rows);
  Columns out{.header = {}, .rows = Rows(all.size())};
  for (std::size_t i = 0; i < kHeader.size(); ++i) {
    if (std::all_of(all.begin(), all.end(), [&](const auto& row) { return row[i].empty(); })) continue;
    out.header.push_back(kHeader[i]);
    for (std::size_t row = 0; row < all.size(); ++row) out.rows[row].push_back(all[row][i]);
  }
  return out;
}

double kilobytes(std::int64_t bytes) {
  return static_cast<double>(bytes) / 1e3;
}

}  // namespace

std::string time_follows_macs(const std::vector<int>& bits) {
  const double least = bits.front() / 2.0, most = bits.back() / 2.0;
  const auto times = [](double factor) {
    return factor == 1 ? std::string("as much work as") : fmt::format("{:.3g} times the work of", factor);
  };
  const std::string dial =
      bits.size() == 1
          ? std::string()
          : fmt::format(
                " and {} {} bits. What there is to gain is a dial of speed against accuracy in one file",
                times(most / least), bits.front());
  return fmt::format(
      "Bit operations are what bit-serial hardware and FPGAs pay. On a processor with 8-bit arithmetic time "
      "follows multiply-accumulates: b bits run b/2 branches, so that {} bits take {} a plain "
      "int8 network{}, of {} bits a weight.",
      bits.back(), times(most), dial, 2 * branch_count(bits.back()));
}

std::vector<BitRow> bit_rows(const Graph& graph, const std::vector<int>& bits) {
  const MultibitInfo info = multibit_info(graph);
  std::vector<BitRow> rows;
  for (const int one : bits) rows.push_back({.path = info.path(one), .cost = bit_cost(graph, one)});
  return rows;
}

json bits_json(const std::vector<BitRow>& rows) {
  json out = json::array();
  for (const BitRow& row : rows) {
    const auto score = [&](const std::optional<double> Evaluation::*member) {
      return row.score ? or_null((*row.score).*member) : json();
    };
    json layers = json::array();
    for (const BitLayer& layer : row.cost.layers)
      layers.push_back({{"name", layer.name},
                        {"macs", layer.macs},
                        {"weights", layer.weights},
                        {"weight_bits", layer.weight_bits},
                        {"activation_bits", layer.activation_bits}});
    out.push_back({{"bits", row.path.bits},
                   {"output", row.path.output},
                   {"branches", row.path.branches.full},
                   {"partial", row.path.branches.partial > 0 ? json(row.path.branches.partial) : json()},
                   {"n", row.score && row.score->n > 0 ? json(row.score->n) : json()},
                   {"top1", score(&Evaluation::top1)},
                   {"loss", score(&Evaluation::loss)},
                   {"macs", row.cost.macs},
                   {"float_macs", row.cost.float_macs},
                   {"bit_operations", row.cost.bit_operations},
                   {"ratio", row.cost.ratio()},
                   {"integer_ms", or_null(row.integer_ms)},
                   {"layers", layers}});
  }
  return out;
}

json storage_json(const BitStorage& storage) {
  return {{"weights", storage.weights},
          {"norms", storage.norms},
          {"rest", storage.rest},
          {"total", storage.total()},
          {"float_model", storage.as_float}};
}

std::string bits_table(const std::vector<BitRow>& rows) {
  const Columns columns = filled_columns(rows);
  return format_table(columns.header, columns.rows);
}

void add_bits(Report& report, const std::vector<BitRow>& rows, const BitStorage& storage,
              const MultibitInfo& info) {
  for (const BitRow& row : rows)
    if (row.score && row.score->top1)
      report.facts.push_back(
          {fmt::format("top-1, {} bits", row.path.bits), fmt::format("{:.2f} %", 100 * *row.score->top1)});
  report.facts.push_back({"all weights, packed", format_bytes(static_cast<double>(storage.total()))});
  Columns columns = filled_columns(rows);
  Table table{.title = "Bit-widths", .columns = {}, .rows = std::move(columns.rows), .note = ""};
  for (const std::string& column : columns.header) table.columns.push_back({column, column != "branches"});
  table.note = "One image. Uniform: one branch with weights and activations of as many bits.";
  report.add(std::move(table));
  if (info.method == multibit_method_name(MultibitMethod::MbQuant))
    report.add(Text{time_follows_macs(info.bits)});
  const auto curve = [&](const char* title, const char* label, const auto& number) {
    LinePlot plot{.title = title, .x_label = "bits", .y_label = label, .series = {{"", {}, {}}}};
    bool any = false;
    for (const BitRow& row : rows) {
      const std::optional<double> value = number(row);
      any = any || value;
      plot.series[0].x.push_back(row.path.bits);
      plot.series[0].y.push_back(value.value_or(std::numeric_limits<double>::quiet_NaN()));
    }
    plot.series[0].name = label;
    if (any) report.add(std::move(plot));
  };
  using Number = std::optional<double>;
  curve("Accuracy", "top-1 in %", [](const BitRow& row) {
    return row.score && row.score->top1 ? Number(100 * *row.score->top1) : std::nullopt;
  });
  curve("Bit operations", "10^9", [](const BitRow& row) { return Number(row.cost.bit_operations / 1e9); });
  curve("Time of one image with integer arithmetic", "ms", [](const BitRow& row) { return row.integer_ms; });
  report.add(
      Table{.title = "Storage",
            .columns = {{"part", false}, {"kB"}},
            .rows = {{"quantised weights, stored once", fmt::format("{:.1f}", kilobytes(storage.weights))},
                     {"norms and bounds of all bit-widths", fmt::format("{:.1f}", kilobytes(storage.norms))},
                     {"stem and head, float32", fmt::format("{:.1f}", kilobytes(storage.rest))},
                     {"the plain float32 model", fmt::format("{:.1f}", kilobytes(storage.as_float))}},
            .note = ""});
}

}  // namespace lithe::cli
