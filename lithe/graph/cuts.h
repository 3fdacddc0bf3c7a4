// Inside unit search: divides the data path at the values that everything passes through.
#pragma once

#include <unordered_set>
#include <vector>

#include "lithe/graph/dataflow.h"

namespace lithe {

/// A piece of the data path between two cuts.
struct Segment {
  enum class Kind {
    Chain,   // a single path, or a gate, or parallel paths without weights (a decomposed norm or activation)
    Block,   // parallel paths with weights
    Prefix,  // the Concat where a long skip ends: goes with what follows
    Suffix,  // another join where a long skip ends, with the skip's own nodes: goes with what precedes
  };
  Kind kind = Kind::Chain;
  std::vector<int> nodes;  // ascending
  int layers = 0;          // nodes with weights
  bool gate = false;
};

class SegmentFinder {
 public:
  SegmentFinder(const DataFlow& flow, int max_weighted);

  std::vector<Segment> data_segments();
  /// Of nodes beside the data path: those given, ascending.
  std::vector<Segment> side_segments(const std::vector<int>& nodes);

 private:
  void divide(const std::vector<int>& nodes, int depth);
  void add_region(const std::vector<int>& nodes, int depth);
  void divide_inside(const std::vector<int>& nodes, int depth);
  void add_intervals(const std::vector<int>& nodes);
  void add(Segment::Kind kind, std::vector<int> nodes, bool gate = false);

  std::vector<std::string> inputs_of(int node) const;
  bool read_outside(const std::string& value) const;
  /// Makers of the values that no node of the region reads, ascending.
  std::vector<int> sinks_of(const std::vector<int>& nodes) const;
  std::vector<int> ancestors_within(int node, const std::unordered_set<int>& region) const;
  bool spans_blocks(const std::vector<int>& nodes) const;
  int count_layers(const std::vector<int>& nodes) const;

  const DataFlow& flow_;
  const int max_weighted_;
  std::unordered_set<int> block_joins_;  // of residual blocks with at least two layers
  bool side_ = false;                    // dividing what stands beside the data path
  std::vector<Segment> segments_;
};

}  // namespace lithe
