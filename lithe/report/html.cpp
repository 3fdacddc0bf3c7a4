// The page: one file, no scripts, nothing loaded from elsewhere.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "lithe/base/error.h"
#include "lithe/report/base64.h"
#include "lithe/report/gnuplot.h"
#include "lithe/report/plots.h"
#include "lithe/report/report.h"

namespace lithe {
namespace {

constexpr const char* kStyle = R"(
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1d2430; --quiet: #667085; --line: #d9dee7; --grid: #e6e9ef;
  --panel: #f6f7f9; --series-0: #2f6fde; --series-1: #e07b39; --series-2: #2a9d8f; --series-3: #b5446e;
  --series-4: #8a6fd1; --series-5: #7a8699; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171c; --ink: #e4e7ec; --quiet: #98a2b3; --line: #343a46;
  --grid: #2a2f39; --panel: #1c2027; --series-0: #6ea3ff; --series-1: #f2a36b; --series-2: #5cc8b9;
  --series-3: #e27fa5; --series-4: #b3a0ee; --series-5: #a5b0c2; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif; }
main { max-width: 56rem; margin: 0 auto; padding: 3rem 1.5rem 4rem; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.8rem 0 .8rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line); }
p, figcaption, caption { overflow-wrap: anywhere; }
.subtitle, .note, footer { color: var(--quiet); }
.subtitle { margin: 0 0 2rem; }
.note { font-size: .875rem; margin: .4rem 0 0; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .8rem; margin: 1.5rem 0 2rem; }
.facts div { background: var(--panel); border-radius: .5rem; padding: .8rem 1rem; display: flex;
  flex-direction: column; justify-content: space-between; }
.facts dt { color: var(--quiet); font-size: .8rem; }
.facts dd { margin: 0; font-size: 1.35rem; font-weight: 600; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
figure { margin: 1.6rem 0; break-inside: avoid; }
figcaption, caption { font-weight: 600; text-align: left; margin-bottom: .5rem; padding: 0; }
figure svg { width: 100%; height: auto; display: block; }
figure img { max-width: 100%; border-radius: .25rem; image-rendering: auto; }
.scroll { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .7rem; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap; }
td:not(.number) { white-space: normal; overflow-wrap: anywhere; min-width: 6rem; }
th { color: var(--quiet); font-weight: 600; }
.number { text-align: right; }
tbody tr:hover { background: var(--panel); }
footer { margin-top: 3rem; font-size: .8rem; }
@media print { :root { --paper: #ffffff; --ink: #000000; --quiet: #444444; --line: #bbbbbb; --grid: #dddddd;
  --panel: #f3f3f3; } main { max-width: none; padding: 0; } .scroll { overflow: visible; }
  tr { break-inside: avoid; } th, td { white-space: normal; } }
)";

std::string escape(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string note_of(const std::string& note) {
  return note.empty() ? "" : "<p class=\"note\">" + escape(note) + "</p>\n";
}

std::string caption_of(const std::string& title) {
  return title.empty() ? "" : "<figcaption>" + escape(title) + "</figcaption>\n";
}

std::string html_of(const Heading& heading) {
  return "<h2>" + escape(heading.text) + "</h2>\n";
}

std::string html_of(const Text& text) {
  return "<p>" + escape(text.text) + "</p>\n";
}

std::string html_of(const Table& table) {
  std::string out = "<figure>\n" + caption_of(table.title) + "<div class=\"scroll\"><table>\n<thead><tr>";
  const auto kind = [](const Column& column) { return column.numeric ? " class=\"number\"" : ""; };
  for (const Column& column : table.columns)
    out += fmt::format("<th scope=\"col\"{}>{}</th>", kind(column), escape(column.name));
  out += "</tr></thead>\n<tbody>\n";
  for (const auto& row : table.rows) {
    if (row.size() != table.columns.size())
      fail("table '{}': a row of {} cells under {} columns", table.title, row.size(), table.columns.size());
    out += "<tr>";
    for (std::size_t i = 0; i < row.size(); ++i)
      out += fmt::format("<td{}>{}</td>", kind(table.columns[i]), escape(row[i]));
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n" + note_of(table.note) + "</figure>\n";
}

std::string html_of(const Picture& picture) {
  return "<figure>\n" + caption_of(picture.title) + "<img alt=\"" + escape(picture.title) +
         "\" src=\"data:image/png;base64," + encode_base64(picture.png) + "\">\n" + note_of(picture.note) +
         "</figure>\n";
}

template <typename Item>
constexpr bool is_plot = requires(const Item& item) {
  gnuplot_script(item);
};

}  // namespace

std::string to_html(const Report& report) {
  // One run of gnuplot draws all plots.
  std::vector<std::string> scripts;
  for (const ReportItem& item : report.items)
    std::visit(
        [&](const auto& value) {
          if constexpr (is_plot<std::decay_t<decltype(value)>>) scripts.push_back(gnuplot_script(value));
        },
        item);
  const std::vector<std::string> pictures = draw_with_gnuplot(scripts);

  std::string body = "<h1>" + escape(report.title) + "</h1>\n";
  if (!report.subtitle.empty()) body += "<p class=\"subtitle\">" + escape(report.subtitle) + "</p>\n";
  if (!report.facts.empty()) {
    body += "<dl class=\"facts\">\n";
    for (const Fact& fact : report.facts)
      body += "<div><dt>" + escape(fact.name) + "</dt><dd>" + escape(fact.value) + "</dd></div>\n";
    body += "</dl>\n";
  }
  std::size_t next = 0;
  for (const ReportItem& item : report.items)
    body += std::visit(
        [&](const auto& value) -> std::string {
          if constexpr (is_plot<std::decay_t<decltype(value)>>)
            return "<figure>\n" + caption_of(value.title) + pictures[next++] + "\n" + note_of(value.note) +
                   "</figure>\n";
          else
            return html_of(value);
        },
        item);
  return "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
         "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>" +
         escape(report.title) + "</title>\n<style>" + kStyle + "</style>\n</head>\n<body>\n<main>\n" + body +
         "<footer>Written by Lithe.</footer>\n</main>\n</body>\n</html>\n";
}

}  // namespace lithe
