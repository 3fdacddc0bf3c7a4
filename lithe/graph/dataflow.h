// Which nodes of a graph carry its data, as opposed to sizes, conditions and constants.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "lithe/graph/graph.h"
#include "lithe/graph/weights.h"

namespace lithe {

/// The data path of a graph: nodes that depend on the main input's elements and that an output depends on.
/// What is computed from sizes (Shape, Size), constants or other inputs (a time step, a mask) stands beside
/// it. The main input is the float input of highest rank, else the first input. Throws Error(Input) if the
/// nodes are not sorted.
class DataFlow {
 public:
  explicit DataFlow(const Graph& graph);

  const Graph& graph;
  const GraphIndex index;
  std::string main_input;  // "" in a graph without inputs

  bool is_data(int node) const { return data_[static_cast<std::size_t>(node)]; }
  /// Whether the value is the main input or made by a node on the data path.
  bool is_data_value(const std::string& value) const;
  /// Data values that the node reads (sub-graphs included), each once.
  const std::vector<std::string>& data_inputs(int node) const {
    return inputs_[static_cast<std::size_t>(node)];
  }
  /// Nodes on the data path that read the value, ascending.
  std::vector<int> data_consumers(const std::string& value) const;
  /// Whether a node beside the data path depends on the elements of another graph input (not just on sizes).
  bool is_conditioned(int node) const { return conditioned_[static_cast<std::size_t>(node)]; }
  /// A join has several data inputs.
  bool is_join(int node) const { return is_data(node) && data_inputs(node).size() > 1; }
  const std::optional<Weight>& weight(int node) const { return weights_[static_cast<std::size_t>(node)]; }

  /// Nodes beside the data path that serve only the given nodes (ascending), added to them; ascending again.
  /// With `eligible`, only those that it accepts.
  std::vector<int> with_helpers(std::vector<int> nodes,
                                const std::function<bool(int node)>& eligible = {}) const;

 private:
  std::vector<bool> data_, conditioned_;
  std::vector<std::vector<std::string>> inputs_;
  std::vector<std::optional<Weight>> weights_;
};

/// Activations and quantisers: element by element, they stay with the block in front of them.
bool follows_elementwise(const Node& node);

/// The longest name in front of a '.' or '/' that all nodes share; else the fallback.
std::string common_name(const Graph& graph, const std::vector<int>& nodes, const std::string& fallback);

}  // namespace lithe
