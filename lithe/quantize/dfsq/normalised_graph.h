// The network with channels normalised in front of the layers whose inputs are rounded to points, and how it
// is written once they are.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "lithe/graph/graph.h"
#include "lithe/quantize/dfsq/subset_quantizer.h"
#include "lithe/quantize/export_qdq.h"

namespace lithe {

/// A layer whose input is rounded to points.
struct SubsetLayer {
  std::string layer, input;   // name of the layer, and what it reads in the float graph
  std::string normal;         // what it reads in the normalised graph
  SubsetQuantizer quantizer;  // of `input`
};

/// The float graph, where each of these layers reads a value of its own, `normal`. With dynamic statistics it
/// is the input itself. Otherwise it is the input divided by the scales of its channels, and the weights are
/// multiplied by them: the same function, with weights that are then quantised as they will be used.
struct NormalisedGraph {
  Graph graph;
  std::vector<SubsetLayer> layers;
};
NormalisedGraph normalise_channels(const Graph& graph, std::vector<SubsetLayer> layers);

/// What rounds `normal` to points and leaves it in the range of `normal`.
SubsetQuantizer quantizer_of_normal(const SubsetLayer& layer);

/// The graph with points and weights written into it; `weights` are of the normalised graph.
///
/// Dynamic: DynamicSubsetQuantize in front of the layer. Static: SubsetQuantize leaves multiples of 1/1024,
/// which the layer multiplies with weights that hold the scales. What the mean m_c of channel c adds to
/// output o is the sum of w[o, c, tap] m_c over taps inside the image: where there is no padding a number,
/// which goes into the bias; else a convolution of a plane of ones with the sums over c, padded with zeros as
/// the layer itself is, so that borders are exact.
Graph export_subsets(const NormalisedGraph& normalised, const QdqPlan& weights);

}  // namespace lithe
