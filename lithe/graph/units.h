// Reconstruction units: the pieces of a network that post-training quantisation learns one at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "lithe/graph/graph.h"

namespace lithe {

/// A slice of the graph in topological order. Granularity "block" of Li et al., "BRECQ", ICLR 2021.
struct Unit {
  std::string name;                 // what the names of its nodes share, else that of its first layer; unique
  std::vector<int> nodes;           // of the graph, ascending; with the helpers that serve only this unit
  std::vector<int> layers;          // those that have weights
  std::vector<std::string> inputs;  // values from outside that are no constants; the main data path first
  std::vector<std::string> outputs;  // values that later nodes read, or graph outputs; the last made one last
  bool block = false;                // parallel paths that meet (residual block, dense block, ...)
  bool stage_boundary = false;       // has a layer of stride above 1, or changes the number of channels
};

struct UnitOptions {
  int max_chain = 3;      // layers of a unit that is a plain chain
  int max_weighted = 12;  // a region of more layers is divided, ignoring the branch that skips it
};

/// Cuts the data path where exactly one value lives; the regions between are residual blocks or single nodes.
/// Chains of single nodes are packed up to `max_chain` layers; nodes without weights go with the layer before
/// them (pools and reshapes behind a block with the next layer). A region that is too large, or that spans
/// smaller residual blocks (a global skip, a U-Net), is divided inside: the values that skip over a unit are
/// then inputs of the unit where they end. Squeeze-and-excitation gates stay in the chain. Layers beside the
/// data path (a time embedding that several units read) form units of their own in front. Every node of the
/// data path is in exactly one unit; a graph without layers has none.
std::vector<Unit> find_units(const Graph& graph, const UnitOptions& options = {});

/// The unit of these nodes and no others: what the outside sees of them.
Unit make_unit(const Graph& graph, std::vector<int> nodes);

/// Units to be learnt as one: their nodes, and the helpers (sizes, constants) that now serve only this unit.
/// The name joins theirs with '+'. `units` follow one another in the order of `find_units`.
Unit merge_units(const Graph& graph, std::span<const Unit> units);
/// One unit for each group of indices of `units`, all at once. Throws Error(Input) if an index is not one.
std::vector<Unit> merge_units(const Graph& graph, const std::vector<Unit>& units,
                              const std::vector<std::vector<int>>& groups);

/// Layer granularity (Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization", ICML
/// 2020): each unit is cut in front of each of its layers but the first. Slices may have several inputs and
/// outputs: whatever a later slice or unit reads, or the graph puts out, is an output. A helper that serves
/// several slices is in none of them, as one that serves several units is in no unit. Names are unique.
std::vector<Unit> split_units(const Graph& graph, const std::vector<Unit>& units);

/// Elements of the unit's weights (shared ones once), biases not counted.
std::int64_t unit_weights(const Graph& graph, const Unit& unit);

/// Data-free capacity: the sum over layers of weights x bits x factor^(log2(stride_h stride_w) / 2) (Ma et
/// al., "Solving Oscillation Problem in Post-Training Quantization Through a Theoretical Perspective", CVPR
/// 2023). `bits` gives the weight bits of a layer; the factor 1.6 counts a layer of stride 2 as 1.6 times
/// larger.
double unit_capacity(const Graph& graph, const Unit& unit, const std::function<int(const Node&)>& bits,
                     double stride_factor = 1.6);

}  // namespace lithe
