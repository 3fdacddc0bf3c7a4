#include <algorithm>
#include <cmath>

#include "lithe/base/error.h"
#include "lithe/diffusion/sampler.h"

namespace lithe {
namespace {

// Points of DPM-Solver that are nearer would make quotients of differences that are rounding errors.
constexpr double kLeastGap = 1e-6;

void check_times(const SamplingPlan& plan, const NoiseSchedule& noise, bool whole) {
  double before = -1;
  for (const PlanStep& point : plan) {
    const double time = point.timestep;
    if (!(time >= 0 && time <= static_cast<double>(noise.steps() - 1)))
      fail("the plan has the step {}; the noise schedule '{}' has 0 to {}", time, noise.name(),
           noise.steps() - 1);
    if (whole && time != std::floor(time))
      fail("the plan has the step {}; only dpmpp2m samples at fractions, give whole steps", time);
    if (time < before + kLeastGap)
      fail("the plan has the step {} after {}; steps must be distinct and in ascending order", time, before);
    before = time;
    const auto& skipped = point.skipped;
    if (std::adjacent_find(skipped.begin(), skipped.end(), std::greater_equal<>()) != skipped.end() ||
        (!skipped.empty() && skipped.front() < 0))
      fail("the skipped layers of step {} must be distinct and in ascending order, from 0", time);
  }
}

void check_options(const SamplerOptions& options) {
  if (!(options.eta >= 0 && options.eta <= 1)) fail("eta is {}; give 0 to 1", options.eta);
  if (options.eta > 0 && options.kind != SamplerKind::Ddim)
    fail("eta is {}, but the sampler {} has none; take ddim or eta 0", options.eta,
         sampler_name(options.kind));
  if (options.batch < 1) fail("batches of {} images; give 1 or more", options.batch);
  const Guidance& guidance = options.guidance;
  if (!std::isfinite(guidance.scale)) fail("the guidance scale is {}; give a number", guidance.scale);
  if (guidance.kind == GuidanceKind::ClassifierFree && guidance.scale != 1 && guidance.null_label < 0)
    fail("classifier-free guidance needs the label that stands for none; give it");
  if (guidance.kind == GuidanceKind::Classifier && !guidance.classifier)
    fail("guidance by a classifier needs one; give its model");
}

}  // namespace

void check_plan(const SamplingPlan& plan, const NoiseSchedule& noise, const SamplerOptions& options) {
  const bool multistep = options.kind == SamplerKind::DpmSolver;
  if (plan.empty()) fail("the plan has no steps; give one or more");
  if (multistep && plan.size() < 3)
    fail("the sampler dpmpp2m needs two steps or more, which are three points; the plan has {}", plan.size());
  check_times(plan, noise, !multistep);
  check_options(options);
}

std::vector<std::size_t> called_points(const SamplerOptions& options, const SamplingPlan& plan) {
  std::vector<std::size_t> points;
  const std::size_t end = options.kind == SamplerKind::DpmSolver ? 1 : 0;
  for (std::size_t point = plan.size(); point > end; --point) points.push_back(point - 1);
  // The trial step of PLMS looks at the second point, or again at the only one.
  if (options.kind == SamplerKind::Plms && !plan.empty())
    points.insert(points.begin() + 1, points[std::min<std::size_t>(1, points.size() - 1)]);
  return points;
}

std::int64_t network_calls(const SamplerOptions& options, const SamplingPlan& plan) {
  const auto calls = static_cast<std::int64_t>(called_points(options, plan).size());
  const bool twice = options.guidance.kind == GuidanceKind::ClassifierFree && options.guidance.scale != 1;
  return twice ? 2 * calls : calls;
}

}  // namespace lithe
