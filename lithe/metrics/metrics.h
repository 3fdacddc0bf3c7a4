// Numbers that say how good or how equal outputs are.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

namespace lithe {

/// Samples whose label is among the k largest of `scores` [n, classes]; `labels` int64 [n]. Ties count for
/// the class of the lower index. A score row with NaN counts as wrong.
std::int64_t count_top_k(const at::Tensor& scores, const at::Tensor& labels, std::int64_t k);

/// Sum over the samples of -log softmax(logits)[label], in float64. With `probabilities`, of -log
/// scores[label].
double cross_entropy_sum(const at::Tensor& logits, const at::Tensor& labels, bool probabilities = false);

/// 10 log10(peak^2 / mean squared difference), all elements of one image alike; infinite if equal.
double psnr(const at::Tensor& image, const at::Tensor& reference, double peak = 255.0);

/// Mean structural similarity of two planes [h, w] as in Wang et al., IEEE TIP 2004: Gaussian window 11x11 of
/// sigma 1.5, K1 = 0.01, K2 = 0.03, only where the window fits; several planes [c, h, w] are averaged.
double ssim(const at::Tensor& image, const at::Tensor& reference, double peak = 255.0);

/// The numbers whose mean that is, [c, h - 10, w - 10]: those of a part follow from its pixels alone.
at::Tensor ssim_map(const at::Tensor& image, const at::Tensor& reference, double peak = 255.0);
inline constexpr std::int64_t kSsimWindow = 11;

/// Luma of RGB [3, h, w] in 0..255 by ITU-R BT.601 in studio range, 16 + (65.481 R + 128.553 G + 24.966 B) /
/// 255: what super-resolution papers compare. Returns [h, w] in 16..235.
at::Tensor luma_bt601(const at::Tensor& rgb);

/// [..., h, w] without its outermost `pixels` rows and columns.
at::Tensor shave(const at::Tensor& image, std::int64_t pixels);

/// 10 log10(sum reference^2 / sum (reference - value)^2), the signal-to-quantisation-noise ratio in dB;
/// infinite if equal.
double sqnr_db(const at::Tensor& reference, const at::Tensor& value);

/// How two tensors of one shape differ, accumulated in float64.
struct Difference {
  double max_abs = 0;  // largest |a - b|
  double max_rel = 0;  // largest |a - b| over the largest |reference|
  double mean_abs = 0;
  bool finite = true;  // false if one has NaN or infinity where the other differs
};
Difference difference(const at::Tensor& value, const at::Tensor& reference);

/// Samples [n, ...] whose largest element along the last dimension is at the same place, as a share of all.
double argmax_agreement(const at::Tensor& value, const at::Tensor& reference);

}  // namespace lithe
