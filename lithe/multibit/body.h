// The parts of a network: a stem and a head that stay in float, and between them the body that is quantised.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lithe/graph/graph.h"

namespace lithe {

/// A convolution of the body whose weight and input are quantised. A batch norm follows it.
struct BodyConvolution {
  int node = -1;
  std::string name;    // of the node, or its output
  std::string input;   // value
  std::string weight;  // constant [outputs, inputs / groups, k...]
  std::string output;
  std::vector<std::int64_t> shape;  // of the weight
  std::int64_t groups = 1;
  std::int64_t macs = 0;  // of one sample
  bool last = false;      // no other convolution of the body lies behind it
  bool depthwise() const { return groups > 1 && shape[1] == 1; }
};

struct Body {
  std::string entry, exit;  // values
  std::vector<int> nodes;   // of the graph, ascending, data path and helpers that serve only it
  std::vector<BodyConvolution> convolutions;
  /// Convolutions that stay in float, as the gates of squeeze-and-excitation, with the reason.
  std::vector<std::string> left_out;
};

/// Finds the body of a classifier: behind the first convolution and the norm, activation and pool that follow
/// it alone, up to the last convolution and what follows it element by element, at values through which
/// everything passes. `graph` must be sorted, with its constants among `graph.constants` and types inferred.
/// Throws Error(Input) if there is no such part, or no convolution in it that can be quantised.
Body find_body(const Graph& graph);

/// Body convolutions that no batch norm follows alone.
std::vector<std::string> convolutions_without_norm(const Graph& graph, const Body& body);

}  // namespace lithe
