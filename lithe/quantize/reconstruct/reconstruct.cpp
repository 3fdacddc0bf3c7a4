#include "lithe/quantize/reconstruct/reconstruct.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <set>

#include "lithe/base/clock.h"
#include "lithe/base/error.h"
#include "lithe/data/usable_batch.h"
#include "lithe/engine/executor.h"
#include "lithe/graph/shape_inference.h"
#include "lithe/quantize/batches.h"
#include "lithe/quantize/reconstruct/frontier.h"
#include "lithe/quantize/reconstruct/learnable.h"
#include "lithe/quantize/reconstruct/learning_plan.h"
#include "lithe/quantize/reconstruct/reconstruct_checkpoint.h"
#include "lithe/quantize/reconstruct/slice_learner.h"

namespace lithe {
namespace {

constexpr double kDepthwiseRoundingWeight = 0.1, kRoundingWeight = 0.01;  // as published for either kind
constexpr int kPolishPass = 4;  // behind the two passes of the survey and the two of the run

bool has_depthwise(const Graph& graph) {
  return std::any_of(graph.nodes.begin(), graph.nodes.end(), [&](const Node& node) {
    const TensorData* weight = node.is("Conv") ? graph.constant(node.input(1)) : nullptr;
    return weight && weight->rank() > 2 && weight->shape()[1] == 1 && node.attr("group", std::int64_t{1}) > 1;
  });
}

/// Bits of the weights of each layer of the plan.
LayerBits bits_of(const Graph& graph, const QdqPlan& plan) {
  std::map<const Node*, int> bits;
  for (const QuantizedWeight& weight : plan.weights)
    for (const std::size_t layer : weight.layers) bits[&graph.nodes[plan.layers[layer].node]] = weight.bits;
  return [bits](const Node& node) {
    const auto found = bits.find(&node);
    return found == bits.end() ? kFloatBits : found->second;
  };
}

/// Makes the outputs of all units outputs of the one slice that holds them.
void show_units(Slice& whole, const std::vector<Slice>& units) {
  const auto add = [](std::vector<std::string>& to, const std::vector<std::string>& names) {
    for (const std::string& name : names)
      if (std::find(to.begin(), to.end(), name) == to.end()) to.push_back(name);
  };
  for (const Slice& unit : units) {
    add(whole.outputs, unit.outputs);
    add(whole.float_outputs, unit.float_outputs);
  }
}

class Engine {
 public:
  Engine(const Graph& graph, QdqPlan& plan, const DatasetPtr& data, const ReconstructOptions& options,
         Progress& progress)
      : graph_(graph),
        plan_(plan),
        data_(data),
        options_(options),
        progress_(progress),
        plain_(graph, {.device = options.device}),
        arena_({.half = options.half_caches}) {
    const std::int64_t fixed = fixed_batch(graph);
    const std::int64_t at_once = fixed > 0 ? fixed : usable_batch(graph, data, options.batch);
    require_enough_samples(options, data->size(), at_once);
    samples_ = used_samples(options, data->size());
    const InputShapes shapes =
        options.memory > 0 ? input_shapes_of(graph, data, options.threads) : InputShapes();
    learning_ = plan_learning(graph, bits_of(graph, plan), options, at_once, shapes);
    rounding_weight_ =
        options.rounding_weight.value_or(has_depthwise(graph) ? kDepthwiseRoundingWeight : kRoundingWeight);
  }

  Reconstruction run() {
    const auto started = Clock::now();
    result_.samples = samples_;
    result_.rounding_weight = rounding_weight_;
    if (samples_ < data_->size())
      result_.notes.push_back(fmt::format("{} of {} calibration samples are used: whole batches of {}",
                                          samples_, data_->size(), options_.batch));
    result_.units = learning_.units;
    result_.notes.insert(result_.notes.end(), learning_.notes.begin(), learning_.notes.end());
    Learnables(graph_, plan_, options_).require_any(result_.notes);
    require_layout();
    const UnitGroups singles = learning_.singles();
    memory_.open(options_, plan_, *data_, samples_, learning_.batch_for(singles).samples, result_.notes);

    result_.groups = choose(singles);
    result_.slices = run_phases(plan_, result_.groups, 0, 1, "reconstruct");
    if (options_.polish_steps > 0) polish();
    result_.peak_cache = arena_.peak();
    result_.spilled = arena_.spilled();
    if (result_.spilled > 0)
      result_.notes.push_back(fmt::format("{:.1f} MB of cached values went to disk to stay within the memory",
                                          static_cast<double>(result_.spilled) / 1e6));
    result_.seconds = seconds_since(started);
    add_warnings();
    return std::move(result_);
  }

 private:
  /// Values at the edges of units must hold samples as rows.
  void require_layout() {
    std::set<std::string> values;
    for (const Unit& unit : result_.units) values.insert(unit.outputs.begin(), unit.outputs.end());
    if (learning_.whole_batch > 1) require_samples_first(plain_, data_, {values.begin(), values.end()});
  }

  UnitGroups choose(const UnitGroups& singles) {
    const Grouping selector = options_.grouping.selector;
    if (learning_.groups) {
      if (selector != Grouping::None && selector != Grouping::Preset) result_.capacity = learning_.capacity;
      return *learning_.groups;
    }
    QdqPlan scratch = plan_;
    result_.survey = run_phases(scratch, singles, options_.survey_steps, 0, "measure unit losses");
    for (const SliceResult& slice : result_.survey) result_.capacity.push_back(slice.loss_after);
    return group_units(learning_, result_.capacity, options_, result_.notes);
  }

  /// A pass of fewer steps than the schedule has takes higher rates, those given apart: roundings must be
  /// decided all the same.
  PassSettings settings_for(std::int64_t steps, int stream) const {
    PassSettings pass{.rounding_rate = options_.rounding_rate,
                      .steps = steps,
                      .scale_rate = options_.scale_rate,
                      .rounding_weight = rounding_weight_,
                      .stream = static_cast<std::uint64_t>(stream)};
    if (steps >= options_.schedule.steps) return pass;
    ReconstructOptions hurried;
    set_steps(hurried, steps);
    if (!options_.fixed_rounding_rate)
      pass.rounding_rate = std::max(pass.rounding_rate, hurried.rounding_rate);
    if (!options_.fixed_scale_rate) pass.scale_rate = std::max(pass.scale_rate, hurried.scale_rate);
    return pass;
  }

  /// One or two passes over the network; the results are those of the last that learns weights, with the
  /// losses of the last.
  std::vector<SliceResult> run_phases(QdqPlan& plan, const UnitGroups& groups, std::int64_t steps, int phase,
                                      const char* task) {
    if (steps == 0) steps = options_.schedule.steps;
    PassSettings pass = settings_for(steps, 2 * phase);
    pass.keep = options_.keep;
    if (options_.scales != ScaleLearning::Separate || plan.activations.empty()) {
      pass.scales = options_.scales != ScaleLearning::Off;
      return run_pass(plan, groups, pass, 2 * phase, task);
    }
    pass.scales = false;
    pass.float_activations = true;
    std::vector<SliceResult> rounded = run_pass(plan, groups, pass, 2 * phase, task);
    ReconstructOptions hurried;
    set_steps(hurried, steps);
    const PassSettings scales{
        .weights = false,
        .keep = 1,
        .error_exponent = kErrorExponent,
        .steps = options_.scale_steps > 0 ? options_.scale_steps : std::max<std::int64_t>(1, steps / 4),
        .scale_rate = options_.fixed_scale_rate || steps >= options_.schedule.steps
                          ? options_.scale_pass_rate
                          : std::max(options_.scale_pass_rate, hurried.scale_pass_rate),
        .stream = static_cast<std::uint64_t>(2 * phase + 1)};
    const std::vector<SliceResult> scaled = run_pass(plan, groups, scales, 2 * phase + 1, "learn scales");
    for (std::size_t i = 0; i < rounded.size(); ++i) {
      rounded[i].loss_before =
          std::numeric_limits<double>::quiet_NaN();  // of another network: float activations
      rounded[i].loss_after = scaled[i].loss_after;
      rounded[i].scales_taken_back = scaled[i].kept_nearest;
      rounded[i].seconds += scaled[i].seconds;
    }
    return rounded;
  }

  void polish() {
    PassSettings pass = settings_for(options_.polish_steps, kPolishPass);
    pass.scales = options_.scales != ScaleLearning::Off;
    pass.from_codes = true;
    result_.polish = run_pass(plan_, learning_.whole(), pass, kPolishPass, "polish the network").front();
  }

  std::vector<SliceResult> run_pass(QdqPlan& plan, const UnitGroups& groups, const PassSettings& pass,
                                    int number, const char* task) {
    std::vector<SliceResult> results;
    if (memory_.restore(number, plan, results)) return results;
    const StepBatch step = learning_.batch_for(groups);
    if (options_.memory > 0)  // what this pass's steps leave
      arena_.set_budget(std::max<std::int64_t>(1, options_.memory - step.bytes));
    const SimulatedGraph names = simulate(graph_, plan, options_.composed);
    std::vector<Slice> slices = make_slices(graph_, names, result_.units, groups);
    if (number == kPolishPass)
      show_units(slices.front(), make_slices(graph_, names, result_.units, learning_.singles()));
    require_same_slices(results, slices);
    Executor simulated(names.graph, {.device = options_.device});
    if (pass.float_activations)
      for (const std::string& drop : names.drops) simulated.set_constant(drop, at::zeros({2}, at::kLong));
    SliceLearner learner(simulated, names, graph_, options_, pass, step.samples);
    Frontier frontier(graph_, data_, names, slices, plain_, arena_,
                      {.samples = samples_,
                       .run_batch = step.samples,
                       .step_samples = options_.batch,
                       .threads = options_.threads,
                       .device = options_.device});
    frontier.read_inputs(simulated);
    SampleCachePtr logits;
    if (options_.fisher != Fisher::None && pass.weights) logits = frontier.float_logits();

    Learnables learnables(graph_, plan, options_);
    const bool mixes = pass.keep < 1 && !pass.float_activations;
    progress_.start(task, pass.steps * static_cast<std::int64_t>(slices.size()));
    for (std::size_t s = 0; s < slices.size(); ++s) {
      SliceData data = frontier.enter(s, mixes);
      SliceJob job{.index = s, .slice = slices[s], .data = data};
      if (pass.weights) job.weights = learnables.take_weights(slices[s]);
      if (pass.scales) job.scales = learnables.take_scales(slices[s]);
      CacheMap made;
      if (s < results.size()) {  // before an interruption
        progress_.skip(pass.steps);
        learner.evaluate(data, frontier.read_later(s), &made, &arena_);
      } else {
        if (logits) frontier.weigh(s, data, learner, *logits);
        SliceResult result = learn_one(job, plan, learner, frontier.read_later(s), made);
        result.power = frontier.power_of(data);
        results.push_back(std::move(result));
        memory_.save(number, plan, results, false);
      }
      frontier.leave(s, std::move(made));
    }
    progress_.finish();
    if (options_.memory > 0) result_.held = std::max(result_.held, step.bytes + arena_.pass_peak());
    memory_.save(number, plan, results, true);
    return results;
  }

  /// Learns a slice, and takes back what did harm. `made` receives what later slices read.
  SliceResult learn_one(const SliceJob& job, QdqPlan& plan, SliceLearner& learner,
                        const std::vector<std::string>& read_later, CacheMap& made) {
    const SliceLoss before = learner.evaluate(job.data, {}, nullptr, nullptr);
    const PlanSnapshot snapshot(plan, job.weights, job.scales);
    SliceResult result = learner.learn(job, plan, progress_);
    SliceLoss after{.error = std::numeric_limits<double>::quiet_NaN()};
    if (result.diverged == 0) {
      after = learner.evaluate(job.data, read_later, &made, &arena_);
      if (!job.empty() && !std::isfinite(after.objective)) result.diverged = result.steps;
    }
    if (result.diverged > 0 && !(options_.keep_better && std::isfinite(before.objective)))
      fail_diverged(result, std::isfinite(before.objective));
    result.loss_before = before.error;
    if (result.diverged > 0 || (options_.keep_better && !job.empty() && after.objective > before.objective)) {
      result.kept_nearest = true;
      result.loss_learnt = after.error;
      snapshot.restore(plan);
      learner.apply(job, plan);
      made.clear();
      after = learner.evaluate(job.data, read_later, &made, &arena_);
    }
    result.loss_after = after.error;
    return result;
  }

  [[noreturn]] void fail_diverged(const SliceResult& slice, bool was_finite) const {
    fail("slice '{}': the loss is not finite at step {}; {}{}", slice.name, slice.diverged,
         was_finite
             ? "leave out --faithful, so that this slice keeps what it had, or lower the learning rates"
             : "it was not before learning either: look at the data and the weights",
         options_.checkpoints.empty() ? "" : "; finished slices are kept in the checkpoint");
  }

  void require_same_slices(const std::vector<SliceResult>& results, const std::vector<Slice>& slices) const {
    for (std::size_t s = 0; s < results.size(); ++s)
      if (s >= slices.size() || results[s].units != slices[s].units)
        fail("the checkpoint in '{}' is of other groups of units; leave out --resume to start anew",
             options_.checkpoints.string());
  }

  void add_warnings() {
    constexpr double kMuch = 1e-3;
    std::int64_t weights = 0, undecided = 0;
    const bool polished = result_.polish && !result_.polish->kept_nearest;
    const auto count = [&](const SliceResult& slice) {
      if (slice.kept_nearest) return;  // its soft roundings were thrown away
      weights += slice.weights;
      undecided += slice.undecided;
    };
    for (const SliceResult& slice : result_.slices) {
      if (!polished) count(slice);
      note_taken_back(slice);
    }
    if (result_.polish) {
      if (polished) count(*result_.polish);
      note_polish(*result_.polish);
    }
    if (static_cast<double>(undecided) > kMuch * static_cast<double>(weights))
      result_.notes.push_back(fmt::format(
          "{:.2f} % of the roundings were not decided when learning ended; more --steps, a higher "
          "--rounding-rate or a larger --rounding-weight decide them",
          100.0 * static_cast<double>(undecided) / static_cast<double>(weights)));
  }

  void note_taken_back(const SliceResult& slice) {
    if (slice.scales_taken_back)
      result_.notes.push_back(fmt::format(
          "'{}' keeps its calibrated scales: learning them apart raised its loss on the calibration data; a "
          "lower --scale-rate or more samples may help, --faithful keeps what was learnt",
          slice.name));
    if (!slice.kept_nearest) return;
    const char* kept = slice.weights > 0 ? "nearest codes" : "calibrated scales";
    if (slice.diverged > 0) {
      result_.notes.push_back(
          fmt::format("'{}' keeps its {}: its loss was not finite at step {}; lower the learning rates, or "
                      "look at the data",
                      slice.name, kept, slice.diverged));
      return;
    }
    const std::string change =
        std::isnan(slice.loss_before)
            ? ""
            : fmt::format(" from {:.4g} to {:.4g}", slice.loss_before, slice.loss_learnt);
    result_.notes.push_back(
        fmt::format("'{}' keeps its {}: learning raised its loss on the calibration data{}; more samples or "
                    "steps may help, --faithful keeps what was learnt",
                    slice.name, kept, change));
  }

  void note_polish(const SliceResult& whole) {
    if (whole.diverged > 0)
      result_.notes.push_back(
          fmt::format("the polish was taken back: its loss was not finite at step {}; leave it out, or lower "
                      "the learning rates",
                      whole.diverged));
    else if (whole.kept_nearest)
      result_.notes.push_back(fmt::format(
          "the polish was taken back: it made the whole worse on the calibration data ({:.4g} to {:.4g}); "
          "leave it out, or give it more steps",
          whole.loss_before, whole.loss_learnt));
    else if (whole.loss_after > whole.loss_before)
      result_.notes.push_back(
          fmt::format("the polish made the whole worse on the calibration data ({:.4g} to {:.4g}); "
                      "leave it out, or give it more steps",
                      whole.loss_before, whole.loss_after));
  }

  const Graph& graph_;
  QdqPlan& plan_;
  DatasetPtr data_;
  const ReconstructOptions& options_;
  Progress& progress_;
  Executor plain_;
  CacheArena arena_;
  ReconstructMemory memory_;
  LearningPlan learning_;
  Reconstruction result_;
  std::int64_t samples_ = 0;
  double rounding_weight_ = kRoundingWeight;
};

}  // namespace

std::vector<Unit> reconstruction_units(const Graph& graph, Granularity granularity) {
  Graph shaped = graph;  // numbers of channels tell where stages begin
  infer_shapes(shaped);
  std::vector<Unit> units = find_units(shaped);
  return granularity == Granularity::Layer ? split_units(shaped, units) : units;
}

std::int64_t used_samples(const ReconstructOptions& options, std::int64_t samples) {
  return samples / options.batch * options.batch;
}

void require_enough_samples(const ReconstructOptions& options, std::int64_t samples, std::int64_t at_once) {
  if (!(options.keep > 0 && options.keep <= 1))
    fail("--keep {}: give more than 0, and at most 1 (all activations quantised in every step)",
         options.keep);
  if (options.batch < 1 || options.schedule.steps < 1)
    fail("reconstruction needs at least one step and one sample a step");
  if (options.batch % at_once != 0)
    fail("a step draws {} samples, but the model takes {} at a time; choose a multiple with --learn-batch",
         options.batch, at_once);
  if (samples < options.batch)
    fail("only {} calibration samples, but a step draws {}; give more, or fewer with --learn-batch", samples,
         options.batch);
}

Reconstruction reconstruct(const Graph& graph, QdqPlan& plan, const DatasetPtr& calibration,
                           const ReconstructOptions& options, Progress& progress) {
  if (plan.weights.empty() && plan.activations.empty())
    fail("nothing is quantised, so nothing can be learnt");
  const at::NoGradGuard no_grad;
  return Engine(graph, plan, calibration, options, progress).run();
}

}  // namespace lithe
