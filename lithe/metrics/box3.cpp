#include "lithe/metrics/box3.h"

#include "lithe/base/error.h"
#include "lithe/graph/tensor_data.h"

namespace lithe {
namespace {

void check(const at::Tensor& boxes) {
  if (boxes.dim() < 1 || boxes.size(-1) != 6)
    fail("boxes are six numbers each, centre and size; the shape {} does not end in 6",
         format_shape(boxes.sizes().vec()));
}

}  // namespace

BoxOverlap box_overlap(const at::Tensor& a, const at::Tensor& b) {
  check(a);
  check(b);
  const auto split = [](const at::Tensor& boxes) {
    const at::Tensor centre = boxes.slice(-1, 0, 3),
                     half = boxes.slice(-1, 3, 6).clamp_min(kSmallestBoxSize) / 2;
    return std::make_pair(centre - half, centre + half);
  };
  const auto [a_low, a_high] = split(a);
  const auto [b_low, b_high] = split(b);
  const at::Tensor common = (at::minimum(a_high, b_high) - at::maximum(a_low, b_low)).clamp_min(0).prod(-1);
  const at::Tensor united = (a_high - a_low).prod(-1) + (b_high - b_low).prod(-1) - common;
  return {common, united, (at::maximum(a_high, b_high) - at::minimum(a_low, b_low)).prod(-1)};
}

at::Tensor mask_iou(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor common = a.logical_and(b).sum({-1}).to(at::kDouble),
                   united = a.logical_or(b).sum({-1}).to(at::kDouble);
  return common / united.clamp_min(1);
}

}  // namespace lithe
