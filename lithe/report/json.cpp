// A report as JSON and back; docs/report.md describes the form.
#include <cmath>
#include <limits>

#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/report/base64.h"
#include "lithe/report/report.h"

namespace lithe {
using nlohmann::json;

namespace {

/// JSON has no infinities; they become strings, NaN becomes null.
json number_json(double value) {
  if (std::isnan(value)) return nullptr;
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  return value;
}

json numbers_json(const std::vector<double>& values) {
  json out = json::array();
  for (const double value : values) out.push_back(number_json(value));
  return out;
}

json item_json(const Heading& item) {
  return {{"kind", "heading"}, {"text", item.text}};
}
json item_json(const Text& item) {
  return {{"kind", "text"}, {"text", item.text}};
}

json item_json(const Table& item) {
  json columns = json::array();
  for (const Column& column : item.columns)
    columns.push_back({{"name", column.name}, {"numeric", column.numeric}});
  return {{"kind", "table"},
          {"title", item.title},
          {"columns", columns},
          {"rows", item.rows},
          {"note", item.note}};
}

json item_json(const LinePlot& item) {
  json series = json::array();
  for (const Series& line : item.series)
    series.push_back({{"name", line.name}, {"x", numbers_json(line.x)}, {"y", numbers_json(line.y)}});
  return {{"kind", "lines"},     {"title", item.title}, {"x_label", item.x_label}, {"y_label", item.y_label},
          {"log_x", item.log_x}, {"log_y", item.log_y}, {"series", series},        {"note", item.note}};
}

json item_json(const BarPlot& item) {
  json bars = json::array();
  for (const auto& series : item.bars)
    bars.push_back({{"name", series.name}, {"values", numbers_json(series.values)}});
  return {{"kind", "bars"}, {"title", item.title}, {"y_label", item.y_label}, {"categories", item.categories},
          {"bars", bars},   {"note", item.note}};
}

json item_json(const RangePlot& item) {
  json spans = json::array();
  for (const auto& series : item.spans)
    spans.push_back(
        {{"name", series.name}, {"low", numbers_json(series.low)}, {"high", numbers_json(series.high)}});
  return {{"kind", "ranges"},        {"title", item.title},
          {"y_label", item.y_label}, {"categories", item.categories},
          {"spans", spans},          {"note", item.note}};
}

json item_json(const HeatMap& item) {
  json values = json::array();
  for (const auto& row : item.values) values.push_back(numbers_json(row));
  return {{"kind", "heatmap"},       {"title", item.title}, {"rows", item.rows},
          {"columns", item.columns}, {"values", values},    {"note", item.note}};
}

json item_json(const Picture& item) {
  return {{"kind", "picture"}, {"title", item.title}, {"png", encode_base64(item.png)}, {"note", item.note}};
}

/// Reads members with messages that name where they stand.
class Reader {
 public:
  Reader(const json& object, std::string where) : object_(object), where_(std::move(where)) {
    if (!object_.is_object()) fail("{}: expected an object", where_);
  }
  const json& member(const char* key) const {
    const auto found = object_.find(key);
    if (found == object_.end()) fail("{}: \"{}\" is missing", where_, key);
    return *found;
  }
  template <typename T>
  T get(const char* key) const {
    try {
      return member(key).get<T>();
    } catch (const json::exception&) {
      fail("{}: \"{}\" has the wrong type", where_, key);
    }
  }
  std::string text(const char* key) const { return get<std::string>(key); }
  std::vector<std::string> texts(const char* key) const { return get<std::vector<std::string>>(key); }
  std::vector<double> numbers(const char* key) const { return numbers_of(member(key), key); }
  std::vector<double> numbers_of(const json& values, const char* key) const {
    std::vector<double> out;
    if (!values.is_array()) fail("{}: \"{}\" is no list of numbers", where_, key);
    for (const json& value : values) {
      if (value.is_null())
        out.push_back(std::numeric_limits<double>::quiet_NaN());
      else if (value == "inf" || value == "-inf")
        out.push_back(value == "inf" ? INFINITY : -INFINITY);
      else if (value.is_number())
        out.push_back(value.get<double>());
      else
        fail("{}: \"{}\" holds something that is no number", where_, key);
    }
    return out;
  }
  /// The objects of a list.
  std::vector<Reader> objects(const char* key) const {
    const json& list = member(key);
    if (!list.is_array()) fail("{}: \"{}\" is no list", where_, key);
    std::vector<Reader> out;
    for (std::size_t i = 0; i < list.size(); ++i)
      out.emplace_back(list[i], where_ + ": " + key + "[" + std::to_string(i) + "]");
    return out;
  }
  const std::string& where() const { return where_; }

 private:
  const json& object_;
  std::string where_;
};

/// Makes a folder and those above it that are missing; takes back what is empty unless told to keep it.
class NewFolders {
 public:
  explicit NewFolders(const std::filesystem::path& folder) {
    std::error_code error, ignored;
    const auto whole = std::filesystem::absolute(folder, ignored);
    for (auto place = whole; !place.empty() && !std::filesystem::exists(place, ignored);
         place = place.parent_path())
      fresh_.push_back(place);
    std::filesystem::create_directories(folder, error);
    if (!error) return;
    take_back();
    fail("{}: cannot create the report's folder: {}", folder.string(), error.message());
  }
  ~NewFolders() { take_back(); }
  NewFolders(const NewFolders&) = delete;
  NewFolders& operator=(const NewFolders&) = delete;

  void keep() { fresh_.clear(); }

 private:
  void take_back() {
    std::error_code ignored;
    for (const auto& place : fresh_) std::filesystem::remove(place, ignored);
  }
  std::vector<std::filesystem::path> fresh_;  // the deepest first
};

ReportItem item_of(const Reader& in) {
  const std::string kind = in.text("kind");
  if (kind == "heading") return Heading{in.text("text")};
  if (kind == "text") return Text{in.text("text")};
  if (kind == "table") {
    Table out{.title = in.text("title"), .columns = {}, .rows = {}, .note = in.text("note")};
    for (const Reader& column : in.objects("columns"))
      out.columns.push_back({column.text("name"), column.get<bool>("numeric")});
    out.rows = in.get<std::vector<std::vector<std::string>>>("rows");
    return out;
  }
  if (kind == "lines") {
    LinePlot out;
    out.title = in.text("title");
    out.x_label = in.text("x_label");
    out.y_label = in.text("y_label");
    out.log_x = in.get<bool>("log_x");
    out.log_y = in.get<bool>("log_y");
    for (const Reader& line : in.objects("series"))
      out.series.push_back({line.text("name"), line.numbers("x"), line.numbers("y")});
    out.note = in.text("note");
    return out;
  }
  if (kind == "bars") {
    BarPlot out{.title = in.text("title"),
                .y_label = in.text("y_label"),
                .categories = in.texts("categories"),
                .bars = {},
                .note = in.text("note")};
    for (const Reader& series : in.objects("bars"))
      out.bars.push_back({series.text("name"), series.numbers("values")});
    return out;
  }
  if (kind == "ranges") {
    RangePlot out{.title = in.text("title"),
                  .y_label = in.text("y_label"),
                  .categories = in.texts("categories"),
                  .spans = {},
                  .note = in.text("note")};
    for (const Reader& series : in.objects("spans"))
      out.spans.push_back({series.text("name"), series.numbers("low"), series.numbers("high")});
    return out;
  }
  if (kind == "heatmap") {
    HeatMap out{.title = in.text("title"),
                .rows = in.texts("rows"),
                .columns = in.texts("columns"),
                .values = {},
                .note = in.text("note")};
    const json& values = in.member("values");
    if (!values.is_array()) fail("{}: \"values\" is no list", in.where());
    for (const json& row : values) out.values.push_back(in.numbers_of(row, "values"));
    return out;
  }
  if (kind == "picture")
    return Picture{in.text("title"), decode_base64(in.text("png"), in.where()), in.text("note")};
  fail("{}: unknown kind \"{}\"", in.where(), kind);
}

}  // namespace

json to_json(const Report& report) {
  json facts = json::array(), items = json::array();
  for (const Fact& fact : report.facts) facts.push_back({{"name", fact.name}, {"value", fact.value}});
  for (const ReportItem& item : report.items)
    items.push_back(std::visit([](const auto& value) { return item_json(value); }, item));
  return {{"title", report.title}, {"subtitle", report.subtitle}, {"facts", facts}, {"items", items}};
}

Report report_from_json(const json& object, const std::string& origin) {
  const Reader in(object, origin);
  Report out{.title = in.text("title"), .subtitle = in.text("subtitle"), .facts = {}, .items = {}};
  for (const Reader& fact : in.objects("facts")) out.facts.push_back({fact.text("name"), fact.text("value")});
  for (const Reader& item : in.objects("items")) out.items.push_back(item_of(item));
  return out;
}

std::vector<std::string> write_report(const Report& report, const json& envelope,
                                      const std::filesystem::path& folder) {
  require_writable_folder(folder);
  NewFolders made(folder);
  json whole = envelope;
  whole["report"] = to_json(report);
  // The page first: if gnuplot is missing, nothing is written.
  const std::string html = to_html(report);
  const std::filesystem::path page = folder / "report.html", data = folder / "report.json";
  AtomicFile data_file(data), page_file(page);
  data_file.write(whole.dump(1, ' ', false, json::error_handler_t::replace) + "\n");
  page_file.write(html);
  data_file.commit();
  page_file.commit();
  made.keep();
  return {data.string(), page.string()};
}

}  // namespace lithe
