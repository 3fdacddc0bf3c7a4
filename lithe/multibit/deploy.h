// Integer ONNX models of what was learnt, in standard operators alone.
#pragma once

#include <vector>

#include "lithe/graph/graph.h"

namespace lithe {

// A quantised convolution becomes Sub, Div, Clip, Mul, Round, Cast to uint8, ConvInteger with weights -3, -1,
// 1 and 3 as int8, Cast to float, Mul and Add (the batch norm); other batch norms of the body become Mul and
// Add. All sums of products are exact, and every other step is one rounding in float32, so that any runtime
// that follows ONNX gives the same bits from the body's entry to its exit, as long as the body has no average
// pools, no convolutions in float and no functions such as Sigmoid, which runtimes compute in ways of their
// own. Stem and head stay in float.

/// One bit-width alone; the output has the name it has in the multi-bit model.
Graph deploy_static(const Graph& graph, int bits);

/// All of the list in one model with a second input "bits" (int64, a scalar), by a cascade of If whose
/// branches read weights that are stored once. Scores of a bit-width that is not in the list are NaN.
Graph deploy_selectable(const Graph& graph, const std::vector<int>& bits);

/// One bit-width with QLinearConv, which stock runtimes run fast: where only quantisers of one range read
/// what a convolution makes, codes go straight on; everywhere else its outputs are rounded to 8 bits over the
/// range that the batch norm's parameters predict (4 deviations). Not exact: shifts are rounded to whole
/// products, steps are multiplied by and not divided through.
Graph deploy_fast(const Graph& graph, int bits);

}  // namespace lithe
