#include "lithe/graph/cuts.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "lithe/graph/blocks.h"

namespace lithe {
namespace {

constexpr int kMaxDepth = 200;      // of nested skips; deeper ones are cut into intervals
constexpr int kIntervalLayers = 3;  // layers of an interval
constexpr int kMaxSkipLayers = 3;   // layers on a skip that stays with its join

bool is_concat(const Node& node) {
  return node.op_type == "Concat" || node.op_type == "QLinearConcat";
}
bool is_gate(const Node& node) {
  return node.op_type == "Mul" || node.op_type == "QLinearMul";
}

}  // namespace

SegmentFinder::SegmentFinder(const DataFlow& flow, int max_weighted)
    : flow_(flow), max_weighted_(max_weighted) {
  const std::vector<Block> blocks = find_blocks(flow);
  for (const Block* block : flatten(blocks)) {
    if (block->kind != BlockKind::Residual) continue;
    int layers = 0;
    for (const int node : block->nodes) layers += flow.is_data(node) && flow.weight(node) ? 1 : 0;
    if (layers >= 2) block_joins_.insert(block->join);
  }
}

std::vector<Segment> SegmentFinder::data_segments() {
  std::vector<int> nodes;
  for (int node = 0; node < static_cast<int>(flow_.graph.nodes.size()); ++node)
    if (flow_.is_data(node)) nodes.push_back(node);
  side_ = false;
  segments_.clear();
  divide(nodes, 0);
  return std::move(segments_);
}

std::vector<Segment> SegmentFinder::side_segments(const std::vector<int>& nodes) {
  side_ = true;
  segments_.clear();
  if (count_layers(nodes) > 0) divide(nodes, 0);
  return std::move(segments_);
}

/// Cuts where exactly one value is still to be read.
void SegmentFinder::divide(const std::vector<int>& nodes, int depth) {
  std::unordered_map<std::string, int> readers;
  for (const int node : nodes)
    for (const std::string& name : inputs_of(node)) ++readers[name];
  const std::unordered_set<int> inside(nodes.begin(), nodes.end());
  int live = 0;
  for (const auto& [name, count] : readers) {
    const int maker = flow_.index.producer(name);
    if (maker < 0 || !inside.contains(maker)) ++live;
  }
  std::vector<int> region;
  for (const int node : nodes) {
    region.push_back(node);
    for (const std::string& name : inputs_of(node))
      if (--readers[name] == 0) --live;
    for (const std::string& name : flow_.graph.nodes[static_cast<std::size_t>(node)].outputs) {
      if (name.empty()) continue;
      // What is read only outside lives to the end; what nobody reads does not live.
      const bool used = readers.contains(name) || read_outside(name);
      if (used) ++live;
    }
    if (live != 1) continue;
    add_region(region, depth);
    region.clear();
  }
  if (!region.empty()) add_region(region, depth);
}

void SegmentFinder::add_region(const std::vector<int>& nodes, int depth) {
  const int layers = count_layers(nodes);
  if (nodes.size() == 1 || layers == 0) return add(Segment::Kind::Chain, nodes);
  const std::vector<int> sinks = sinks_of(nodes);
  const bool joined = sinks.size() == 1 && sinks.front() == nodes.back();
  if (layers > max_weighted_ || spans_blocks(nodes)) return divide_inside(nodes, depth + 1);
  const bool gate = joined && is_gate(flow_.graph.nodes[static_cast<std::size_t>(nodes.back())]);
  add(gate ? Segment::Kind::Chain : Segment::Kind::Block, nodes, gate);
}

/// Takes away the join (or the common end of several outputs), divides the path of most layers that leads to
/// it, then what is left.
void SegmentFinder::divide_inside(const std::vector<int>& nodes, int depth) {
  if (depth > kMaxDepth) return add_intervals(nodes);
  const std::vector<int> sinks = sinks_of(nodes);
  const bool joined = sinks.size() == 1 && sinks.front() == nodes.back();
  const int join = nodes.back();
  std::unordered_set<int> region(nodes.begin(), nodes.end());
  std::vector<int> ends = sinks;
  if (joined) {
    region.erase(join);
    ends.clear();
    for (const std::string& name : inputs_of(join))
      if (const int maker = flow_.index.producer(name); maker >= 0 && region.contains(maker))
        ends.push_back(maker);
  }
  std::vector<int> path;
  int most = -1;
  for (const int end : ends) {
    std::vector<int> candidate = ancestors_within(end, region);
    const int layers = count_layers(candidate);
    if (layers <= most) continue;
    most = layers;
    path = std::move(candidate);
  }
  if (path.size() == nodes.size()) return add_intervals(nodes);
  std::vector<int> rest;
  for (const int node : nodes)
    if (region.contains(node) && !std::binary_search(path.begin(), path.end(), node)) rest.push_back(node);
  divide(path, depth);
  if (!joined) return divide(rest, depth);
  const bool short_skip = count_layers(rest) <= kMaxSkipLayers && !spans_blocks(rest);
  if (!short_skip) {
    divide(rest, depth);
    rest.clear();
  }
  rest.push_back(join);
  const Node& node = flow_.graph.nodes[static_cast<std::size_t>(join)];
  add(is_concat(node) ? Segment::Kind::Prefix : Segment::Kind::Suffix, std::move(rest));
}

/// Contiguous slices of the topological order, with as many values going in and out as there are.
void SegmentFinder::add_intervals(const std::vector<int>& nodes) {
  std::vector<int> slice;
  int layers = 0;
  for (const int node : nodes) {
    if (flow_.weight(node) && layers == kIntervalLayers) {
      add(Segment::Kind::Block, std::exchange(slice, {}));
      layers = 0;
    }
    slice.push_back(node);
    layers += flow_.weight(node) ? 1 : 0;
  }
  if (!slice.empty()) add(layers > 0 ? Segment::Kind::Block : Segment::Kind::Chain, slice);
}

void SegmentFinder::add(Segment::Kind kind, std::vector<int> nodes, bool gate) {
  const int layers = count_layers(nodes);
  segments_.push_back({kind, std::move(nodes), layers, gate});
}

bool SegmentFinder::read_outside(const std::string& value) const {
  if (flow_.index.is_output(value)) return true;
  const auto& readers = flow_.index.consumers(value);
  return std::any_of(readers.begin(), readers.end(),
                     [&](int node) { return flow_.is_data(node) || (side_ && flow_.is_conditioned(node)); });
}

std::vector<std::string> SegmentFinder::inputs_of(int node) const {
  if (!side_) return flow_.data_inputs(node);
  std::vector<std::string> inputs;
  for (const std::string& name : all_reads(flow_.graph.nodes[static_cast<std::size_t>(node)])) {
    const int maker = flow_.index.producer(name);
    const bool carries =
        maker >= 0 ? flow_.is_conditioned(maker) : !flow_.graph.is_constant(name) && name != flow_.main_input;
    if (carries && std::find(inputs.begin(), inputs.end(), name) == inputs.end()) inputs.push_back(name);
  }
  return inputs;
}

std::vector<int> SegmentFinder::sinks_of(const std::vector<int>& nodes) const {
  std::unordered_set<int> read;
  for (const int node : nodes)
    for (const std::string& name : inputs_of(node)) read.insert(flow_.index.producer(name));
  std::vector<int> sinks;
  for (const int node : nodes)
    if (!read.contains(node)) sinks.push_back(node);
  return sinks;
}

std::vector<int> SegmentFinder::ancestors_within(int node, const std::unordered_set<int>& region) const {
  std::vector<int> found{node};
  std::unordered_set<int> seen{node};
  for (std::size_t next = 0; next < found.size(); ++next)
    for (const std::string& name : inputs_of(found[next])) {
      const int maker = flow_.index.producer(name);
      if (maker >= 0 && region.contains(maker) && seen.insert(maker).second) found.push_back(maker);
    }
  std::sort(found.begin(), found.end());
  return found;
}

bool SegmentFinder::spans_blocks(const std::vector<int>& nodes) const {
  return std::any_of(nodes.begin(), nodes.end(),
                     [&](int node) { return node != nodes.back() && block_joins_.contains(node); });
}

int SegmentFinder::count_layers(const std::vector<int>& nodes) const {
  return static_cast<int>(
      std::count_if(nodes.begin(), nodes.end(), [&](int node) { return flow_.weight(node).has_value(); }));
}

}  // namespace lithe
