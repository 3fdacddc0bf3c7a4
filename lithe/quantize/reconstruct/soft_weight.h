// A weight whose rounding is being learnt.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <memory>

#include "lithe/quantize/weights.h"

namespace lithe {

/// One step of Adam on the rounding variables.
struct RoundingStep {
  std::int64_t step = 1;  // from 1
  double rate = 1e-3;
  double regulariser = 0;  // its weight; 0: off
  double exponent = 20;
  double scale_rate = 0;  // of learnt weight scales
};

/// w^ = (clip(floor(w / s) + z + h(V), low, high) - z) s with h rising from 0 to 1 (Nagel et al., "Up or
/// Down? Adaptive Rounding for Post-Training Quantization", ICML 2020). V starts so that w^ = w inside the
/// range of the codes.
class SoftWeight {
 public:
  virtual ~SoftWeight() = default;
  /// The soft weight, shaped like the constant, to be used in the next forward pass; gradients must reach it.
  virtual at::Tensor soft() = 0;
  /// Takes the gradient that the last `soft` received and moves V. Returns the regulariser before the step,
  /// not weighted; 0 while it is off.
  virtual double step(const RoundingStep& step) = 0;
  virtual std::int64_t count() const = 0;
  /// Roundings that are neither within 0.01 of down nor of up.
  virtual std::int64_t undecided() const = 0;
  /// Writes codes, and scales if they were learnt.
  virtual void harden(QuantizedWeight& weight) const = 0;
};

struct SoftWeightOptions {
  bool learn_scale = false;
  /// V starts near the codes that the weight has, but undecided enough to move; w^ is then not w.
  bool from_codes = false;
  bool composed = false;  // of LibTorch operators; otherwise one fused kernel, on the CPU
  at::Device device = at::kCPU;
};

std::unique_ptr<SoftWeight> make_soft_weight(const QuantizedWeight& weight, const at::Tensor& values,
                                             const SoftWeightOptions& options);

}  // namespace lithe
