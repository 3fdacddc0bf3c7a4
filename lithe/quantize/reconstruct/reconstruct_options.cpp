#include <algorithm>
#include <cmath>

#include "lithe/quantize/reconstruct/reconstruct.h"

namespace lithe {
namespace {

constexpr std::int64_t kPublishedSteps = 20000;
constexpr double kPublishedScaleRate = 4e-5, kPublishedWeightScaleRate = 1e-4, kPublishedScalePassRate = 4e-4;
constexpr double kHighestRate = 3e-2;  // beyond it roundings jump to and fro

/// Rates of the roundings that were found good, by steps; fewer steps must still decide the roundings.
struct Found {
  double steps, rate;
};
constexpr Found kFast{500, 2e-2}, kBalanced{2000, 5e-3}, kPublished{20000, 1e-3};

/// On a straight line between two of them, both numbers by their logarithms.
double rounding_rate(std::int64_t steps) {
  const auto given = static_cast<double>(steps);
  if (given >= kPublished.steps) return kPublished.rate;
  const Found &a = given < kBalanced.steps ? kFast : kBalanced,
              &b = given < kBalanced.steps ? kBalanced : kPublished;
  if (given == a.steps) return a.rate;
  const double slope = std::log(b.rate / a.rate) / std::log(b.steps / a.steps);
  return std::min(kHighestRate, a.rate * std::pow(given / a.steps, slope));
}

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
  const double faster = std::max(1.0, std::sqrt(saved));
  options.rounding_rate = rounding_rate(steps);
  options.scale_rate = kPublishedScaleRate * faster;
  options.weight_scale_rate = kPublishedWeightScaleRate * faster;
  options.scale_pass_rate = kPublishedScalePassRate * faster;
}

ReconstructOptions reconstruct_options(ReconstructMethod method, Effort effort) {
  ReconstructOptions options;
  switch (effort) {
    case Effort::Fast:
      set_steps(options, 500);
      break;
    case Effort::Balanced:
      set_steps(options, 2000);
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
