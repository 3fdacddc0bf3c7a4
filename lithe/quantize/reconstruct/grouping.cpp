#include "lithe/quantize/reconstruct/grouping.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <numeric>
#include <set>
#include <utility>

#include "lithe/base/error.h"

namespace lithe {
namespace {

struct Published {
  std::string_view name;
  int units;
  std::string_view groups;
};

/// The groupings of the authors' configuration files, as units of `find_units`.
constexpr std::array kPublished{
    Published{"resnet18", 10, "2-3,4-5"},
    Published{"resnet50", 18, "3-4,7-8-9,13-14"},
    Published{"mobilenet_v2", 18, "2-3,5-6,8-9-10,11-12-13,15-16"},
    Published{"regnetx_600m", 18, "4-5-6,9-10,15-16"},
};

constexpr std::array<std::pair<Grouping, std::string_view>, 5> kNames{{{Grouping::None, "none"},
                                                                       {Grouping::TopK, "topk"},
                                                                       {Grouping::Drop, "drop"},
                                                                       {Grouping::Stage, "stage"},
                                                                       {Grouping::Preset, "preset"}}};

double square(double x) {
  return x * x;
}

/// Edges by (c_i - c_{i+1})^2, largest first, ties to the lower index.
void rank_edges(std::span<const double> capacity, std::vector<int>& edges) {
  std::stable_sort(edges.begin(), edges.end(), [&](int a, int b) {
    const auto left = static_cast<std::size_t>(a), right = static_cast<std::size_t>(b);
    return square(capacity[left] - capacity[left + 1]) > square(capacity[right] - capacity[right + 1]);
  });
}

void keep_first(std::vector<int>& edges, int count) {
  if (count >= 0 && static_cast<std::size_t>(count) < edges.size())
    edges.resize(static_cast<std::size_t>(count));
}

/// Groups that grow edge by edge as far as the limits allow.
class Merger {
 public:
  Merger(const std::vector<Unit>& units, const GroupingOptions& options, std::vector<std::string>* notes)
      : units_(units), options_(options), notes_(notes), merged_(units.size()) {}

  /// Merges units edge and edge + 1 with what they are merged with already.
  bool add(int edge, int max_group) {
    if (merged_[static_cast<std::size_t>(edge)]) return false;
    int first = edge, last = edge + 1;
    while (first > 0 && merged_[static_cast<std::size_t>(first - 1)]) --first;
    while (merged_[static_cast<std::size_t>(last)]) ++last;
    const int size = last - first + 1;
    if (size > max_group) {
      note(edge, fmt::format("a group of {} units; there may be {}", size, max_group));
      return false;
    }
    if (options_.max_bytes > 0 && options_.bytes) {
      const std::int64_t bytes = options_.bytes(first, last);
      if (bytes > options_.max_bytes) {
        note(edge,
             fmt::format("{:.1f} MB of memory; there may be {:.1f} MB", static_cast<double>(bytes) / 1e6,
                         static_cast<double>(options_.max_bytes) / 1e6));
        return false;
      }
    }
    merged_[static_cast<std::size_t>(edge)] = true;
    return true;
  }

  bool starts_group(int unit) const {
    const auto at = static_cast<std::size_t>(unit);
    return merged_[at] && (unit == 0 || !merged_[at - 1]);
  }

  std::vector<int> edges() const {
    std::vector<int> edges;
    for (std::size_t i = 0; i + 1 < merged_.size(); ++i)
      if (merged_[i]) edges.push_back(static_cast<int>(i));
    return edges;
  }

 private:
  void note(int edge, const std::string& reason) {
    if (!notes_) return;
    const auto at = static_cast<std::size_t>(edge);
    notes_->push_back(fmt::format("units {} '{}' and {} '{}' stay apart: joined they need {}", edge,
                                  units_[at].name, edge + 1, units_[at + 1].name, reason));
  }

  const std::vector<Unit>& units_;
  const GroupingOptions& options_;
  std::vector<std::string>* notes_;
  std::vector<bool> merged_;  // by edge; the last entry stays false
};

void check_capacity(const std::vector<Unit>& units, std::span<const double> capacity) {
  if (capacity.size() != units.size())
    fail("there are {} capacities for {} units; give one for each", capacity.size(), units.size());
  for (std::size_t i = 0; i < capacity.size(); ++i)
    if (!std::isfinite(capacity[i]))
      fail("the capacity of unit {} '{}' is {}", i, units[i].name, capacity[i]);
}

void check_preset(const std::vector<std::vector<int>>& groups, int units) {
  std::set<int> seen;
  for (const std::vector<int>& group : groups)
    for (std::size_t i = 0; i < group.size(); ++i) {
      if (group[i] < 0 || group[i] >= units)
        fail("the grouping names unit {}, but the units are 0 to {}", group[i], units - 1);
      if (i > 0 && group[i] != group[i - 1] + 1)
        fail("the grouping joins unit {} with unit {}; only neighbours can be joined, in ascending order",
             group[i - 1], group[i]);
      if (!seen.insert(group[i]).second) fail("the grouping names unit {} twice", group[i]);
    }
}

/// Edges of the selector, the most important first.
std::vector<int> select(const std::vector<Unit>& units, std::span<const double> capacity,
                        const GroupingOptions& options, std::vector<std::string>* notes) {
  const std::size_t last = options.merge_last || units.empty() ? units.size() : units.size() - 1;
  switch (options.selector) {
    case Grouping::None:
      return {};
    case Grouping::TopK: {
      check_capacity(units, capacity);
      capacity = capacity.first(last);
      const int merges = options.merges >= 0
                             ? options.merges
                             : static_cast<int>(drop_edges(capacity, -1, options.margin).size());
      if (options.merges < 0 && merges == 0 && notes)
        notes->push_back(
            "nothing is merged: the capacity falls nowhere, so that the number of merges must be given");
      return top_k_edges(capacity, merges, options.penalty);
    }
    case Grouping::Drop:
      check_capacity(units, capacity);
      return drop_edges(capacity.first(last), options.merges, options.margin);
    case Grouping::Stage: {
      std::vector<int> edges = stage_edges(units);
      if (!capacity.empty()) {
        check_capacity(units, capacity);
        rank_edges(capacity, edges);
      }
      keep_first(edges, options.merges);
      return edges;
    }
    case Grouping::Preset: {
      check_preset(options.preset, static_cast<int>(units.size()));
      std::vector<int> edges;
      for (const std::vector<int>& group : options.preset)
        for (std::size_t i = 0; i + 1 < group.size(); ++i) edges.push_back(group[i]);
      return edges;
    }
  }
  return {};
}

int parse_index(std::string_view digits, std::string_view text) {
  int index = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
  if (digits.empty() || error != std::errc() || end != digits.data() + digits.size() || index < 0)
    fail("the grouping '{}' has '{}' where a unit's number belongs; write groups such as 2-3,7-8-9, or {}",
         text, digits, "one of resnet18, resnet50, mobilenet_v2, regnetx_600m");
  return index;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (true) {
    const auto end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

}  // namespace

std::vector<std::vector<int>> choose_groups(const std::vector<Unit>& units, std::span<const double> capacity,
                                            const GroupingOptions& options, std::vector<std::string>* notes) {
  if (options.max_group < 1) fail("a group has at least 1 unit, not {}", options.max_group);
  if (std::isnan(options.penalty) || options.penalty < 0)
    fail("the penalty on the number of merges must be 0 or more, not {}", options.penalty);
  const int most = options.selector == Grouping::Preset ? static_cast<int>(units.size()) : options.max_group;
  Merger merger(units, options, notes);
  int merged = 0;
  std::vector<int> joined;
  for (const int edge : select(units, capacity, options, notes))
    if (merger.add(edge, most)) joined.push_back(edge), ++merged;
  if (options.extend_backwards && options.selector == Grouping::Drop) {
    std::vector<int> rises;  // into the peak in front of each drop
    for (const int edge : joined)
      if (edge > 0 && merger.starts_group(edge)) rises.push_back(edge - 1);
    rank_edges(capacity, rises);
    for (const int edge : rises) {
      if (options.merges >= 0 && merged >= options.merges) break;
      merged += merger.add(edge, most) ? 1 : 0;
    }
  }
  return groups_from_edges(static_cast<int>(units.size()), merger.edges());
}

std::vector<int> top_k_edges(std::span<const double> capacity, int k, double penalty) {
  std::vector<int> edges(capacity.empty() ? 0 : capacity.size() - 1);
  std::iota(edges.begin(), edges.end(), 0);
  rank_edges(capacity, edges);
  k = std::max(k, 0);
  if (std::isinf(penalty)) {
    keep_first(edges, k);
    return edges;
  }
  double prefix = 0, best = -penalty * square(k);
  int count = 0;
  for (int n = 1; n <= static_cast<int>(edges.size()); ++n) {
    const auto edge = static_cast<std::size_t>(edges[static_cast<std::size_t>(n - 1)]);
    prefix += square(capacity[edge] - capacity[edge + 1]);
    const double value = prefix - penalty * square(n - k);
    if (value > best) {
      best = value;
      count = n;
    }
  }
  keep_first(edges, count);
  return edges;
}

std::vector<int> drop_edges(std::span<const double> capacity, int k, double margin) {
  std::vector<int> edges;
  for (std::size_t i = 0; i + 1 < capacity.size(); ++i)
    if (capacity[i + 1] < (1 - margin) * capacity[i]) edges.push_back(static_cast<int>(i));
  rank_edges(capacity, edges);
  keep_first(edges, k);
  return edges;
}

std::vector<int> stage_edges(const std::vector<Unit>& units) {
  std::vector<int> edges;
  for (std::size_t i = 1; i + 2 < units.size(); ++i)
    if (units[i + 1].stage_boundary) edges.push_back(static_cast<int>(i));
  return edges;
}

std::vector<std::vector<int>> groups_from_edges(int units, std::span<const int> edges) {
  const std::set<int> merged(edges.begin(), edges.end());
  std::vector<std::vector<int>> groups;
  for (int unit = 0; unit < units; ++unit) {
    if (unit == 0 || !merged.contains(unit - 1)) groups.emplace_back();
    groups.back().push_back(unit);
  }
  return groups;
}

std::vector<std::vector<int>> parse_groups(std::string_view text, int units) {
  for (const Published& published : kPublished) {
    if (text != published.name) continue;
    if (published.units != units)
      fail(
          "the published grouping '{}' is of {} units, but the model has {}; list the groups, as in "
          "2-3,7-8-9",
          text, published.units, units);
    return parse_groups(published.groups, units);
  }
  std::vector<std::vector<int>> groups;
  for (const std::string_view part : split(text, ',')) {
    std::vector<int> group;
    const auto numbers = split(part, '-');
    for (const std::string_view number : numbers) group.push_back(parse_index(number, text));
    if (group.size() == 2 && group[1] > group[0] + 1 && group[1] < units) {
      const int first = group[0], last = group[1];
      group.resize(static_cast<std::size_t>(last - first) + 1);
      std::iota(group.begin(), group.end(), first);
    }
    groups.push_back(std::move(group));
  }
  check_preset(groups, units);
  return groups;
}

std::string format_groups(const std::vector<std::vector<int>>& groups) {
  std::string text;
  for (const std::vector<int>& group : groups)
    text += fmt::format("{}{}", text.empty() ? "" : " | ", fmt::join(group, "-"));
  return text;
}

std::string_view grouping_name(Grouping grouping) {
  for (const auto& [value, name] : kNames)
    if (value == grouping) return name;
  return "";
}

Grouping parse_grouping(std::string_view name) {
  for (const auto& [value, known] : kNames)
    if (known == name) return value;
  fail("there is no grouping '{}'; choose none, topk, drop, stage or preset", name);
}

}  // namespace lithe
