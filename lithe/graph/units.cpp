#include "lithe/graph/units.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <set>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "lithe/base/error.h"
#include "lithe/graph/blocks.h"
#include "lithe/graph/cuts.h"
#include "lithe/graph/dataflow.h"

namespace lithe {
namespace {

const Node& node_at(const DataFlow& flow, int node) {
  return flow.graph.nodes[static_cast<std::size_t>(node)];
}

/// A unit that is still growing.
struct Draft {
  std::vector<int> nodes;
  int layers = 0;
  bool block = false;
  bool closed = false;  // takes no more layers
};

/// Packs segments into units.
class Packer {
 public:
  Packer(const DataFlow& flow, const UnitOptions& options) : flow_(flow), options_(options) {}

  void add(const Segment& segment) {
    switch (segment.kind) {
      case Segment::Kind::Prefix:
        append(pending_, segment);
        return;
      case Segment::Kind::Suffix:
        if (drafts_.empty() || !pending_.nodes.empty()) return append(pending_, segment);
        append(drafts_.back(), segment);
        drafts_.back().closed = true;
        return;
      case Segment::Kind::Block:
        start(segment);
        drafts_.back().block = drafts_.back().closed = true;
        return;
      case Segment::Kind::Chain:
        if (segment.layers == 0) return add_weightless(segment);
        add_layer(segment);
        return;
    }
  }

  std::vector<Draft> finish() {
    if (!pending_.nodes.empty()) {  // nodes without a layer behind them
      if (drafts_.empty()) return {};
      auto& nodes = drafts_.back().nodes;
      nodes.insert(nodes.end(), pending_.nodes.begin(), pending_.nodes.end());
    }
    return std::move(drafts_);
  }

 private:
  static void append(Draft& draft, const Segment& segment) {
    draft.nodes.insert(draft.nodes.end(), segment.nodes.begin(), segment.nodes.end());
    draft.layers += segment.layers;
  }

  void start(const Segment& segment) {
    drafts_.push_back(std::exchange(pending_, {}));
    append(drafts_.back(), segment);
  }

  void add_weightless(const Segment& segment) {
    const bool follows_block = !drafts_.empty() && drafts_.back().block;
    const bool stays =
        !follows_block || std::all_of(segment.nodes.begin(), segment.nodes.end(),
                                      [&](int node) { return follows_elementwise(node_at(flow_, node)); });
    if (drafts_.empty() || !pending_.nodes.empty() || !stays) return append(pending_, segment);
    append(drafts_.back(), segment);
  }

  void add_layer(const Segment& segment) {
    const int layers = segment.gate ? 0 : segment.layers;
    const bool joins = !drafts_.empty() && !drafts_.back().closed && pending_.nodes.empty() &&
                       drafts_.back().layers + layers <= options_.max_chain && leads_only_to(segment);
    if (!joins)
      start(segment);
    else
      append(drafts_.back(), segment);
    if (segment.gate) drafts_.back().layers -= segment.layers;
  }

  /// Whether nothing else reads what the last unit makes.
  bool leads_only_to(const Segment& segment) const {
    const std::unordered_set<int> own(drafts_.back().nodes.begin(), drafts_.back().nodes.end());
    const std::unordered_set<int> next(segment.nodes.begin(), segment.nodes.end());
    for (const int node : drafts_.back().nodes)
      for (const std::string& name : node_at(flow_, node).outputs) {
        if (name.empty()) continue;
        if (flow_.index.is_output(name)) return false;
        for (const int reader : flow_.index.consumers(name))
          if (!own.contains(reader) && !next.contains(reader) &&
              (flow_.is_data(reader) || flow_.is_conditioned(reader)))
            return false;
      }
    return true;
  }

  const DataFlow& flow_;
  const UnitOptions& options_;
  std::vector<Draft> drafts_;
  Draft pending_;  // weightless nodes that go with the next layer
};

/// What the outside sees of a unit.
class Finisher {
 public:
  explicit Finisher(const DataFlow& flow) : flow_(flow) {}

  Unit run(Draft draft) const { return describe(flow_.with_helpers(std::move(draft.nodes)), draft.block); }

  /// Of exactly these nodes, ascending.
  Unit describe(std::vector<int> nodes, bool block) const {
    Unit unit;
    unit.block = block;
    unit.nodes = std::move(nodes);
    const std::unordered_set<int> inside(unit.nodes.begin(), unit.nodes.end());
    std::set<std::string> seen;
    std::vector<std::string> side;
    for (const int node : unit.nodes) {
      if (flow_.weight(node)) unit.layers.push_back(node);
      for (const std::string& name : all_reads(node_at(flow_, node))) {
        const int maker = flow_.index.producer(name);
        if (flow_.graph.is_constant(name) || (maker >= 0 && inside.contains(maker)) ||
            !seen.insert(name).second)
          continue;
        (flow_.is_data_value(name) ? unit.inputs : side).push_back(name);
      }
      for (const std::string& name : node_at(flow_, node).outputs)
        if (!name.empty() && seen_outside(name, inside)) unit.outputs.push_back(name);
    }
    unit.inputs.insert(unit.inputs.end(), side.begin(), side.end());
    unit.stage_boundary = changes_stage(unit);
    // What serves between blocks (a norm in front of an addition) must not shorten a name.
    unit.name =
        common_name(flow_.graph, unit.layers.size() > 1 ? unit.layers : unit.nodes, fallback_name(unit));
    return unit;
  }

  std::string fallback_name(const Unit& unit) const {
    if (!unit.layers.empty()) return layer_name(unit.layers.front());
    return unit.outputs.empty() ? "unit" : unit.outputs.back();
  }

 private:
  bool seen_outside(const std::string& name, const std::unordered_set<int>& inside) const {
    if (flow_.index.is_output(name)) return true;
    const auto& readers = flow_.index.consumers(name);
    return std::any_of(readers.begin(), readers.end(), [&](int reader) { return !inside.contains(reader); });
  }

  std::string layer_name(int layer) const {
    const Node& node = node_at(flow_, layer);
    return node.name.empty() ? node.output(0) : node.name;
  }

  const ValueInfo* info_of(const std::string& value) const {
    const ValueInfo* info = flow_.graph.info(value);
    return info && info->shape && info->shape->size() == 4 ? info : nullptr;
  }

  bool changes_stage(const Unit& unit) const {
    for (const int layer : unit.layers)
      for (const std::int64_t stride : node_at(flow_, layer).attr("strides", std::vector<std::int64_t>{}))
        if (stride > 1) return true;
    if (unit.inputs.empty() || unit.outputs.empty()) return false;
    const ValueInfo *in = info_of(unit.inputs.front()), *out = info_of(unit.outputs.back());
    return in && out && (*in->shape)[1] != (*out->shape)[1];
  }

  const DataFlow& flow_;
};

/// Of equal names none stays, so that units alike are named alike.
void make_names_unique(std::vector<Unit>& units, const Finisher& finisher) {
  std::set<std::string> taken;
  std::map<std::string, int> counts;
  for (const Unit& unit : units) ++counts[unit.name];
  for (Unit& unit : units)
    if (counts.at(unit.name) > 1 || !taken.insert(unit.name).second) {
      unit.name = finisher.fallback_name(unit);
      for (int suffix = 2; !taken.insert(unit.name).second; ++suffix)
        unit.name = fmt::format("{} ({})", finisher.fallback_name(unit), suffix);
    }
}

/// Of sizes and constants alone; what depends on another input has work of its own to do.
bool is_helper(const DataFlow& flow, int node) {
  return !flow.is_data(node) && !flow.is_conditioned(node) && !flow.weight(node);
}

Unit merge(const DataFlow& flow, const Finisher& finisher, std::span<const Unit> units) {
  std::vector<int> nodes;
  for (const Unit& unit : units) nodes.insert(nodes.end(), unit.nodes.begin(), unit.nodes.end());
  std::sort(nodes.begin(), nodes.end());
  nodes.erase(std::unique(nodes.begin(), nodes.end()), nodes.end());
  if (units.size() > 1)
    nodes = flow.with_helpers(std::move(nodes), [&](int node) { return is_helper(flow, node); });
  const bool block = std::any_of(units.begin(), units.end(), [](const Unit& unit) { return unit.block; });
  Unit merged = finisher.describe(std::move(nodes), block);
  if (!units.empty()) merged.name.clear();
  for (const Unit& unit : units) merged.name += (merged.name.empty() ? "" : "+") + unit.name;
  return merged;
}

/// The nodes of a unit, cut in front of every layer but the first; ascending in each slice.
std::vector<std::vector<int>> slices_of(const DataFlow& flow, const Unit& unit) {
  std::vector<std::vector<int>> slices(1);
  std::unordered_map<int, std::size_t> slice_of;
  int layers = 0;
  for (const int node : unit.nodes) {
    if (is_helper(flow, node)) continue;
    if (flow.weight(node) && ++layers > 1) slices.emplace_back();
    slices.back().push_back(node);
    slice_of[node] = slices.size() - 1;
  }
  // Latest first: the readers of a helper are placed before it.
  for (auto node = unit.nodes.rbegin(); node != unit.nodes.rend(); ++node) {
    if (!is_helper(flow, *node)) continue;
    std::set<std::size_t> served;
    bool inside = true;
    for (const std::string& name : node_at(flow, *node).outputs)
      for (const int reader : flow.index.consumers(name)) {
        const auto found = slice_of.find(reader);
        inside = inside && found != slice_of.end();
        if (found != slice_of.end()) served.insert(found->second);
      }
    if (!inside || served.size() != 1) continue;
    slice_of[*node] = *served.begin();
    slices[*served.begin()].push_back(*node);
  }
  for (auto& slice : slices) std::sort(slice.begin(), slice.end());
  return slices;
}

}  // namespace

std::vector<Unit> find_units(const Graph& graph, const UnitOptions& options) {
  const DataFlow flow(graph);
  SegmentFinder finder(flow, options.max_weighted);
  Packer data(flow, options), side(flow, options);
  for (const Segment& segment : finder.data_segments()) data.add(segment);
  const Finisher finisher(flow);
  std::vector<Unit> units;
  std::unordered_set<int> covered;
  for (Draft& draft : data.finish()) {
    units.push_back(finisher.run(std::move(draft)));
    covered.insert(units.back().nodes.begin(), units.back().nodes.end());
  }
  std::vector<int> rest;
  for (int node = 0; node < static_cast<int>(graph.nodes.size()); ++node)
    if (flow.is_conditioned(node) && !covered.contains(node)) rest.push_back(node);
  for (const Segment& segment : finder.side_segments(rest)) side.add(segment);
  std::vector<Unit> all;
  for (Draft& draft : side.finish()) all.push_back(finisher.run(std::move(draft)));
  std::move(units.begin(), units.end(), std::back_inserter(all));
  make_names_unique(all, finisher);
  return all;
}

Unit make_unit(const Graph& graph, std::vector<int> nodes) {
  const DataFlow flow(graph);
  std::sort(nodes.begin(), nodes.end());
  nodes.erase(std::unique(nodes.begin(), nodes.end()), nodes.end());
  if (!nodes.empty() && (nodes.front() < 0 || nodes.back() >= static_cast<int>(graph.nodes.size())))
    fail("the graph has no node {}; it has {}", nodes.front() < 0 ? nodes.front() : nodes.back(),
         graph.nodes.size());
  return Finisher(flow).describe(std::move(nodes), false);
}

Unit merge_units(const Graph& graph, std::span<const Unit> units) {
  const DataFlow flow(graph);
  return merge(flow, Finisher(flow), units);
}

std::vector<Unit> merge_units(const Graph& graph, const std::vector<Unit>& units,
                              const std::vector<std::vector<int>>& groups) {
  const DataFlow flow(graph);
  const Finisher finisher(flow);
  std::vector<Unit> merged;
  for (const std::vector<int>& group : groups) {
    std::vector<Unit> members;
    for (const int index : group) {
      if (index < 0 || index >= static_cast<int>(units.size()))
        fail("there is no unit {}; there are {}", index, units.size());
      members.push_back(units[static_cast<std::size_t>(index)]);
    }
    merged.push_back(merge(flow, finisher, members));
    if (members.size() == 1) merged.back() = std::move(members.front());
  }
  return merged;
}

std::vector<Unit> split_units(const Graph& graph, const std::vector<Unit>& units) {
  const DataFlow flow(graph);
  const Finisher finisher(flow);
  std::vector<Unit> all;
  for (const Unit& unit : units) {
    auto slices = slices_of(flow, unit);
    if (slices.size() == 1) {
      all.push_back(unit);
      continue;
    }
    for (std::vector<int>& slice : slices) {
      all.push_back(finisher.describe(std::move(slice), false));
      all.back().name = finisher.fallback_name(all.back());
    }
  }
  make_names_unique(all, finisher);
  return all;
}

std::int64_t unit_weights(const Graph& graph, const Unit& unit) {
  const GraphIndex index(graph);
  std::unordered_map<std::string, std::int64_t> counts;
  for (const int layer : unit.layers)
    if (const auto weight = find_weight(graph, index, graph.nodes[static_cast<std::size_t>(layer)]))
      counts[weight->constant] = weight->count;
  std::int64_t total = 0;
  for (const auto& [name, count] : counts) total += count;
  return total;
}

double unit_capacity(const Graph& graph, const Unit& unit, const std::function<int(const Node&)>& bits,
                     double stride_factor) {
  const GraphIndex index(graph);
  double capacity = 0;
  for (const int layer : unit.layers) {
    const Node& node = graph.nodes[static_cast<std::size_t>(layer)];
    const auto weight = find_weight(graph, index, node);
    if (!weight) continue;
    double steps = 1;
    for (const std::int64_t stride : node.attr("strides", std::vector<std::int64_t>{}))
      steps *= static_cast<double>(stride);
    capacity +=
        static_cast<double>(weight->count) * bits(node) * std::pow(stride_factor, std::log2(steps) / 2);
  }
  return capacity;
}

}  // namespace lithe
