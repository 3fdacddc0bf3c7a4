// Folding what is linear in each channel into the layer before it.
#pragma once

#include <string>
#include <vector>

#include "lithe/graph/graph.h"

namespace lithe {

struct FoldReport {
  int folded = 0;
  std::vector<std::string> left;  // batch norms that stay, one line each with the reason
};

/// Folds BatchNormalization (inference mode), and Mul, Div, Add and Sub by constants with one number a
/// channel, into the weights and bias of the Conv, ConvTranspose or Gemm that alone feeds them (Jacob et al.,
/// CVPR 2018, section 3.2). A MatMul with constant weight takes factors, not sums. The layer then makes the
/// value that the folded node made. Shared weights are copied first. Results agree up to float rounding; with
/// per-channel quantisers folding does not change the codes.
FoldReport fold_batch_norm(Graph& graph);

}  // namespace lithe
