// The denoiser with guidance, in batches.
#pragma once

#include <ATen/ATen.h>

#include "lithe/diffusion/denoiser.h"
#include "lithe/diffusion/plan.h"
#include "lithe/diffusion/sampler_options.h"

namespace lithe {

class GuidedNetwork {
 public:
  /// `labels` int64 [n] or undefined, of all images.
  GuidedNetwork(Denoiser& denoiser, const SamplerOptions& options, at::Tensor labels);

  struct Output {
    at::Tensor prediction;  // [n, c, h, w], with classifier-free guidance
    at::Tensor variance;    // [n, c, h, w] where the network has its own range, else undefined
  };
  Output operator()(const at::Tensor& x, const PlanStep& point);

  bool has_classifier() const { return options_.guidance.kind == GuidanceKind::Classifier; }
  /// Scale times the gradient of the classifier's log probability in x.
  at::Tensor pull(const at::Tensor& x, const PlanStep& point);

 private:
  at::Tensor call(const at::Tensor& x, const at::Tensor& labels, const PlanStep& point);
  at::Tensor guide(const at::Tensor& with, const at::Tensor& without, std::int64_t channels) const;

  Denoiser& denoiser_;
  const SamplerOptions& options_;
  at::Tensor labels_;
};

}  // namespace lithe
