// A report: facts, tables, plots and pictures, written as report.json and a self-contained report.html.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace lithe {

/// A number to read first, shown large at the top.
struct Fact {
  std::string name, value;
};

struct Heading {
  std::string text;
};

/// A paragraph.
struct Text {
  std::string text;
};

struct Column {
  std::string name;
  bool numeric = true;  // right-aligned
};

struct Table {
  std::string title;
  std::vector<Column> columns;
  std::vector<std::vector<std::string>> rows;  // as many cells as columns
  std::string note;
};

/// Points of one line; a NaN leaves a gap.
struct Series {
  std::string name;
  std::vector<double> x, y;  // equally many
};

struct LinePlot {
  std::string title, x_label, y_label;
  std::vector<Series> series;
  bool log_x = false, log_y = false;  // what is not positive is left out on such an axis
  std::string note;
};

/// One bar a category and series.
struct BarPlot {
  struct Bars {
    std::string name;
    std::vector<double> values;  // one a category; a NaN leaves a gap
  };
  std::string title, y_label;
  std::vector<std::string> categories;
  std::vector<Bars> bars;
  std::string note;
};

/// The span from `low` to `high` of each category, for example the range of the weights of each layer.
struct RangePlot {
  struct Spans {
    std::string name;
    std::vector<double> low, high;
  };
  std::string title, y_label;
  std::vector<std::string> categories;
  std::vector<Spans> spans;
  std::string note;
};

/// A number for each row and column; dark is low, bright is high. A NaN leaves a hole.
struct HeatMap {
  std::string title;
  std::vector<std::string> rows, columns;
  std::vector<std::vector<double>> values;  // by row
  std::string note;
};

/// A PNG picture, embedded.
struct Picture {
  std::string title;
  std::string png;  // the bytes of the file
  std::string note;
};

using ReportItem = std::variant<Heading, Text, Table, LinePlot, BarPlot, RangePlot, HeatMap, Picture>;

struct Report {
  std::string title, subtitle;
  std::vector<Fact> facts;
  std::vector<ReportItem> items;

  template <typename Item>
  Report& add(Item item) {
    items.emplace_back(std::move(item));
    return *this;
  }
};

/// The form that docs/report.md describes. `report_from_json` reads it back and throws Error(Input), naming
/// `origin`, if it is malformed.
nlohmann::json to_json(const Report& report);
Report report_from_json(const nlohmann::json& json, const std::string& origin);

/// The whole page. Runs gnuplot for the plots; throws Error(System) if it is not installed or fails, and
/// Error(Input) if a table's rows or a plot's numbers do not fit together.
std::string to_html(const Report& report);

/// Writes `folder`/report.json (`envelope` with the report as member "report") and `folder`/report.html, each
/// whole or not at all; creates the folder. Returns the paths of the two files.
std::vector<std::string> write_report(const Report& report, const nlohmann::json& envelope,
                                      const std::filesystem::path& folder);

}  // namespace lithe
