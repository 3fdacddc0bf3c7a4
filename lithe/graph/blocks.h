// The nested residual, concatenation and gate regions of a graph.
#pragma once

#include <string>
#include <vector>

#include "lithe/graph/graph.h"

namespace lithe {

class DataFlow;

enum class BlockKind {
  Residual,   // joined by Add, Sub or Sum
  Concat,     // joined by Concat
  Gate,       // joined by Mul or Div: squeeze-and-excitation, gated units
  Attention,  // joined by a product of two computed matrices
  Other,
};

std::string_view block_kind_name(BlockKind kind);  // "residual", "concat", ...

/// A region of the data path with one entry and one exit: paths that part at `entry` and meet in the node
/// `join`. Only regions that hold weights are blocks.
struct Block {
  std::string name;   // what the names of its nodes share, else its exit; unique
  std::string entry;  // value; others may read it too
  std::string
      exit;  // value: the join's output, or that of the activation (and quantiser) that alone follows it
  std::vector<std::string>
      side_inputs;         // values made elsewhere that are not data: a time embedding, a batch size
  std::vector<int> nodes;  // of the graph, ascending; with the helpers that serve only this block
  int join = -1;           // node
  BlockKind kind = BlockKind::Other;
  int depth = 0;                // 0: in no other block
  bool skippable = false;       // entry and exit have equal, known shapes: the block may be left out
  std::vector<Block> children;  // in topological order
};

/// Blocks from dominators alone: the entry of a join is its immediate dominator on the data path, and the
/// region is a block if none of its inner values is read outside. A long outer skip is a block that has the
/// inner ones as children. Works on plain, batch-normalised and QDQ graphs. Run `infer_shapes` first to have
/// `skippable` filled. Returns the outermost blocks in topological order. Throws Error(Input) if the nodes
/// are not sorted.
std::vector<Block> find_blocks(const Graph& graph);
std::vector<Block> find_blocks(const DataFlow& flow);

/// Every block of the tree, parents before their children.
std::vector<const Block*> flatten(const std::vector<Block>& blocks);

}  // namespace lithe
