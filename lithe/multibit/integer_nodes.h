// What the integer forms of a model have in common: nodes that carry a value on, codes, and the rewrite.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "lithe/multibit/integer_layers.h"

namespace lithe {

/// Appends nodes that carry one value on. Each is called `prefix`/name, as what it makes.
class NodeChain {
 public:
  NodeChain(std::vector<Node>& nodes, std::string prefix, std::string value)
      : nodes_(nodes), prefix_(std::move(prefix)), value_(std::move(value)) {}

  Node& then(const char* type, std::vector<std::string> others, const char* name);
  /// What the last node makes is called so.
  void finish(const std::string& name);

 private:
  std::vector<Node>& nodes_;
  std::string prefix_, value_;
};

/// Constants under a name, which is returned.
std::string add_scalar(Graph& graph, const std::string& name, float value);
std::string add_by_channel(Graph& graph, const std::string& name, const std::vector<float>& values,
                           std::size_t rank);  // [1, channels, 1, 1...]

/// Carries a value on to its uint8 codes.
void add_codes(Graph& graph, NodeChain& chain, const std::string& prefix, const BoundQuantizeSpec& spec);

/// Gives `node` the geometry of a convolution.
void take_geometry(Node& node, const Node& conv);

/// The graph of one bit-width of a multi-bit model; throws Error(Input) if its opset is too old.
Graph graph_to_deploy(const Graph& graph, int bits);

/// The nodes of `source`, its quantised convolutions replaced by those that `write` appends in place of their
/// norms.
std::vector<Node> replace_layers(
    const Graph& source, const std::vector<IntegerLayer>& layers,
    const std::function<void(const IntegerLayer& layer, std::vector<Node>& nodes)>& write);

/// Drops the learnt quantisers' function and everything that is no longer used; sorts and validates.
void clean_deployed(Graph& graph);

}  // namespace lithe
