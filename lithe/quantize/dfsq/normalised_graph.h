// The network with channels normalised in front of the layers whose inputs are rounded to points, and how it
// is written once they are.
#pragma once

#include <ATen/ATen.h>

#include <string>
#include <vector>

#include "lithe/graph/graph.h"
#include "lithe/quantize/dfsq/subset_quantizer.h"
#include "lithe/quantize/export_qdq.h"

namespace lithe {

/// A layer whose input is rounded to points.
struct SubsetLayer {
  std::string layer, input;   // name of the layer, and what it reads in the float graph
  std::string normal;         // the value that is rounded, in the normalised graph
  SubsetQuantizer quantizer;  // of `input`
  int weight_bits = 32;
  std::vector<double> energy;  // mean square of each channel once normalised
};

/// The float graph with these inputs made ready: the same function, whose values `normal` are to be rounded.
///
/// Dynamic statistics: `normal` is the input itself. Static: it is (input - mean) / scale by channel. The
/// weights are multiplied by the scales, less a power of two for each input channel, by which the value is
/// multiplied instead (a shift): chosen so that the rounding of the weights does the least harm, because with
/// plain scales the weights of strong channels would take all the range. What the mean m_c of channel c adds
/// to output o is the sum of w[o, c, tap] m_c over taps inside the image, by weights that are not rounded:
/// where there is no padding a number, which goes into the bias; else a convolution of a plane of ones with
/// the sums over c, padded with zeros as the layer itself is, so that borders are exact.
struct NormalisedGraph {
  Graph graph;
  std::vector<SubsetLayer> layers;
};
NormalisedGraph normalise_channels(const Graph& graph, std::vector<SubsetLayer> layers);

/// What rounds `normal` to points and leaves it in the range of `normal`.
SubsetQuantizer quantizer_of_normal(const SubsetLayer& layer);

/// The graph with points and weights written into it: nodes DynamicSubsetQuantize, or SubsetQuantize, which
/// leave multiples of 1/1024. `weights` are of the normalised graph.
Graph export_subsets(const NormalisedGraph& normalised, const QdqPlan& weights);

/// Exponents k <= 0, one an input channel, so that weights / 2^k with `bits` bits and inputs times 2^k lose
/// the least: the best of none, of the sizes of the channels' scales, and of their largest weights. The noise
/// of rounding is reckoned as sum over outputs of step^2 times the energy of the scaled inputs.
std::vector<int> choose_shifts(const at::Tensor& weight, std::int64_t groups,
                               const std::vector<float>& scales, const std::vector<double>& energy, int bits);

}  // namespace lithe
