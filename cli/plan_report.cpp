#include "cli/plan_report.h"

#include <algorithm>
#include <filesystem>

namespace lithe::cli {
namespace {

std::string cell(const json& value) {
  if (value.is_null()) return "";
  if (value.is_string()) return value.get<std::string>();
  if (value.is_boolean()) return value.get<bool>() ? "yes" : "no";
  if (value.is_number_float()) return fmt::format("{:.4g}", value.get<double>());
  if (!value.is_array()) return value.dump();
  std::string text;
  for (const json& one : value) text += (text.empty() ? "" : " ") + cell(one);
  return text;
}

std::string words(std::string key) {
  std::replace(key.begin(), key.end(), '_', ' ');
  return key;
}

}  // namespace

Table table_of(const std::string& title, const json& rows, const std::vector<std::string>& keys) {
  Table table{.title = title, .columns = {}, .rows = {}, .note = ""};
  for (const std::string& key : keys) {
    const bool numeric = std::all_of(rows.begin(), rows.end(), [&](const json& row) {
      return row.at(key).is_number() || row.at(key).is_null();
    });
    table.columns.push_back({words(key), numeric});
  }
  for (const json& row : rows) {
    table.rows.emplace_back();
    for (const std::string& key : keys) table.rows.back().push_back(cell(row.at(key)));
  }
  return table;
}

void finish_plan(Invocation& call, const json& result, std::vector<Table> tables,
                 const std::vector<std::string>& notes) {
  if (call.options.report.empty()) return call.finish(result);
  Report report{.title = std::filesystem::path(call.options.model).filename().string(),
                .subtitle = "what would be done (--dry-run)",
                .facts = {},
                .items = {}};
  for (Table& table : tables) report.add(std::move(table));
  for (const std::string& note : notes) report.add(Text{note});
  const auto files = write_report(report, call.envelope(result), call.options.report);
  for (const std::string& file : files) call.say("wrote {}", file);
  call.finish(result, files);
}

}  // namespace lithe::cli
