// How far axis-aligned boxes in space, and masks of points, overlap.
#pragma once

#include <ATen/ATen.h>

namespace lithe {

/// Sizes of boxes are taken to be no smaller than this, in metres: networks also give negative ones.
inline constexpr double kSmallestBoxSize = 1e-6;

/// An overlap reaches a threshold t if it is at least t - this: so 0.25 counts for 0.25, as in ScanRefer's
/// evaluation (Chen et al., ECCV 2020), however it was rounded.
inline constexpr double kOverlapTolerance = 1e-6;

struct BoxOverlap {
  at::Tensor intersection, united, hull;  // volumes; `hull` is of the smallest box around both

  at::Tensor iou() const { return intersection / united; }
  /// Rezatofighi et al., "Generalized Intersection over Union", CVPR 2019; -1 to 1.
  at::Tensor giou() const { return iou() - (hull - united) / hull; }
};

/// Of boxes (x, y, z of the centre, width, depth, height) [..., 6]; leading dimensions broadcast.
/// Differentiable. Throws Error(Input) for another last dimension.
BoxOverlap box_overlap(const at::Tensor& a, const at::Tensor& b);

/// IoU of point sets, given as bool [..., points]; 0 where both are empty.
at::Tensor mask_iou(const at::Tensor& a, const at::Tensor& b);

}  // namespace lithe
