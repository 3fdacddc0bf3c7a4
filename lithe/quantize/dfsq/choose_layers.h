// Which convolutions DFSQ quantises, found by structure.
#pragma once

#include <string>
#include <vector>

#include "lithe/graph/graph.h"
#include "lithe/quantize/layers.h"

namespace lithe {

/// By layer: whether it belongs to the body of the network. The published choice (EDSR, RDN and SRResNet;
/// head, the convolution behind the last block, upsampler and output stay in float) as a rule for any graph:
/// convolutions of images inside residual or dense blocks, between such blocks, and those that fuse the
/// outputs of blocks (behind a Concat of them, up to the end of the outer skip). A block that contains
/// residual blocks is no block in this sense. Without blocks: all but the first and the last convolutions.
/// Never: what works at a higher resolution than the input, or makes what is rearranged to one; what reads
/// pooled averages (gates). Throws Error(Input) if the nodes are not sorted.
std::vector<bool> choose_body_layers(const Graph& graph, const std::vector<Layer>& layers);

/// Whether the value cannot be negative because of the node that makes it: Relu, or Clip from 0 up, with
/// nothing but pooling, dropping and reordering behind. The published code centres what is not.
bool is_rectified(const Graph& graph, const GraphIndex& index, const std::string& value);

}  // namespace lithe
