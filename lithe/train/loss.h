// What training minimises.
#pragma once

#include <ATen/ATen.h>

#include "lithe/train/train.h"

namespace lithe {

/// Mean over the samples of -log softmax(logits)[label] with smoothed labels (Szegedy et al., CVPR 2016,
/// section 7): weight 1 - smoothing on the label plus smoothing / classes on every class. `logits` [n,
/// classes]; `labels` int64 [n]; `mixed` [n, 3] (label, other label, share of the first) or undefined. With
/// `probabilities` the scores have been through Softmax.
at::Tensor smoothed_cross_entropy(const at::Tensor& logits, const at::Tensor& labels, const at::Tensor& mixed,
                                  double smoothing, bool probabilities = false);

/// T^2 KL(softmax(teacher / T) || softmax(student / T)), mean over the samples.
at::Tensor distillation_loss(const at::Tensor& student, const at::Tensor& teacher, double temperature);

}  // namespace lithe
