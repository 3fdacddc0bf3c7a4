#include "lithe/diffusion/sampler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <vector>

#include "lithe/base/error.h"
#include "lithe/diffusion/guided_network.h"
#include "lithe/diffusion/solver_steps.h"
#include "lithe/ops/registry.h"

namespace lithe {
namespace {

/// What one call of `sample` works on.
class Run {
 public:
  Run(Denoiser& denoiser, const NoiseSchedule& noise, const SamplingPlan& plan, const SamplerOptions& options,
      const SampleRequest& request, const OnStep& on_step)
      : noise_(noise),
        plan_(plan),
        options_(options),
        images_(request.images),
        on_step_(on_step),
        network_(denoiser, options, request.labels) {
    if (request.start.defined()) {
      images_.count = request.start.size(0);
      images_.shape = request.start.sizes().slice(1).vec();
    }
  }

  at::Tensor ddim(at::Tensor x);
  at::Tensor ddpm(at::Tensor x);
  at::Tensor plms(at::Tensor x);
  at::Tensor dpm_solver(at::Tensor x);

 private:
  double alpha_bar(std::size_t point) const {
    return noise_.alpha_bar(static_cast<std::int64_t>(plan_[point].timestep));
  }
  at::Tensor noise_like(const at::Tensor& x, std::size_t point) const {
    return step_noise(images_, static_cast<std::int64_t>(point)).to(x.options());
  }
  void show(std::size_t point, const at::Tensor& x, const Estimate& said) const {
    if (on_step_) on_step_({point, plan_[point].timestep, x, said.x0, said.epsilon});
  }

  /// Turns the noise against the classifier's gradient (Dhariwal and Nichol, algorithm 2).
  void pull(const at::Tensor& x, std::size_t point, double alpha_bar, Estimate& said) {
    if (!network_.has_classifier()) return;
    said.epsilon = said.epsilon - std::sqrt(1 - alpha_bar) * network_.pull(x, plan_[point]);
    said.x0 = x0_of(x, said.epsilon, alpha_bar);
  }
  Estimate ask(const at::Tensor& x, std::size_t point, double alpha_bar) {
    Estimate said = estimate(x, network_(x, plan_[point]).prediction, alpha_bar, options_.prediction);
    pull(x, point, alpha_bar, said);
    return said;
  }
  Estimate ask_clipped(const at::Tensor& x, std::size_t point, double alpha_bar);
  at::Tensor plms_step(const at::Tensor& x, const at::Tensor& epsilon, std::size_t point) const;
  DpmPoint dpm_point(std::size_t point) const;

  const NoiseSchedule& noise_;
  const SamplingPlan& plan_;
  const SamplerOptions& options_;
  ImageRange images_;
  const OnStep& on_step_;
  GuidedNetwork network_;
};

Estimate Run::ask_clipped(const at::Tensor& x, std::size_t point, double alpha_bar) {
  Estimate said = estimate(x, network_(x, plan_[point]).prediction, alpha_bar, options_.prediction);
  if (options_.clip) {
    said.x0 = said.x0.clamp(-1, 1);
    if (options_.rederive) said.epsilon = epsilon_of(x, said.x0, alpha_bar);
  }
  pull(x, point, alpha_bar, said);  // not clipped again
  return said;
}

at::Tensor Run::ddim(at::Tensor x) {
  for (std::size_t point = plan_.size(); point-- > 0;) {
    const double now = alpha_bar(point), next = point > 0 ? alpha_bar(point - 1) : 1;
    const Estimate said = ask_clipped(x, point, now);
    show(point, x, said);
    const bool noisy = options_.eta > 0 && point > 0;
    x = ddim_step(said, now, next, noisy ? options_.eta : 0, noisy ? noise_like(x, point) : at::Tensor());
  }
  return x;
}

at::Tensor Run::ddpm(at::Tensor x) {
  for (std::size_t point = plan_.size(); point-- > 0;) {
    const double now = alpha_bar(point), next = point > 0 ? alpha_bar(point - 1) : 1;
    const GuidedNetwork::Output output = network_(x, plan_[point]);
    Estimate said = estimate(x, output.prediction, now, options_.prediction);
    if (options_.clip) said.x0 = said.x0.clamp(-1, 1);
    show(point, x, said);
    const DdpmPosterior posterior = ddpm_posterior(now, next);
    at::Tensor mean = posterior.clean * said.x0 + posterior.noisy * x;
    // The first step's variance is 0, of which there is no logarithm: that of the second one stands in.
    const double least =
        plan_.size() > 1 ? ddpm_posterior(alpha_bar(1), alpha_bar(0)).variance : posterior.beta;
    const at::Tensor variance = output.variance.defined()
                                    ? learned_variance(output.variance, posterior, least)
                                    : at::full({}, posterior.variance, x.options());
    if (network_.has_classifier()) mean = mean + variance * network_.pull(x, plan_[point]);
    x = point > 0 ? mean + variance.sqrt() * noise_like(x, point) : mean;
  }
  return x;
}

/// The step of DDIM with this epsilon; the last one ends at the first training step, not at a clean image.
at::Tensor Run::plms_step(const at::Tensor& x, const at::Tensor& epsilon, std::size_t point) const {
  const double now = alpha_bar(point), next = point > 0 ? alpha_bar(point - 1) : noise_.alpha_bar(0);
  return ddim_step({epsilon, x0_of(x, epsilon, now)}, now, next);
}

at::Tensor Run::plms(at::Tensor x) {
  constexpr std::size_t kMostOrder = 4;
  std::vector<at::Tensor> history;  // newest first
  for (std::size_t point = plan_.size(); point-- > 0;) {
    const double now = alpha_bar(point);
    history.insert(history.begin(), ask(x, point, now).epsilon);
    if (history.size() > kMostOrder) history.pop_back();
    at::Tensor epsilon;
    if (history.size() > 1) {
      epsilon = weighted_sum(adams_bashforth(history.size()), history);
    } else {
      const std::size_t next = point > 0 ? point - 1 : 0;
      const at::Tensor trial = plms_step(x, history[0], point);
      epsilon = (history[0] + ask(trial, next, alpha_bar(next)).epsilon) / 2;
    }
    if (on_step_) show(point, x, {epsilon, x0_of(x, epsilon, now)});
    x = plms_step(x, epsilon, point);
  }
  return x;
}

DpmPoint Run::dpm_point(std::size_t point) const {
  const double time = noise_.time_of_step(plan_[point].timestep);
  return {noise_.alpha_at(time), noise_.sigma_at(time), noise_.lambda_at(time)};
}

at::Tensor Run::dpm_solver(at::Tensor x) {
  constexpr std::size_t kFewCalls = 15;  // below, the last step is of the first order
  const std::size_t calls = plan_.size() - 1;
  at::Tensor before;
  double h_before = 0;
  for (std::size_t point = calls; point > 0; --point) {
    const DpmPoint from = dpm_point(point), to = dpm_point(point - 1);
    const Estimate said = ask(x, point, from.alpha * from.alpha);
    show(point, x, said);
    const bool first_order = point == calls || (point == 1 && calls < kFewCalls);
    x = first_order ? dpm_first_order(x, said.x0, from, to)
                    : dpm_second_order(x, said.x0, before, h_before, from, to);
    before = said.x0;
    h_before = to.lambda - from.lambda;
  }
  return x;
}

void check_request(const SampleRequest& request) {
  const ImageRange& images = request.images;
  const at::Tensor& start = request.start;
  if (start.defined() && (start.dim() != 4 || !start.is_floating_point()))
    fail("sampling starts from floats [n, channels, height, width], not from {}",
         format_shape(start.sizes().vec()));
  if (!start.defined() &&
      (images.shape.size() != 3 || images.count < 0 ||
       std::any_of(images.shape.begin(), images.shape.end(), [](std::int64_t size) { return size < 1; })))
    fail("{} images of shape {} cannot be sampled; give channels, height and width", images.count,
         format_shape(images.shape));
  const std::int64_t count = start.defined() ? start.size(0) : images.count;
  if (request.labels.defined() && (request.labels.dim() != 1 || request.labels.size(0) != count ||
                                   request.labels.scalar_type() != at::kLong))
    fail("{} images need int64 labels [{}], not {}", count, count,
         format_shape(request.labels.sizes().vec()));
}

}  // namespace

at::Tensor sample(Denoiser& denoiser, const NoiseSchedule& noise, const SamplingPlan& plan,
                  const SamplerOptions& options, const SampleRequest& request, const OnStep& on_step) {
  denoiser.start();
  const at::NoGradGuard no_grad;
  check_plan(plan, noise, options);
  check_request(request);
  Run run(denoiser, noise, plan, options, request, on_step);
  at::Tensor x = request.start.defined() ? request.start : start_noise(request.images);
  if (x.size(0) == 0) return x;
  switch (options.kind) {
    case SamplerKind::Ddpm:
      return run.ddpm(std::move(x));
    case SamplerKind::Plms:
      return run.plms(std::move(x));
    case SamplerKind::DpmSolver:
      return run.dpm_solver(std::move(x));
    case SamplerKind::Ddim:
      break;
  }
  return run.ddim(std::move(x));
}

}  // namespace lithe
