#include "lithe/quantize/reconstruct/soft_weight.h"

#include <algorithm>

#include "lithe/kernels/soft_round.h"
#include "lithe/quantize/reconstruct/adam.h"

namespace lithe {
namespace {

constexpr double kDecided = 0.01;
constexpr double kPinned = -20;  // V that no gradient reaches: h is 0
constexpr double kOpen = 1.5;    // |V| from which a rounding can still change; h is 0.12 or 0.88 there

at::Tensor hold(const at::Tensor& h) {
  return at::sigmoid(h).mul(kSoftRoundStretch).sub(kSoftRoundShift).clamp(0, 1);
}

/// floor(w / s) + z, and V such that h(V) is the fraction that the floor cuts off.
struct Start {
  at::Tensor base, variables;
};

Start free_start(const QuantizedWeight& weight, const at::Tensor& values, bool from_codes) {
  const Quantizer& quantizer = weight.quantizer;
  const at::Tensor scaled = values / along_axis(quantizer.scale, quantizer.axis, values.dim());
  const at::Tensor floor = scaled.floor();
  if (from_codes) {
    const at::Tensor up =
        weight.codes > floor + along_axis(quantizer.zero_point, quantizer.axis, values.dim());
    return {(weight.codes - up.to(at::kFloat)).contiguous(),
            (up.to(at::kFloat) * 2 - 1).mul_(kOpen).contiguous()};
  }
  at::Tensor variables = (scaled - floor).contiguous();
  float* first = variables.data_ptr<float>();
  std::transform(first, first + variables.numel(), first, initial_v);
  return {(floor + along_axis(quantizer.zero_point, quantizer.axis, values.dim())).contiguous(), variables};
}

/// What was pruned stays 0, so that patterns of sparsity outlive the learning.
Start start_of(const QuantizedWeight& weight, const at::Tensor& values, bool from_codes) {
  Start start = free_start(weight, values, from_codes);
  start.variables.masked_fill_(values == 0, kPinned);
  return start;
}

void write_codes(QuantizedWeight& weight, const at::Tensor& base, const at::Tensor& variables) {
  const at::Tensor from = base.to(at::kCPU).contiguous(), v = variables.detach().to(at::kCPU).contiguous();
  weight.codes = at::empty_like(from);
  hard_codes({.inner = from.numel(),
              .base = from.data_ptr<float>(),
              .low = static_cast<float>(weight.quantizer.codes.low),
              .high = static_cast<float>(weight.quantizer.codes.high),
              .v = v.data_ptr<float>()},
             weight.codes.data_ptr<float>());
}

/// Of LibTorch operators, with autograd: the reference, and what runs on GPUs.
class ComposedWeight : public SoftWeight {
 public:
  ComposedWeight(const QuantizedWeight& weight, const at::Tensor& values, const SoftWeightOptions& options)
      : codes_(weight.quantizer.codes), axis_(weight.quantizer.axis), learn_scale_(options.learn_scale) {
    Start start = start_of(weight, values, options.from_codes);
    base_ = start.base.to(options.device);
    variables_ = start.variables.to(options.device).requires_grad_(true);
    scale_ = weight.quantizer.scale.to(options.device).clone();
    if (learn_scale_) scale_.requires_grad_(true);
    zero_point_ = along_axis(weight.quantizer.zero_point.to(options.device), axis_, values.dim());
  }

  at::Tensor soft() override {
    const at::Tensor codes =
        (base_ + hold(variables_)).clamp(static_cast<double>(codes_.low), static_cast<double>(codes_.high));
    return (codes - zero_point_) * along_axis(scale_, axis_, base_.dim());
  }

  double step(const RoundingStep& step) override {
    double regulariser = 0;
    if (step.regulariser > 0) {
      const at::AutoGradMode grad(true);
      const at::Tensor sum = (1 - (2 * hold(variables_) - 1).abs().pow(step.exponent)).sum();
      regulariser = sum.item<float>();
      (sum * step.regulariser).backward();
    }
    const at::NoGradGuard no_grad;
    if (!variables_.grad().defined()) return regulariser;
    adam_.step(variables_, variables_.grad(), step.step, step.rate);
    variables_.mutable_grad() = at::Tensor();
    if (learn_scale_ && scale_.grad().defined()) {
      scale_adam_.step(scale_, scale_.grad(), step.step, step.scale_rate);
      scale_.clamp_(kLeastScale);
      scale_.mutable_grad() = at::Tensor();
    }
    return regulariser;
  }

  std::int64_t count() const override { return base_.numel(); }
  std::int64_t undecided() const override {
    const at::NoGradGuard no_grad;
    const at::Tensor h = hold(variables_);
    return (h > kDecided).logical_and(h < 1 - kDecided).sum().item<std::int64_t>();
  }
  void harden(QuantizedWeight& weight) const override {
    const at::NoGradGuard no_grad;
    write_codes(weight, base_, variables_);
    if (learn_scale_) weight.quantizer.scale = scale_.detach().to(at::kCPU).clone();
  }

 private:
  CodeRange codes_;
  std::int64_t axis_;
  bool learn_scale_;
  at::Tensor base_, variables_, scale_, zero_point_;
  Adam adam_, scale_adam_;
};

/// One pass over memory a step: gradient, regulariser, Adam and the next soft weight.
class FusedWeight : public SoftWeight {
 public:
  FusedWeight(const QuantizedWeight& weight, const at::Tensor& values, const SoftWeightOptions& options)
      : learn_scale_(options.learn_scale) {
    const Quantizer& quantizer = weight.quantizer;
    Start start = start_of(weight, values, options.from_codes);
    base_ = start.base;
    variables_ = start.variables;
    first_ = at::zeros_like(variables_);
    second_ = at::zeros_like(variables_);
    scale_ = quantizer.scale.reshape({-1}).contiguous().clone();
    zero_point_ = quantizer.zero_point.reshape({-1}).contiguous().clone();
    scale_shape_ = quantizer.scale.sizes().vec();
    if (learn_scale_) scale_gradient_ = at::zeros_like(scale_);
    state_.low = static_cast<float>(quantizer.codes.low);
    state_.high = static_cast<float>(quantizer.codes.high);
    const auto sizes = values.sizes();
    if (quantizer.axis < 0) {
      state_.inner = values.numel();
    } else {
      for (std::int64_t d = 0; d < values.dim(); ++d) {
        const std::int64_t size = sizes[static_cast<std::size_t>(d)];
        (d < quantizer.axis ? state_.outer : d == quantizer.axis ? state_.channels : state_.inner) *= size;
      }
    }
    state_.base = base_.data_ptr<float>();
    state_.scale = scale_.data_ptr<float>();
    state_.zero_point = zero_point_.data_ptr<float>();
    state_.v = variables_.data_ptr<float>();
    soft_ = at::empty_like(base_);
    soft_weights(state_, soft_.data_ptr<float>());
    soft_.requires_grad_(true);
  }

  at::Tensor soft() override { return soft_; }

  double step(const RoundingStep& step) override {
    const at::NoGradGuard no_grad;
    if (!soft_.grad().defined()) return 0;
    const at::Tensor gradient = soft_.grad().contiguous();
    const SoftRoundStep kernel{.lr = step.rate,
                               .step = step.step,
                               .regulariser_weight = static_cast<float>(step.regulariser),
                               .regulariser_beta = static_cast<float>(step.exponent)};
    float* weights = soft_.data_ptr<float>();
    const double regulariser = soft_round_step(state_, {first_.data_ptr<float>(), second_.data_ptr<float>()},
                                               kernel, gradient.data_ptr<float>(), weights,
                                               learn_scale_ ? scale_gradient_.data_ptr<float>() : nullptr);
    if (learn_scale_) {
      scale_adam_.step(scale_, scale_gradient_, step.step, step.scale_rate);
      scale_.clamp_(kLeastScale);
      soft_weights(state_, weights);
    }
    soft_.mutable_grad() = at::Tensor();
    return regulariser;
  }

  std::int64_t count() const override { return base_.numel(); }
  std::int64_t undecided() const override { return lithe::undecided(state_, static_cast<float>(kDecided)); }
  void harden(QuantizedWeight& weight) const override {
    write_codes(weight, base_, variables_);
    if (learn_scale_) weight.quantizer.scale = scale_.reshape(scale_shape_).clone();
  }

 private:
  bool learn_scale_;
  at::Tensor base_, variables_, first_, second_, scale_, zero_point_, scale_gradient_, soft_;
  std::vector<std::int64_t> scale_shape_;
  SoftRound state_;
  Adam scale_adam_;
};

}  // namespace

std::unique_ptr<SoftWeight> make_soft_weight(const QuantizedWeight& weight, const at::Tensor& values,
                                             const SoftWeightOptions& options) {
  const at::NoGradGuard no_grad;
  if (options.composed || !options.device.is_cpu())
    return std::make_unique<ComposedWeight>(weight, values, options);
  return std::make_unique<FusedWeight>(weight, values, options);
}

}  // namespace lithe
