// Learned rounding of weights (AdaRound): soft weights, their gradients, and the optimiser's step in one
// pass. Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization", ICML 2020.
#pragma once

#include <cstdint>

namespace lithe {

/// h(v) = clip(stretch sigmoid(v) - shift, 0, 1).
inline constexpr double kSoftRoundStretch = 1.2, kSoftRoundShift = 0.1;

/// A weight of `outer` x `channels` x `inner` elements with one scale for each channel (channels = 1: one for
/// all). Its soft weight is w = (clip(base + h(v), low, high) - zero_point) * scale with h(v) = clip(1.2
/// sigmoid(v) - 0.1, 0, 1). The arrays must not overlap.
struct SoftRound {
  std::int64_t outer = 1, channels = 1, inner = 1;
  const float* base = nullptr;        // floor(w / scale) + zero_point, whole numbers, fixed once
  const float* scale = nullptr;       // [channels]
  const float* zero_point = nullptr;  // [channels]
  float low = 0, high = 15;           // the codes
  float* v = nullptr;                 // the variables, shaped like the weight

  std::int64_t count() const { return outer * channels * inner; }
};

/// h(v) of one variable.
float soft_rounding(float v);
/// The v at which h(v) is this fraction w / scale - floor(w / scale), in [0, 1): -log(1.2 / (fraction + 0.1)
/// - 1).
float initial_v(float fraction);

/// w, shaped like the weight.
void soft_weights(const SoftRound& round, float* w);
void soft_weights_reference(const SoftRound& round, float* w);

/// What the weight becomes in the end: clip(base + [v >= 0], low, high).
void hard_codes(const SoftRound& round, float* codes);

/// What draws h to 0 or 1: the sum of 1 - |2 h(v) - 1|^beta over the weight; beta >= 1.
double rounding_regulariser(const SoftRound& round, float beta);
double rounding_regulariser_reference(const SoftRound& round, float beta);

/// How many h(v) lie in (margin, 1 - margin); 0 <= margin < 0.5.
std::int64_t undecided(const SoftRound& round, float margin = 0.01f);

/// The moments of Adam, each shaped like the weight; zeros before the first step.
struct AdamMoments {
  float* first = nullptr;
  float* second = nullptr;
};

struct SoftRoundStep {
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  std::int64_t step = 1;         // counted from 1
  float regulariser_weight = 0;  // the loss holds this times rounding_regulariser
  float regulariser_beta = 20;
};

/// The gradient of v from the gradient of the loss by w. It is 0 where h(v) is saturated; where the code is
/// clipped only the regulariser's part is left. A value on a border counts as inside, as LibTorch's clamp has
/// it.
void soft_round_gradient(const SoftRound& round, const float* grad_w, float regulariser_weight,
                         float regulariser_beta, float* grad_v);
void soft_round_gradient_reference(const SoftRound& round, const float* grad_w, float regulariser_weight,
                                   float regulariser_beta, float* grad_v);

/// One step of training in one pass: the gradient of v, Adam (Kingma and Ba, ICLR 2015; bias-corrected,
/// epsilon outside the root, no weight decay), new v and moments, and the new soft weight into `w` (which may
/// be `grad_w`). Returns rounding_regulariser before the update, not weighted, or 0 if its weight is 0.
/// `grad_scale`, if given, receives for each channel the sum of grad_w * (clip(base + h) - zero_point) before
/// the update: the gradient of a learned scale whose base is held fixed.
double soft_round_step(const SoftRound& round, const AdamMoments& moments, const SoftRoundStep& step,
                       const float* grad_w, float* w, float* grad_scale = nullptr);
double soft_round_step_reference(const SoftRound& round, const AdamMoments& moments,
                                 const SoftRoundStep& step, const float* grad_w, float* w,
                                 float* grad_scale = nullptr);

}  // namespace lithe
