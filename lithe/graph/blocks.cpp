#include "lithe/graph/blocks.h"

#include <algorithm>
#include <set>
#include <unordered_set>

#include "lithe/graph/dataflow.h"

namespace lithe {
namespace {

constexpr int kRoot = -1;
constexpr int kMaxHeight = 200;  // of nested blocks

/// Immediate dominators on the data path; vertices are nodes, the root stands for the main input.
class Dominators {
 public:
  explicit Dominators(const DataFlow& flow)
      : parent_(flow.graph.nodes.size(), kRoot), depth_(flow.graph.nodes.size(), 0) {
    for (int node = 0; node < static_cast<int>(parent_.size()); ++node) {
      if (!flow.is_data(node)) continue;
      bool first = true;
      int common = kRoot;
      for (const std::string& name : flow.data_inputs(node)) {
        const int maker = flow.index.producer(name);
        common = first ? maker : nearest_common(common, maker);
        first = false;
      }
      parent_[static_cast<std::size_t>(node)] = common;
      depth_[static_cast<std::size_t>(node)] = depth(common) + 1;
    }
  }

  int of(int node) const { return parent_[static_cast<std::size_t>(node)]; }

 private:
  int depth(int node) const { return node == kRoot ? 0 : depth_[static_cast<std::size_t>(node)]; }

  int nearest_common(int a, int b) const {
    while (a != b) {
      if (depth(a) >= depth(b) && a != kRoot)
        a = of(a);
      else
        b = of(b);
    }
    return a;
  }

  std::vector<int> parent_, depth_;
};

BlockKind kind_of(const Node& join) {
  const std::string& type = join.op_type;
  if (type == "Add" || type == "Sub" || type == "Sum" || type == "QLinearAdd") return BlockKind::Residual;
  if (type == "Concat" || type == "QLinearConcat") return BlockKind::Concat;
  if (type == "Mul" || type == "Div" || type == "QLinearMul") return BlockKind::Gate;
  if (type == "MatMul" || type == "Einsum" || type == "QLinearMatMul" || type == "MatMulInteger")
    return BlockKind::Attention;
  return BlockKind::Other;
}

class BlockFinder {
 public:
  explicit BlockFinder(const DataFlow& flow) : flow_(flow), dominators_(flow) {}

  std::vector<Block> run() {
    for (int node = 0; node < static_cast<int>(flow_.graph.nodes.size()); ++node)
      if (flow_.is_join(node))
        if (auto block = region(node)) nest(std::move(*block));
    std::vector<Block> blocks;
    std::set<std::string> taken;
    for (Tower& tower : open_) blocks.push_back(std::move(tower.block));
    for (Block& block : blocks) settle(block, 0, taken);
    return blocks;
  }

 private:
  const Node& node(int index) const { return flow_.graph.nodes[static_cast<std::size_t>(index)]; }

  std::optional<Block> region(int join) const {
    int fork = dominators_.of(join);
    std::vector<int> nodes = between(fork, join);
    std::set<std::string> entries = values_read_from(fork, nodes);
    // A node with several outputs, such as Split, parts the paths itself: it belongs to the region.
    while (entries.size() > 1 && fork != kRoot && flow_.data_inputs(fork).size() == 1) {
      nodes.push_back(fork);
      entries = {flow_.data_inputs(fork).front()};
      fork = flow_.index.producer(*entries.begin());
    }
    if (entries.size() != 1) return std::nullopt;
    const std::unordered_set<int> inside(nodes.begin(), nodes.end());
    bool weighted = false;
    for (const int one : nodes) {
      weighted = weighted || flow_.weight(one).has_value();
      if (one != join && leaks(one, inside)) return std::nullopt;
    }
    if (!weighted) return std::nullopt;

    Block block{
        .entry = *entries.begin(), .exit = node(join).output(0), .join = join, .kind = kind_of(node(join))};
    extend(block, nodes);
    block.nodes = flow_.with_helpers(std::move(nodes));
    block.side_inputs = side_inputs(block);
    block.name = common_name(flow_.graph, block.nodes, block.exit);
    const ValueInfo *in = flow_.graph.info(block.entry), *out = flow_.graph.info(block.exit);
    block.skippable = in && out && equal_shapes(*in, *out);
    return block;
  }

  /// The nodes on paths from `fork` (left out) to `join`.
  std::vector<int> between(int fork, int join) const {
    std::vector<int> nodes{join};
    std::unordered_set<int> seen{join};
    for (std::size_t next = 0; next < nodes.size(); ++next)
      for (const std::string& name : flow_.data_inputs(nodes[next])) {
        const int maker = flow_.index.producer(name);
        if (maker != fork && maker != kRoot && seen.insert(maker).second) nodes.push_back(maker);
      }
    return nodes;
  }

  std::set<std::string> values_read_from(int fork, const std::vector<int>& nodes) const {
    std::set<std::string> values;
    for (const int one : nodes)
      for (const std::string& name : flow_.data_inputs(one))
        if (flow_.index.producer(name) == fork) values.insert(name);
    return values;
  }

  bool leaks(int one, const std::unordered_set<int>& inside) const {
    for (const std::string& name : node(one).outputs) {
      if (name.empty()) continue;
      if (flow_.index.is_output(name)) return true;
      for (const int reader : flow_.data_consumers(name))
        if (!inside.contains(reader)) return true;
    }
    return false;
  }

  void extend(Block& block, std::vector<int>& nodes) const {
    while (!flow_.index.is_output(block.exit)) {
      const std::vector<int> readers = flow_.data_consumers(block.exit);
      if (readers.size() != 1 || !follows_elementwise(node(readers[0])) || flow_.is_join(readers[0])) return;
      nodes.push_back(readers[0]);
      block.exit = node(readers[0]).output(0);
    }
  }

  std::vector<std::string> side_inputs(const Block& block) const {
    const std::unordered_set<int> inside(block.nodes.begin(), block.nodes.end());
    std::set<std::string> values;
    for (const int one : block.nodes)
      for (const std::string& name : all_reads(node(one))) {
        const int maker = flow_.index.producer(name);
        if (flow_.graph.is_constant(name) || name == block.entry) continue;
        if (maker < 0 || !inside.contains(maker)) values.insert(name);
      }
    return {values.begin(), values.end()};
  }

  static bool equal_shapes(const ValueInfo& a, const ValueInfo& b) {
    if (!a.shape || !b.shape || *a.shape != *b.shape) return false;
    return std::all_of(a.shape->begin(), a.shape->end(),
                       [](const Dim& dim) { return dim.known() || !dim.symbol.empty(); });
  }

  struct Tower {
    Block block;
    int height = 1;  // levels of blocks in it
  };

  /// Regions are disjoint or one holds the other; they come in the order of the joins, inner ones first.
  void nest(Block block) {
    const auto first = std::stable_partition(open_.begin(), open_.end(),
                                             [&](const Tower& inner) { return !holds(block, inner.block); });
    int height = 1;
    for (auto inner = first; inner != open_.end(); ++inner) height = std::max(height, inner->height + 1);
    if (height > kMaxHeight) return;  // no real network nests like this: its outermost regions are left out
    for (auto inner = first; inner != open_.end(); ++inner) block.children.push_back(std::move(inner->block));
    open_.erase(first, open_.end());
    open_.push_back({std::move(block), height});
  }

  static bool holds(const Block& outer, const Block& inner) {
    return std::binary_search(outer.nodes.begin(), outer.nodes.end(), inner.join);
  }

  /// Depths and unique names; the outer block keeps the shared one.
  static void settle(Block& block, int depth, std::set<std::string>& taken) {
    block.depth = depth;
    if (!taken.insert(block.name).second) taken.insert(block.name = block.exit);
    for (Block& child : block.children) settle(child, depth + 1, taken);
  }

  const DataFlow& flow_;
  Dominators dominators_;
  std::vector<Tower> open_;  // blocks that are not in another one yet
};

void collect(const std::vector<Block>& blocks, std::vector<const Block*>& all) {
  for (const Block& block : blocks) {
    all.push_back(&block);
    collect(block.children, all);
  }
}

}  // namespace

std::string_view block_kind_name(BlockKind kind) {
  switch (kind) {
    case BlockKind::Residual:
      return "residual";
    case BlockKind::Concat:
      return "concat";
    case BlockKind::Gate:
      return "gate";
    case BlockKind::Attention:
      return "attention";
    case BlockKind::Other:
      return "other";
  }
  return "other";
}

std::vector<Block> find_blocks(const DataFlow& flow) {
  return BlockFinder(flow).run();
}
std::vector<Block> find_blocks(const Graph& graph) {
  return find_blocks(DataFlow(graph));
}

std::vector<const Block*> flatten(const std::vector<Block>& blocks) {
  std::vector<const Block*> all;
  collect(blocks, all);
  return all;
}

}  // namespace lithe
