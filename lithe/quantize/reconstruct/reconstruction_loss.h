// How far a slice is from what it should give.
#pragma once

#include <ATen/ATen.h>

#include "lithe/quantize/reconstruct/reconstruct.h"

namespace lithe {

struct ReconstructionLoss {
  double value = 0;
  at::Tensor gradient;  // by the output
};

struct ReconstructionLossOptions {
  Fisher fisher = Fisher::None;
  double exponent = 2;  // of the difference, where no importance is given
  double factor = 1;    // on the sum over all elements; 1 / positions(output) gives the published mean
};

/// sum |y - y'|^exponent; with `importance` g >= 0 sum (y - y')^2 g^2 (Diagonal), or the mean over elements
/// of
/// <|y - y'|, g> |y - y'| g / 100 with the product taken over each sample (Full), which takes the factor less
/// positions(output), as published (Li et al., "BRECQ", ICLR 2021, section 3.3 and their code).
ReconstructionLoss reconstruction_loss(const at::Tensor& output, const at::Tensor& wanted,
                                       const at::Tensor& importance,
                                       const ReconstructionLossOptions& options);

/// Elements over channels (dimension 1 of [N, C] and of images, the last one otherwise): dividing a sum over
/// `output` by it gives the mean over samples and positions of the sum over channels.
double positions(const at::Tensor& output);

}  // namespace lithe
