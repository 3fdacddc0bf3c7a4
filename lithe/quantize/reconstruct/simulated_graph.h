// The network as it will run once quantised, with everything that is to be learnt as a constant of its own.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "lithe/graph/graph.h"
#include "lithe/graph/units.h"
#include "lithe/quantize/export_qdq.h"

namespace lithe {

/// The float graph with a `lithe.FakeQuantize` node behind every value that is quantised, and a constant of
/// its own for every quantised weight. What reads which follows `export_qdq`. Names of values stay; the
/// quantised form of a value has a name of its own.
struct SimulatedGraph {
  Graph graph;
  std::vector<std::string> weights;             // constants, by index in QdqPlan::weights
  std::vector<std::string> scales;              // constants, by index in QdqPlan::activations
  std::vector<std::string> drops;               // constants that say which elements are dropped, likewise
  std::vector<int> quantizers;                  // nodes, likewise
  std::vector<int> node_of;                     // of the simulated graph, by node of the float graph
  std::map<std::string, std::string> float_of;  // the value behind a quantised one
  std::map<std::string, std::size_t> activation_of;  // index in QdqPlan::activations, by quantised value

  /// The value of the float graph that a value of this one stands for.
  const std::string& original(const std::string& value) const;
};

/// `composed`: its fake quantisers run as plain LibTorch operators, to compare speed with.
SimulatedGraph simulate(const Graph& graph, const QdqPlan& plan, bool composed = false);

/// A slice of the network that is learnt at once: some units, in the float and in the simulated graph.
struct Slice {
  std::string name;
  std::vector<int> units;   // indices
  std::vector<int> layers;  // nodes of the float graph that have weights
  std::vector<std::string> float_inputs, float_outputs;
  std::vector<std::string> inputs, outputs;  // of the simulated graph; constants are not counted
  std::vector<std::size_t> activations;      // indices of quantisers inside
};

/// The slices of `groups` (indices of `units`, all of them, in order). Nodes that are in no unit go with the
/// first slice that needs them, so that every input of a slice is a graph input or made by an earlier one.
std::vector<Slice> make_slices(const Graph& graph, const SimulatedGraph& simulated,
                               const std::vector<Unit>& units, const std::vector<std::vector<int>>& groups);

}  // namespace lithe
