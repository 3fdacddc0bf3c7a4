#include "cli/reconstruct_flags.h"

#include <array>

#include "cli/validators.h"
#include "lithe/base/error.h"
#include "lithe/quantize/reconstruct/learning_plan.h"

namespace lithe::cli {
namespace {

constexpr double kMostSteps = 1'000'000;  // fifty times what was published
constexpr const char* kLearning = "Learning (methods adaround, brecq, qdrop, mrecg; dfsq with --reconstruct)";
constexpr const char* kGrouping = "Units learnt together (likewise; default: only mrecg groups)";

/// Throws where a flag would change nothing.
void refuse_idle_flags(const ReconstructFlags& flags, const ReconstructOptions& options) {
  const Grouping selector = options.grouping.selector;
  const auto needs = [](bool given, bool met, const char* flag, const char* what) {
    if (given && !met) fail("{} has no effect here: it needs {}", flag, what);
  };
  const bool ranked = selector == Grouping::TopK || selector == Grouping::Drop,
             chosen = ranked || selector == Grouping::Stage;
  needs(flags.merges >= 0, chosen, "--merges", "--grouping topk, drop or stage");
  needs(flags.max_group.has_value(), chosen, "--max-group", "--grouping topk, drop or stage");
  needs(flags.penalty >= 0, selector == Grouping::TopK, "--merge-penalty", "--grouping topk");
  needs(flags.extend_backwards, selector == Grouping::Drop, "--extend-groups", "--grouping drop");
  needs(!flags.capacity.empty(), chosen, "--capacity", "--grouping topk, drop or stage");
  needs(flags.capacity == "loss", ranked, "--capacity loss", "--grouping topk or drop");
  needs(flags.stride_factor.has_value(), chosen && !groups_by_losses(options), "--modcap-stride-factor",
        "--grouping topk or drop with --capacity modcap, or --grouping stage");
  needs(flags.scale_rate > 0, options.scales != ScaleLearning::Off, "--scale-rate",
        "--scales joint or separate");
  needs(flags.survey_steps >= 0, ranked && options.capacity == CapacityMetric::Loss, "--survey-steps",
        "--grouping topk or drop by measured losses");
}

}  // namespace

void ReconstructFlags::add_to(CLI::App& verb) {
  const char* group = kLearning;
  const auto number = [&](const char* name, auto& value, const char* what) {
    return verb.add_option(name, value, what)->group(group);
  };
  const auto choice = [&](const char* name, std::string& value, const char* what,
                          const std::vector<std::string>& among) {
    return verb.add_option(name, value, what)->check(CLI::IsMember(among))->group(group);
  };
  const auto flag = [&](const char* name, bool& value, const char* what) {
    verb.add_flag(name, value, what)->group(group);
  };
  choice("--preset", effort, "how long to learn: fast (500 steps a unit), balanced (2000) or paper (20000)",
         {"fast", "balanced", "paper"})
      ->capture_default_str();
  number("--steps", steps, "steps for each unit; learning rates follow")->check(in_range(1, kMostSteps));
  number("--checkpoints", checkpoints,
         "folder that keeps finished units for --resume (default: beside the output, removed at the end)");
  number("--polish", polish_steps,
         "then learn the whole network at once for so many steps, some hundreds or more (default: 0)")
      ->check(in_range(0, kMostSteps));
  flag("--learn-weight-scales", learn_weight_scales, "also learn the scales of the weights");
  flag("--round-8bit", round_eight_bits, "also learn the rounding of 8-bit weights");
  choice("--fisher", fisher, "weigh outputs by the gradient of the network's loss: none, diagonal or full",
         {"none", "diagonal", "full"});
  number("--keep", keep, "share of activations that are quantised in a step (qdrop: 0.5; 1: all)")
      ->check(in_range(0.0, 1.0));
  choice("--scales", scales, "activation scales: joint with the roundings, separate (after them) or off",
         {"joint", "separate", "off"});
  number("--learn-batch", batch, "samples in a step (default: 32; mrecg with --preset paper: 256)")
      ->check(in_range(1, 1 << 16));
  choice("--draw", draw, "samples of a step: distinct, any (with replacement) or batches (cut once)",
         {"distinct", "any", "batches"});
  number("--rounding-rate", rounding_rate, "learning rate of the roundings")->check(positive_up_to(1));
  number("--scale-rate", scale_rate, "learning rate of the activation scales")->check(positive_up_to(1));
  number("--rounding-weight", rounding_weight,
         "weight of what makes roundings decide (default: 0.01; with depthwise convolutions 0.1)")
      ->check(positive_up_to(100));
  flag("--half-caches", half_caches, "keep cached values in 16 bits");
  flag("--faithful", faithful,
       "keep what was learnt even where it made a unit worse on the calibration data (paper: always)");

  group = kGrouping;
  number("--grouping", grouping,
         "none, topk, drop (default of mrecg), stage, a list such as 2-3,7-8-9, or resnet18, resnet50, "
         "mobilenet_v2, regnetx_600m as published");
  choice("--base", base, "what mrecg groups the units of: brecq or qdrop (default)", {"brecq", "qdrop"});
  choice("--capacity", capacity,
         "what units are compared by: loss (measured first; default) or modcap (weights, bits, strides)",
         {"loss", "modcap"});
  number("--merges", merges, "pairs of units to merge at most (topk, drop, stage)")->check(at_least(0));
  number("--max-group", max_group, "units in a group at most (topk, drop, stage; default: 3)")
      ->check(in_range(1, 1000));
  number("--merge-penalty", penalty, "of topk: lambda on the number of merges")->check(at_least(0));
  flag("--extend-groups", extend_backwards, "of drop: also take in the unit in front of each group");
  number("--modcap-stride-factor", stride_factor,
         "how much larger a layer of stride 2 counts in modcap (default: 1.6)")
      ->check(positive_up_to(100));
  number("--survey-steps", survey_steps,
         "steps a unit of the run that measures losses (0: as many as --steps; default: a fifth, paper: all)")
      ->check(in_range(0, kMostSteps));
}

std::optional<ReconstructMethod> parse_reconstruct_method(const std::string& name) {
  for (const ReconstructMethod method : {ReconstructMethod::AdaRound, ReconstructMethod::Brecq,
                                         ReconstructMethod::QDrop, ReconstructMethod::Mrecg})
    if (name == reconstruct_method_name(method)) return method;
  return std::nullopt;
}

ReconstructOptions reconstruct_options_of(const ReconstructFlags& flags, ReconstructMethod method) {
  const Effort effort = flags.effort == "fast"    ? Effort::Fast
                        : flags.effort == "paper" ? Effort::Paper
                                                  : Effort::Balanced;
  ReconstructOptions options = reconstruct_options(method, effort);
  if (!flags.base.empty()) {
    if (method != ReconstructMethod::Mrecg) fail("--base {} is of method mrecg; leave it out", flags.base);
    if (flags.base == "brecq") {
      options.keep = 1;
      if (effort != Effort::Paper) options.draw = Draw::Distinct;
    }
  }
  if (flags.steps > 0) {
    set_steps(options, flags.steps);
    if (options.survey_steps > 0) options.survey_steps = std::max<std::int64_t>(1, flags.steps / 5);
  }
  if (flags.survey_steps >= 0) options.survey_steps = flags.survey_steps;
  if (flags.batch > 0) options.batch = flags.batch;
  if (!flags.draw.empty())
    options.draw = flags.draw == "any" ? Draw::Any : flags.draw == "batches" ? Draw::Batches : Draw::Distinct;
  if (flags.rounding_rate > 0) options.rounding_rate = flags.rounding_rate;
  if (flags.scale_rate > 0) options.scale_rate = options.scale_pass_rate = flags.scale_rate;
  options.fixed_rounding_rate = flags.rounding_rate > 0;
  options.fixed_scale_rate = flags.scale_rate > 0;
  if (flags.rounding_weight > 0) options.rounding_weight = flags.rounding_weight;
  if (flags.keep >= 0) options.keep = flags.keep;
  if (!flags.scales.empty())
    options.scales = flags.scales == "off"        ? ScaleLearning::Off
                     : flags.scales == "separate" ? ScaleLearning::Separate
                                                  : ScaleLearning::Joint;
  if (options.scales == ScaleLearning::Separate && options.keep < 1)
    fail(
        "--scales separate learns roundings with activations in float, so that --keep {} has no meaning; use "
        "--method brecq, or --keep 1",
        options.keep);
  if (!flags.fisher.empty())
    options.fisher = flags.fisher == "diagonal" ? Fisher::Diagonal
                     : flags.fisher == "full"   ? Fisher::Full
                                                : Fisher::None;
  options.learn_weight_scales = flags.learn_weight_scales;
  options.polish_steps = flags.polish_steps;
  options.round_eight_bits = options.round_eight_bits || flags.round_eight_bits;
  options.half_caches = flags.half_caches;
  options.keep_better = options.keep_better && !flags.faithful;
  if (flags.stride_factor) options.stride_factor = *flags.stride_factor;
  if (!flags.capacity.empty()) {
    options.capacity = flags.capacity == "modcap" ? CapacityMetric::ModCap : CapacityMetric::Loss;
    // Without measured losses, where a stage begins says more than capacities do.
    if (method == ReconstructMethod::Mrecg && options.capacity == CapacityMetric::ModCap)
      options.grouping.selector = Grouping::Stage;
  }
  if (!flags.grouping.empty()) {
    constexpr std::array<std::string_view, 4> kSelectors{"none", "topk", "drop", "stage"};
    if (std::find(kSelectors.begin(), kSelectors.end(), flags.grouping) != kSelectors.end()) {
      options.grouping.selector = parse_grouping(flags.grouping);
    } else {
      options.grouping.selector = Grouping::Preset;
      options.preset = flags.grouping;
    }
  }
  options.grouping.merges = flags.merges;
  if (flags.max_group) options.grouping.max_group = *flags.max_group;
  options.grouping.extend_backwards = flags.extend_backwards;
  if (flags.penalty >= 0) options.grouping.penalty = flags.penalty;
  options.checkpoints = flags.checkpoints;
  refuse_idle_flags(flags, options);
  return options;
}

void refuse_reconstruct_flags(const CLI::App& verb, const std::string& method) {
  for (const CLI::Option* option : verb.get_options())
    if ((option->get_group() == kLearning || option->get_group() == kGrouping) && option->count() > 0)
      fail(
          "{} is for methods that learn; method {} does not: choose --method adaround, brecq, qdrop or mrecg",
          option->get_name(), method);
}

}  // namespace lithe::cli
