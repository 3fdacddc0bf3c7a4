// How one value is rounded to points of the universal set.
#pragma once

#include <string>
#include <vector>

#include "lithe/graph/graph.h"

namespace lithe {

struct SubsetQuantizer {
  TensorData points;       // int16 [c, k], ascending, units of 1/1024
  bool dynamic = false;    // normalised by the statistics of each channel of each sample
  bool centre = false;     // of dynamic: the mean is subtracted
  TensorData mean, scale;  // else float32 [c, 1, 1]
};

/// A node that rounds `input` and, where the quantiser is not dynamic and `restore` is not set, leaves the
/// points themselves instead of bringing them back to the range of the input. Its constants are added to
/// `graph`. `drop`: a constant that says which elements are rounded (kernels/drop_mask.h), or "".
Node subset_node(Graph& graph, const SubsetQuantizer& quantizer, const std::string& name,
                 const std::string& input, const std::string& output, bool restore,
                 const std::string& drop = "");

}  // namespace lithe
