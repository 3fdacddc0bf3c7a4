#include "lithe/report/plots.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <set>

#include "lithe/base/error.h"
#include "lithe/report/gnuplot.h"

namespace lithe {
namespace {

constexpr std::size_t kMaxTickLabels = 24, kLongestLabel = 24;

std::string number(double value) {
  return std::isfinite(value) ? fmt::format("{:.9g}", value) : "NaN";
}

void check_count(const std::string& title, const std::string& series, std::size_t have, std::size_t wanted) {
  if (have != wanted) fail("plot '{}': '{}' has {} numbers where {} are needed", title, series, have, wanted);
}

using Path = std::vector<std::string>;

/// The parts between slashes; folders that the next part repeats are left out.
Path parts_of(const std::string& name) {
  Path parts;
  for (std::size_t at = 0; at <= name.size();) {
    const std::size_t end = std::min(name.find('/', at), name.size());
    if (end > at) parts.push_back(name.substr(at, end - at));
    at = end + 1;
  }
  Path kept;
  for (std::size_t i = 0; i < parts.size(); ++i)
    if (i + 1 == parts.size() || !parts[i + 1].starts_with(parts[i] + ".")) kept.push_back(parts[i]);
  return kept;
}

std::vector<std::string> joined(const std::vector<Path>& paths) {
  std::vector<std::string> names;
  for (const Path& path : paths) names.push_back(fmt::format("{}", fmt::join(path, "/")));
  return names;
}

std::size_t distinct(const std::vector<std::string>& names) {
  return std::set<std::string>(names.begin(), names.end()).size();
}

/// Whole UTF-8 characters only.
std::string tail_of(const std::string& text, std::size_t longest) {
  if (text.size() <= longest || longest < 4) return text;
  std::size_t at = text.size() - (longest - 3);
  while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) ++at;
  return "..." + text.substr(at);
}

/// Tick labels for categories: all of them if they are few, else evenly chosen ones.
std::string category_tics(const std::vector<std::string>& categories) {
  const std::size_t count = categories.size();
  const std::size_t step = std::max<std::size_t>(1, (count + kMaxTickLabels - 1) / kMaxTickLabels);
  const std::vector<std::string> labels = short_labels(categories, kLongestLabel);
  std::size_t longest = 0;
  std::string tics;
  for (std::size_t i = 0; i < count; i += step) {
    longest = std::max(longest, labels[i].size());
    tics += fmt::format("{}{} {}", tics.empty() ? "" : ", ", gnuplot_quote(labels[i], kLongestLabel), i);
  }
  const bool slant = std::min(longest, kLongestLabel) * std::min(count, kMaxTickLabels) > 90;
  return fmt::format("set xtics {} ({}) scale 0\nset lmargin {}\nset rmargin 2\nset xrange [-0.6:{}]\n",
                     slant ? "rotate by 35 right" : "norotate", tics, slant ? 13 : 9,
                     static_cast<double>(count) - 0.4);
}

std::string axis_labels(const std::string& x, const std::string& y) {
  return fmt::format("set xlabel {}\nset ylabel {}\n", gnuplot_quote(x), gnuplot_quote(y));
}

/// Hides the legend where one series needs none.
std::string legend(std::size_t series) {
  return series < 2 ? "set key off\n" : "";
}

/// "set <axis>range" that leaves some air around the finite values; 0 is included if asked for.
std::string range_of(char axis, const std::vector<double>& values, bool with_zero, bool log = false) {
  double low = with_zero ? 0 : std::numeric_limits<double>::infinity(), high = with_zero ? 0 : -low;
  for (const double value : values)
    if (std::isfinite(value) && (!log || value > 0)) {
      low = std::min(low, value);
      high = std::max(high, value);
    }
  if (!(low <= high)) return fmt::format("set {}range [0:1]\n", axis);  // nothing to show
  if (log) {
    const double air = high > low ? std::pow(high / low, 0.04) : 1.5;
    return fmt::format("set {}range [{}:{}]\n", axis, number(low / air), number(high * air));
  }
  const double air = high > low ? 0.05 * (high - low) : std::max(1e-6, 0.1 * std::abs(high));
  return fmt::format("set {}range [{}:{}]\n", axis, number(with_zero && low == 0 ? 0 : low - air),
                     number(high + air));
}

}  // namespace

std::vector<std::string> short_labels(const std::vector<std::string>& names, std::size_t longest) {
  if (std::all_of(names.begin(), names.end(), [&](const auto& name) { return name.size() <= longest; }))
    return names;
  std::vector<Path> paths;
  for (const std::string& name : names) paths.push_back(parts_of(name));
  if (distinct(joined(paths)) < distinct(names)) return names;
  const auto shared_first = [&] {
    return std::all_of(paths.begin(), paths.end(),
                       [&](const Path& path) { return path.size() > 1 && path[0] == paths[0][0]; });
  };
  while (names.size() > 1 && shared_first())
    for (Path& path : paths) path.erase(path.begin());
  // Exporters name values after their makers.
  std::vector<Path> makers = paths;
  for (Path& path : makers)
    if (const auto end = path.empty() ? std::string::npos : path.back().rfind("_output_");
        end != std::string::npos)
      path.back().resize(std::max<std::size_t>(end, 1));
  if (distinct(joined(makers)) == distinct(joined(paths))) paths = std::move(makers);
  // The last part often is the operator's type.
  std::vector<Path> shorter = paths;
  for (Path& path : shorter)
    if (path.size() > 1) path.pop_back();
  if (distinct(joined(shorter)) == distinct(joined(paths))) paths = std::move(shorter);
  const std::vector<std::string> whole = joined(paths);
  std::vector<std::string> tails;
  for (const std::string& name : whole) tails.push_back(tail_of(name, longest));
  return distinct(tails) == distinct(whole) ? tails
                                            : whole;  // the caller leaves out the middle of the latter
}

std::string gnuplot_script(const LinePlot& plot) {
  std::string data, curves;
  std::vector<double> all_x, all_y;
  for (std::size_t s = 0; s < plot.series.size(); ++s) {
    const Series& series = plot.series[s];
    check_count(plot.title, series.name, series.y.size(), series.x.size());
    data += fmt::format("$d{} << EOD\n", s);
    for (std::size_t i = 0; i < series.x.size(); ++i) {
      const double x = series.x[i], y = series.y[i];
      const bool shown =
          std::isfinite(x) && std::isfinite(y) && (!plot.log_x || x > 0) && (!plot.log_y || y > 0);
      if (shown) {
        all_x.push_back(x);
        all_y.push_back(y);
      }
      data += shown ? fmt::format("{} {}\n", number(x), number(y)) : "\n";
    }
    data += "EOD\n";
    const bool few = series.x.size() <= 64;
    curves += fmt::format("{}$d{} using 1:2 with {} lc {} lw 2 title {}", s == 0 ? "plot " : ", ", s,
                          few ? "linespoints pt 7 ps 0.5" : "lines", gnuplot_colour(s),
                          gnuplot_quote(series.name, 40));
  }
  if (all_x.empty()) fail("plot '{}' has no points", plot.title);
  return data + axis_labels(plot.x_label, plot.y_label) + legend(plot.series.size()) +
         (plot.log_x ? "set logscale x\n" : "") + (plot.log_y ? "set logscale y\n" : "") +
         range_of('x', all_x, false, plot.log_x) + range_of('y', all_y, false, plot.log_y) +
         "set lmargin 9\nset rmargin 2\n" + curves;
}

std::string gnuplot_script(const BarPlot& plot) {
  const std::size_t count = plot.categories.size();
  if (count == 0 || plot.bars.empty()) fail("plot '{}' has no bars", plot.title);
  std::string data, bars;
  std::vector<double> all;
  const double width = 0.8 / static_cast<double>(plot.bars.size());
  for (std::size_t s = 0; s < plot.bars.size(); ++s) {
    const auto& series = plot.bars[s];
    check_count(plot.title, series.name, series.values.size(), count);
    data += fmt::format("$d{} << EOD\n", s);
    for (std::size_t i = 0; i < count; ++i)
      data += fmt::format("{} {} {}\n",
                          number(static_cast<double>(i) - 0.4 + (static_cast<double>(s) + 0.5) * width),
                          number(series.values[i]), number(width * 0.92));
    data += "EOD\n";
    all.insert(all.end(), series.values.begin(), series.values.end());
    bars += fmt::format("{}$d{} using 1:2:3 with boxes lc {} title {}", s == 0 ? "plot " : ", ", s,
                        gnuplot_colour(s), gnuplot_quote(series.name, 40));
  }
  return data + axis_labels("", plot.y_label) + legend(plot.bars.size()) + category_tics(plot.categories) +
         range_of('y', all, true) + bars;
}

std::string gnuplot_script(const RangePlot& plot) {
  const std::size_t count = plot.categories.size();
  if (count == 0 || plot.spans.empty()) fail("plot '{}' has no ranges", plot.title);
  std::string data, boxes;
  std::vector<double> all;
  const double width = 0.8 / static_cast<double>(plot.spans.size());
  for (std::size_t s = 0; s < plot.spans.size(); ++s) {
    const auto& series = plot.spans[s];
    check_count(plot.title, series.name, series.low.size(), count);
    check_count(plot.title, series.name, series.high.size(), count);
    data += fmt::format("$d{} << EOD\n", s);
    for (std::size_t i = 0; i < count; ++i) {
      const double left = static_cast<double>(i) - 0.4 + static_cast<double>(s) * width;
      data += fmt::format("{} {} {} {}\n", number(left + width * 0.06), number(left + width * 0.94),
                          number(series.low[i]), number(series.high[i]));
    }
    data += "EOD\n";
    all.insert(all.end(), series.low.begin(), series.low.end());
    all.insert(all.end(), series.high.begin(), series.high.end());
    boxes += fmt::format("{}$d{} using (($1+$2)/2):(($3+$4)/2):1:2:3:4 with boxxyerror lc {} title {}",
                         s == 0 ? "plot " : ", ", s, gnuplot_colour(s), gnuplot_quote(series.name, 40));
  }
  return data + axis_labels("", plot.y_label) + legend(plot.spans.size()) + category_tics(plot.categories) +
         range_of('y', all, false) + "set xzeroaxis lc rgb '#010203' lw 1 dt solid\n" + boxes;
}

std::string gnuplot_script(const HeatMap& plot) {
  const std::size_t rows = plot.rows.size(), columns = plot.columns.size();
  if (rows == 0 || columns == 0) fail("plot '{}' has no cells", plot.title);
  check_count(plot.title, "rows", plot.values.size(), rows);
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (const auto& row : plot.values) {
    check_count(plot.title, "a row", row.size(), columns);
    for (const double value : row)
      if (std::isfinite(value)) {
        low = std::min(low, value);
        high = std::max(high, value);
      }
  }
  if (!(low <= high)) fail("plot '{}' has no numbers", plot.title);
  // From dark blue over green to yellow: evenly growing brightness, readable without colour.
  constexpr std::array<std::array<double, 3>, 5> kStops{
      {{68, 1, 84}, {59, 82, 139}, {33, 145, 140}, {94, 201, 98}, {253, 231, 37}}};
  std::string data = "$d0 << EOD\n";
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t c = 0; c < columns; ++c) {
      const double value = plot.values[r][c];
      if (!std::isfinite(value)) continue;
      const double at = high > low ? (value - low) / (high - low) * (kStops.size() - 1) : 0;
      const auto stop = std::min(static_cast<std::size_t>(at), kStops.size() - 2);
      int colour = 0;
      for (std::size_t k = 0; k < 3; ++k) {
        const double mixed =
            kStops[stop][k] + (kStops[stop + 1][k] - kStops[stop][k]) * (at - static_cast<double>(stop));
        colour = colour * 256 + static_cast<int>(std::lround(mixed));
      }
      data += fmt::format("{} {} {}\n", c, r, colour);
    }
  data += "EOD\n";
  std::string row_tics;
  const std::vector<std::string> names = short_labels(plot.rows, 32);
  const std::size_t step = (rows + kMaxTickLabels - 1) / kMaxTickLabels;
  for (std::size_t r = 0; r < rows; r += step)
    row_tics += fmt::format("{}{} {}", r == 0 ? "" : ", ", gnuplot_quote(names[r], 32), r);
  std::size_t longest = 7;
  for (const std::string& name : names) longest = std::max(longest, name.size());
  return "#tall\n" + data + category_tics(plot.columns) +
         fmt::format(
             "set xrange [-0.5:{0}]\nset yrange [{1}:-0.5]\nset ytics ({2}) scale 0\nset key off\nunset "
             "grid\nset lmargin {4}\n"
             "plot $d0 using 1:2:(0.5):(0.5):3 with boxxyerror lc rgb variable",
             static_cast<double>(columns) - 0.5, static_cast<double>(rows) - 0.5, row_tics,
             gnuplot_quote(fmt::format("dark {:.4g}, bright {:.4g}", low, high)), longest + 2);
}

}  // namespace lithe
