#include <algorithm>
#include <cmath>

#include "lithe/quantize/reconstruct/reconstruct.h"

namespace lithe {
namespace {

constexpr std::int64_t kPublishedSteps = 20000;
constexpr double kPublishedRate = 1e-3, kPublishedScaleRate = 4e-5, kPublishedWeightScaleRate = 1e-4;
constexpr double kHighestRate = 3e-2;  // beyond it roundings jump to and fro

}  // namespace

std::string_view reconstruct_method_name(ReconstructMethod method) {
  switch (method) {
    case ReconstructMethod::AdaRound:
      return "adaround";
    case ReconstructMethod::Brecq:
      return "brecq";
    case ReconstructMethod::QDrop:
      return "qdrop";
    case ReconstructMethod::Mrecg:
      return "mrecg";
  }
  return "";
}

void set_steps(ReconstructOptions& options, std::int64_t steps) {
  const double saved = static_cast<double>(kPublishedSteps) / static_cast<double>(steps);
  options.schedule.steps = steps;
  // Through 500 steps of 2e-2 and 2,000 of 5e-3, near enough: fewer steps must still decide the roundings.
  options.rounding_rate = std::min(kHighestRate, kPublishedRate * std::max(1.0, std::pow(saved, 0.8)));
  options.scale_rate = kPublishedScaleRate * std::max(1.0, std::sqrt(saved));
  options.weight_scale_rate = kPublishedWeightScaleRate * std::max(1.0, std::sqrt(saved));
}

ReconstructOptions reconstruct_options(ReconstructMethod method, Effort effort) {
  ReconstructOptions options;
  switch (effort) {
    case Effort::Fast:
      set_steps(options, 500);
      options.rounding_rate = 2e-2;
      break;
    case Effort::Balanced:
      set_steps(options, 2000);
      options.rounding_rate = 5e-3;
      break;
    case Effort::Paper:
      set_steps(options, kPublishedSteps);
      options.round_eight_bits = true;
      options.keep_better = false;
      break;
  }
  options.granularity = method == ReconstructMethod::AdaRound ? Granularity::Layer : Granularity::Block;
  if (method == ReconstructMethod::QDrop || method == ReconstructMethod::Mrecg) {
    options.keep = 0.5;
    options.draw = Draw::Any;
  }
  if (method == ReconstructMethod::Mrecg) {
    options.grouping.selector = Grouping::Drop;
    if (effort == Effort::Paper) {
      options.batch = 256;
      options.draw = Draw::Batches;
    } else {
      options.survey_steps = std::max<std::int64_t>(100, options.schedule.steps / 5);
    }
  }
  return options;
}

}  // namespace lithe
