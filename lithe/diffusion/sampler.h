// Makes images with a diffusion model.
//
//   GraphDenoiser denoiser(graph);
//   const auto noise = NoiseSchedule::cosine();
//   const auto plan = make_plan("centred", noise, 6);
//   const at::Tensor images = sample(denoiser, noise, plan, {}, {.images = {.count = 64, .shape = {3, 32,
//   32}}});
#pragma once

#include <ATen/ATen.h>

#include <cstddef>
#include <cstdint>
#include <functional>

#include "lithe/diffusion/classifier.h"
#include "lithe/diffusion/denoiser.h"
#include "lithe/diffusion/noise.h"
#include "lithe/diffusion/noise_schedule.h"
#include "lithe/diffusion/plan.h"
#include "lithe/diffusion/sampler_options.h"

namespace lithe {

struct SampleRequest {
  ImageRange images;
  at::Tensor labels;  // int64 [count], or undefined
  /// Where to start instead of random numbers: [count, ...shape], float32 or float64, in which everything is
  /// then computed.
  at::Tensor start;
};

/// A step of the sampler, seen from outside.
struct SamplerStep {
  std::size_t point = 0;  // of the plan
  double timestep = 0;
  const at::Tensor& x;   // before the step [n, c, h, w]
  const at::Tensor& x0;  // the clean images that the step goes by, guided and clipped as the sampler does
  const at::Tensor& epsilon;  // the noise that it goes by
};
using OnStep = std::function<void(const SamplerStep& step)>;

/// Makes images [count, c, h, w], about -1..1. An image depends on its number, the seed and its label, up to
/// rounding neither on the batch nor on the other images. All images go through a step before the next one.
/// The first point of a sampler is the last of the plan; x there is taken for pure noise whatever its time
/// is. Images of a network gone wild may hold NaN. Throws Error(Input) for a plan that `check_plan` refuses
/// and for requests that do not fit the network.
at::Tensor sample(Denoiser& denoiser, const NoiseSchedule& noise, const SamplingPlan& plan,
                  const SamplerOptions& options, const SampleRequest& request, const OnStep& on_step = {});

/// Throws Error(Input) if the plan's times are not strictly ascending steps of the noise schedule (whole ones
/// but for DPM-Solver, which needs three or more), or if options contradict each other.
void check_plan(const SamplingPlan& plan, const NoiseSchedule& noise, const SamplerOptions& options);

/// Calls of the denoiser that make one image: one a step; PLMS makes one more, DPM-Solver one less than it
/// has points, and classifier-free guidance, of another scale than 1, two for each.
std::int64_t network_calls(const SamplerOptions& options, const SamplingPlan& plan);

/// The points of the plan at which the denoiser is called for one image, in that order, with the calls that
/// guidance doubles counted once; for accounts of cost.
std::vector<std::size_t> called_points(const SamplerOptions& options, const SamplingPlan& plan);

}  // namespace lithe
