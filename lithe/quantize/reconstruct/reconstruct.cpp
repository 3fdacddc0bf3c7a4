#include "lithe/quantize/reconstruct/reconstruct.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>

#include "lithe/base/error.h"
#include "lithe/engine/executor.h"
#include "lithe/graph/shape_inference.h"
#include "lithe/ops/registry.h"
#include "lithe/quantize/batches.h"
#include "lithe/quantize/reconstruct/fisher.h"
#include "lithe/quantize/reconstruct/reconstruct_checkpoint.h"
#include "lithe/quantize/reconstruct/reconstruction_loss.h"
#include "lithe/quantize/reconstruct/sample_cache.h"
#include "lithe/quantize/reconstruct/simulated_graph.h"
#include "lithe/quantize/reconstruct/slice_learner.h"

namespace lithe {
namespace {

constexpr double kDepthwiseRoundingWeight = 0.1, kRoundingWeight = 0.01;  // as published for either kind
constexpr std::int64_t kBits8 = 8;
constexpr double kLeastPower = 1e-3;  // of an output against the mean: weaker ones do not count more
constexpr int kPolishPass = 4;        // behind the two passes of the survey and the two of the run

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

bool has_depthwise(const Graph& graph) {
  return std::any_of(graph.nodes.begin(), graph.nodes.end(), [&](const Node& node) {
    const TensorData* weight = node.is("Conv") ? graph.constant(node.input(1)) : nullptr;
    return weight && weight->rank() > 2 && weight->shape()[1] == 1 && node.attr("group", std::int64_t{1}) > 1;
  });
}

/// The values of both networks between two slices, each kept until its last reader.
struct Frontier {
  CacheMap quantized;  // by value of the simulated graph
  CacheMap plain;      // by value of the float graph
};

std::vector<std::vector<int>> one_by_one(std::size_t units) {
  std::vector<std::vector<int>> groups;
  for (std::size_t i = 0; i < units; ++i) groups.push_back({static_cast<int>(i)});
  return groups;
}

class Engine {
 public:
  Engine(const Graph& graph, const DatasetPtr& data, const ReconstructOptions& options, Progress& progress)
      : graph_(graph),
        data_(data),
        options_(options),
        progress_(progress),
        arena_({.budget = options.memory, .half = options.half_caches}),
        plain_(graph, {.device = options.device}) {
    const std::int64_t fixed = fixed_batch(graph);
    run_batch_ = fixed > 0 ? fixed : usable_batch(graph, data, options.batch);
    if (options.batch % run_batch_ != 0)
      fail("a step draws {} samples, but the model takes {} at a time; choose a multiple with --learn-batch",
           options.batch, run_batch_);
    if (data->size() < options.batch)
      fail("only {} calibration samples, but a step draws {}; give more, or fewer with --learn-batch",
           data->size(), options.batch);
    samples_ = data->size() / options.batch * options.batch;
  }

  Reconstruction run(QdqPlan& plan) {
    const auto started = Clock::now();
    Reconstruction result;
    result.samples = samples_;
    if (samples_ < data_->size())
      result.notes.push_back(fmt::format("{} of {} calibration samples are used: whole batches of {}",
                                         samples_, data_->size(), options_.batch));
    result.units = reconstruction_units(graph_, options_.granularity);
    if (result.units.empty()) fail("the model has no layer to reconstruct");
    rounding_weight_ =
        options_.rounding_weight.value_or(has_depthwise(graph_) ? kDepthwiseRoundingWeight : kRoundingWeight);
    result.rounding_weight = rounding_weight_;
    require_something_to_learn(plan, result.notes);
    memory_.open(options_, plan, *data_, samples_, result.notes);

    std::function<std::int64_t(int, int)> step_bytes;
    if (options_.memory > 0) {
      step_bytes = step_memory(result.units);
      if (std::string note = step_memory_note(result.units, step_bytes, options_.memory); !note.empty())
        result.notes.push_back(std::move(note));
    }
    const auto singles = one_by_one(result.units.size());
    result.groups = singles;
    const bool grouped = options_.grouping.selector != Grouping::None;
    if (grouped) {
      const bool measured =
          options_.capacity == CapacityMetric::Loss &&
          (options_.grouping.selector == Grouping::TopK || options_.grouping.selector == Grouping::Drop);
      if (measured) {
        QdqPlan scratch = plan;
        result.survey =
            run_phases(result.units, singles, scratch, options_.survey_steps, 0, "measure unit losses");
        for (const SliceResult& slice : result.survey) result.capacity.push_back(slice.loss_after);
      } else if (options_.grouping.selector != Grouping::Preset) {
        result.capacity = data_free_capacity(graph_, result.units, plan, options_.stride_factor);
      }
      GroupingOptions grouping = options_.grouping;
      if (grouping.selector == Grouping::Preset)
        grouping.preset = parse_groups(options_.preset, static_cast<int>(result.units.size()));
      grouping.max_bytes = options_.memory;
      grouping.bytes = step_bytes;
      result.groups = choose_groups(result.units, result.capacity, grouping, &result.notes);
    }
    result.slices = run_phases(result.units, result.groups, plan, 0, 1, "reconstruct");
    if (options_.polish_steps > 0) {
      std::vector<int> whole(result.units.size());
      std::iota(whole.begin(), whole.end(), 0);
      const PassSettings pass{.scales = options_.scales != ScaleLearning::Off,
                              .from_codes = true,
                              .steps = options_.polish_steps,
                              .scale_rate = options_.scale_rate,
                              .rounding_weight = rounding_weight_,
                              .stream = kPolishPass};
      result.polish = run_pass(result.units, {whole}, plan, pass, kPolishPass, "polish the network").front();
    }
    result.peak_cache = arena_.peak();
    result.spilled = arena_.spilled();
    if (result.spilled > 0)
      result.notes.push_back(fmt::format("{:.1f} MB of cached values went to disk to stay within the memory",
                                         static_cast<double>(result.spilled) / 1e6));
    result.seconds = seconds_since(started);
    add_warnings(result);
    return result;
  }

 private:
  /// For the samples that run at a time.
  std::function<std::int64_t(int, int)> step_memory(const std::vector<Unit>& units) {
    std::map<std::string, std::vector<std::int64_t>, std::less<>> shapes;
    for_each_batch(graph_, data_, {.batch = run_batch_, .threads = options_.threads, .limit = run_batch_},
                   [&](const Feeds& feeds, std::int64_t) {
                     for (const auto& [name, value] : feeds) shapes.emplace(name, value.sizes().vec());
                   });
    Graph shaped = graph_;
    infer_shapes(shaped, concrete_input_shapes(shaped, shapes));
    return lithe::step_memory(shaped, units);
  }

  /// One or two passes over the network; the results are those of the last that learns weights, with the
  /// losses of the last.
  std::vector<SliceResult> run_phases(const std::vector<Unit>& units,
                                      const std::vector<std::vector<int>>& groups, QdqPlan& plan,
                                      std::int64_t steps, int phase, const char* task) {
    if (steps == 0) steps = options_.schedule.steps;
    PassSettings pass{.keep = options_.keep,
                      .steps = steps,
                      .scale_rate = options_.scale_rate,
                      .rounding_weight = rounding_weight_,
                      .stream = static_cast<std::uint64_t>(2 * phase)};
    if (steps < options_.schedule.steps) {  // roundings must be decided all the same
      ReconstructOptions hurried;
      set_steps(hurried, steps);
      pass.rounding_rate = std::max(options_.rounding_rate, hurried.rounding_rate);
      pass.scale_rate = std::max(options_.scale_rate, hurried.scale_rate);
    }
    if (options_.scales != ScaleLearning::Separate || plan.activations.empty()) {
      pass.scales = options_.scales != ScaleLearning::Off;
      return run_pass(units, groups, plan, pass, 2 * phase, task);
    }
    pass.scales = false;
    pass.float_activations = true;
    std::vector<SliceResult> rounded = run_pass(units, groups, plan, pass, 2 * phase, task);
    const PassSettings scales{
        .weights = false,
        .keep = 1,
        .error_exponent = kErrorExponent,
        .steps = options_.scale_steps > 0 ? options_.scale_steps : std::max<std::int64_t>(1, steps / 4),
        .scale_rate = options_.scale_pass_rate,
        .stream = static_cast<std::uint64_t>(2 * phase + 1)};
    const std::vector<SliceResult> scaled =
        run_pass(units, groups, plan, scales, 2 * phase + 1, "learn scales");
    for (std::size_t i = 0; i < rounded.size(); ++i) {
      rounded[i].loss_before =
          std::numeric_limits<double>::quiet_NaN();  // of another network: float activations
      rounded[i].loss_after = scaled[i].loss_after;
      rounded[i].seconds += scaled[i].seconds;
    }
    return rounded;
  }

  std::vector<SliceResult> run_pass(const std::vector<Unit>& units,
                                    const std::vector<std::vector<int>>& groups, QdqPlan& plan,
                                    const PassSettings& pass, int number, const char* task) {
    std::vector<SliceResult> results;
    if (memory_.restore(number, plan, results)) return results;
    const SimulatedGraph names = simulate(graph_, plan, options_.composed);
    std::vector<Slice> slices = make_slices(graph_, names, units, groups);
    if (number == kPolishPass)
      show_units(slices.front(), make_slices(graph_, names, units, one_by_one(units.size())));
    Executor simulated(names.graph, {.device = options_.device});
    if (pass.float_activations)
      for (const std::string& drop : names.drops) simulated.set_constant(drop, at::zeros({2}, at::kLong));
    SliceLearner learner(simulated, names, graph_, options_, pass, run_batch_);
    Frontier frontier;
    feed_inputs(names, simulated, frontier);
    SampleCachePtr logits;
    if (options_.fisher != Fisher::None && pass.weights) logits = float_logits(frontier);

    std::set<std::size_t> seen_weights, seen_scales = scales_of_inputs(plan);
    for (std::size_t s = 0; s < results.size(); ++s)
      if (s >= slices.size() || results[s].units != slices[s].units)
        fail("the checkpoint in '{}' is of other groups of units; leave out --resume to start anew",
             options_.checkpoints.string());
    progress_.start(task, pass.steps * static_cast<std::int64_t>(slices.size()));
    for (std::size_t s = 0; s < slices.size(); ++s) {
      const Slice& slice = slices[s];
      const auto weights = learnable_weights(slice, plan, pass, seen_weights);
      const auto scales = learnable_scales(slice, plan, pass, seen_scales);
      SliceData data = gather(slice, names, frontier, pass);
      if (data.float_inputs.empty()) retire(frontier.plain, slices, s, &Slice::float_inputs);
      const bool learnt = s < results.size();  // before an interruption
      SliceResult result;
      if (learnt) {
        progress_.advance(pass.steps, slice.name);
      } else {
        const double before = learner.evaluate(data, {}, nullptr, nullptr);
        if (logits) weigh(slice, names, data, frontier, learner, *logits);
        result = learner.learn(s, slice, data, plan, weights, scales, progress_);
        result.loss_before = before;
        result.power = power_of(data);
      }
      CacheMap made;
      const double after = learner.evaluate(data, read_later(slices, s), &made, &arena_);
      if (!learnt) {
        result.loss_after = after;
        results.push_back(result);
        memory_.save(number, plan, results, false);
      }
      for (auto& [name, cache] : made) frontier.quantized[name] = std::move(cache);
      retire(frontier.plain, slices, s, &Slice::float_inputs);
      retire(frontier.quantized, slices, s, &Slice::inputs);
    }
    progress_.finish();
    memory_.save(number, plan, results, true);
    return results;
  }

  /// Values that the slices behind `done` read.
  static std::set<std::string> needed_after(const std::vector<Slice>& slices, std::size_t done,
                                            std::vector<std::string> Slice::*reads) {
    std::set<std::string> needed;
    for (std::size_t s = done + 1; s < slices.size(); ++s)
      needed.insert((slices[s].*reads).begin(), (slices[s].*reads).end());
    return needed;
  }

  /// Outputs of a slice that others need.
  static std::vector<std::string> read_later(const std::vector<Slice>& slices, std::size_t done) {
    const std::set<std::string> needed = needed_after(slices, done, &Slice::inputs);
    std::vector<std::string> outputs;
    for (const std::string& name : slices[done].outputs)
      if (needed.contains(name)) outputs.push_back(name);
    return outputs;
  }

  /// Makes the outputs of all units outputs of the one slice that holds them.
  static void show_units(Slice& whole, const std::vector<Slice>& units) {
    const auto add = [](std::vector<std::string>& to, const std::vector<std::string>& names) {
      for (const std::string& name : names)
        if (std::find(to.begin(), to.end(), name) == to.end()) to.push_back(name);
    };
    for (const Slice& unit : units) {
      add(whole.outputs, unit.outputs);
      add(whole.float_outputs, unit.float_outputs);
    }
  }

  /// Fills the frontier with the graph's inputs, quantised where the plan says so.
  void feed_inputs(const SimulatedGraph& names, Executor& simulated, Frontier& frontier) {
    std::vector<std::string> quantized;
    for (const auto& [name, original] : names.float_of)
      for (const ValueInfo* input : graph_.required_inputs())
        if (input->name == original) quantized.push_back(name);
    for_each_batch(graph_, data_, {.batch = run_batch_, .threads = options_.threads, .limit = samples_},
                   [&](const Feeds& feeds, std::int64_t count) {
                     Feeds moved;
                     for (const auto& [name, value] : feeds) {
                       append(frontier.plain, name, value, count, true);
                       moved.emplace(name, value.to(options_.device));
                     }
                     if (quantized.empty()) return;
                     for (const auto& [name, value] : simulated.run(moved, quantized))
                       append(frontier.quantized, name, value, count);
                   });
    for (const auto& [name, cache] : frontier.plain) frontier.quantized.emplace(name, cache);
  }

  void append(CacheMap& caches, const std::string& name, const at::Tensor& value, std::int64_t count,
              bool input = false) {
    SampleCachePtr& cache = caches[name];
    if (!cache) cache = std::make_shared<SampleCache>(arena_, name, samples_, input);
    cache->append(value.to(at::kCPU), count);
  }

  /// The first output of the float network for all samples.
  SampleCachePtr float_logits(const Frontier& frontier) {
    const std::string& last = graph_.outputs.at(0).name;
    CacheMap made;
    for (std::int64_t first = 0; first < samples_; first += run_batch_) {
      Feeds feeds;
      for (const auto& [name, cache] : frontier.plain)
        feeds.emplace(name, cache->range(first, run_batch_).to(options_.device));
      append(made, last, plain_.run(feeds, {last}).at(last), run_batch_);
    }
    return made.at(last);
  }

  /// Runs the float network through the slice and says what the slice is to learn.
  SliceData gather(const Slice& slice, const SimulatedGraph& names, Frontier& frontier,
                   const PassSettings& pass) {
    for (std::int64_t first = 0; first < samples_; first += run_batch_) {
      Feeds feeds;
      for (const std::string& name : slice.float_inputs)
        feeds.emplace(name, frontier.plain.at(name)->range(first, run_batch_).to(options_.device));
      for (const auto& [name, value] : plain_.run(feeds, slice.float_outputs))
        append(frontier.plain, name, value, run_batch_);
    }
    SliceData data{.samples = samples_};
    const bool mixes = pass.keep < 1 && !pass.float_activations;
    for (const std::string& name : slice.inputs) {
      data.inputs[name] = frontier.quantized.at(name);
      const SampleCachePtr& full = frontier.plain.at(names.original(name));
      if (mixes && full != data.inputs[name]) data.float_inputs[name] = full;
    }
    const std::set<std::string> outputs(slice.outputs.begin(), slice.outputs.end());
    for (const std::string& name : slice.outputs) {
      const SampleCachePtr& wanted = frontier.plain.at(names.original(name));
      const bool also_quantized = std::any_of(outputs.begin(), outputs.end(), [&](const std::string& other) {
        return other != name && names.original(other) == name;
      });
      if (!also_quantized && !wanted->shared()) data.targets.push_back({.value = name, .wanted = wanted});
    }
    // Outputs of different size count by how well each is met, in the measure of the single ones.
    if (data.targets.size() > 1) {
      std::vector<double> powers;
      for (const SliceTarget& target : data.targets) powers.push_back(power_of(target));
      const double mean =
          std::accumulate(powers.begin(), powers.end(), 0.0) / static_cast<double>(powers.size());
      for (std::size_t i = 0; i < powers.size() && mean > 0; ++i)
        data.targets[i].weight =
            mean / std::max(powers[i], kLeastPower * mean) / static_cast<double>(powers.size());
    }
    return data;
  }

  double power_of(const SliceTarget& target) const {
    double sum = 0;
    for (std::int64_t first = 0; first < samples_; first += run_batch_) {
      const at::Tensor wanted = target.wanted->range(first, run_batch_);
      sum += wanted.square().sum(at::kDouble).item<double>() / positions(wanted) *
             static_cast<double>(run_batch_);
    }
    return sum / static_cast<double>(samples_);
  }
  double power_of(const SliceData& data) const {
    double sum = 0;
    for (const SliceTarget& target : data.targets) sum += target.weight * power_of(target);
    return sum;
  }

  /// Sets the importance of each target's elements.
  void weigh(const Slice& slice, const SimulatedGraph& names, SliceData& data, const Frontier& frontier,
             const SliceLearner& learner, const SampleCache& logits) {
    CacheMap made, values;
    learner.evaluate(data, slice.outputs, &made, &arena_);
    const auto take = [&](const CacheMap& caches) {
      for (const auto& [name, cache] : caches)  // the quantised form of a value replaces the plain one
        if (names.float_of.contains(name) || !values.contains(name)) values[names.original(name)] = cache;
    };
    take(frontier.quantized);
    take(made);
    std::vector<std::string> outputs;
    for (const SliceTarget& target : data.targets) outputs.push_back(names.original(target.value));
    const auto importance = fisher_importance(plain_, values, logits, outputs, samples_, run_batch_, arena_);
    for (SliceTarget& target : data.targets) target.importance = importance.at(names.original(target.value));
  }

  /// Forgets what no later slice reads.
  static void retire(CacheMap& caches, const std::vector<Slice>& slices, std::size_t done,
                     std::vector<std::string> Slice::*reads) {
    const std::set<std::string> needed = needed_after(slices, done, reads);
    std::erase_if(caches, [&](const auto& item) { return !needed.contains(item.first); });
  }

  /// Weights of the slice whose rounding is to be learnt; each is learnt where it is first read.
  std::vector<std::size_t> learnable_weights(const Slice& slice, const QdqPlan& plan,
                                             const PassSettings& pass, std::set<std::size_t>& seen) const {
    const std::set<int> layers(slice.layers.begin(), slice.layers.end());
    std::vector<std::size_t> weights;
    for (std::size_t w = 0; w < plan.weights.size(); ++w) {
      const QuantizedWeight& weight = plan.weights[w];
      const bool here = std::any_of(weight.layers.begin(), weight.layers.end(), [&](std::size_t layer) {
        return layers.contains(static_cast<int>(plan.layers[layer].node));
      });
      if (!here || !seen.insert(w).second) continue;
      if (pass.weights && learns_rounding(weight)) weights.push_back(w);
    }
    return weights;
  }

  /// Quantisers that share their scale with one of a graph input, whose values are cached before any slice:
  /// that scale stays.
  std::set<std::size_t> scales_of_inputs(const QdqPlan& plan) const {
    std::set<std::size_t> fixed;
    for (std::size_t a = 0; a < plan.activations.size(); ++a)
      for (const ValueInfo* input : graph_.required_inputs()) {
        if (plan.activations[a].value != input->name) continue;
        fixed.insert(a);
        for (std::size_t b = 0; b < plan.activations.size(); ++b)
          if (plan.activations[a].group && plan.activations[b].group == plan.activations[a].group)
            fixed.insert(b);
      }
    return fixed;
  }

  bool learns_rounding(const QuantizedWeight& weight) const {
    return options_.round_eight_bits || (weight.bits < kBits8 && !weight.reduced);
  }

  void require_something_to_learn(const QdqPlan& plan, std::vector<std::string>& notes) const {
    const auto roundings =
        std::count_if(plan.weights.begin(), plan.weights.end(),
                      [&](const QuantizedWeight& weight) { return learns_rounding(weight); });
    const bool scales =
        options_.scales != ScaleLearning::Off && scales_of_inputs(plan).size() < plan.activations.size();
    if (roundings == 0 && !scales)
      fail(
          "nothing is left to learn: 8-bit weights (7 with --reduce-range) keep their nearest codes unless "
          "--round-8bit is given, and no activation scale is learnt; use --method mse, or fewer bits");
    if (roundings == 0)
      notes.push_back(
          "only activation scales were learnt: 8-bit weights (7 with --reduce-range) keep their "
          "nearest codes; --round-8bit learns them too");
  }

  /// Activations of the slice whose scale is to be learnt, those with one scale together.
  static std::vector<std::vector<std::size_t>> learnable_scales(const Slice& slice, const QdqPlan& plan,
                                                                const PassSettings& pass,
                                                                std::set<std::size_t>& seen) {
    std::vector<std::vector<std::size_t>> scales;
    if (!pass.scales) return scales;
    for (const std::size_t a : slice.activations) {
      if (seen.contains(a)) continue;
      scales.push_back({a});
      for (std::size_t b = 0; b < plan.activations.size(); ++b)
        if (b != a && plan.activations[a].group && plan.activations[b].group == plan.activations[a].group)
          scales.back().push_back(b);
      seen.insert(scales.back().begin(), scales.back().end());
    }
    return scales;
  }

  void add_warnings(Reconstruction& result) const {
    constexpr double kMuch = 1e-3;
    std::int64_t weights = 0, undecided = 0;
    const auto count = [&](const SliceResult& slice) {
      weights += slice.weights;
      undecided += slice.undecided;
    };
    if (result.polish)
      count(*result.polish);
    else
      for (const SliceResult& slice : result.slices) count(slice);
    if (result.polish && result.polish->loss_after > result.polish->loss_before)
      result.notes.push_back(
          fmt::format("the polish made the whole worse on the calibration data ({:.4g} to {:.4g}); "
                      "leave it out, or give it more steps",
                      result.polish->loss_before, result.polish->loss_after));
    if (static_cast<double>(undecided) > kMuch * static_cast<double>(weights))
      result.notes.push_back(fmt::format(
          "{:.2f} % of the roundings were not decided when learning ended; more --steps, a higher "
          "--rounding-rate or a larger --rounding-weight decide them",
          100.0 * static_cast<double>(undecided) / static_cast<double>(weights)));
  }

  const Graph& graph_;
  DatasetPtr data_;
  const ReconstructOptions& options_;
  Progress& progress_;
  CacheArena arena_;
  Executor plain_;
  ReconstructMemory memory_;
  std::int64_t run_batch_ = 1, samples_ = 0;
  double rounding_weight_ = kRoundingWeight;
};

}  // namespace
std::vector<Unit> reconstruction_units(const Graph& graph, Granularity granularity) {
  Graph shaped = graph;  // numbers of channels tell where stages begin
  infer_shapes(shaped);
  std::vector<Unit> units = find_units(shaped);
  return granularity == Granularity::Layer ? split_units(shaped, units) : units;
}

std::vector<double> data_free_capacity(const Graph& graph, const std::vector<Unit>& units,
                                       const QdqPlan& plan, double stride_factor) {
  std::map<const Node*, int> bits;
  for (const QuantizedWeight& weight : plan.weights)
    for (const std::size_t layer : weight.layers) bits[&graph.nodes[plan.layers[layer].node]] = weight.bits;
  std::vector<double> capacity;
  for (const Unit& unit : units)
    capacity.push_back(unit_capacity(
        graph, unit,
        [&](const Node& node) {
          const auto found = bits.find(&node);
          return found == bits.end() ? kFloatBits : found->second;
        },
        stride_factor));
  return capacity;
}

std::function<std::int64_t(int, int)> step_memory(const Graph& shaped, const std::vector<Unit>& units) {
  std::vector<std::int64_t> bytes;
  for (const Unit& unit : units) {
    std::int64_t sum = 0;
    for (const int node : unit.nodes)
      for (const std::string& name : shaped.nodes[static_cast<std::size_t>(node)].outputs) {
        const ValueInfo* info = name.empty() ? nullptr : shaped.info(name);
        if (!info || !info->shape) continue;
        std::int64_t elements = 1;
        for (const Dim& dim : *info->shape) elements *= dim.known() ? dim.value : 1;
        sum += 2 * elements * static_cast<std::int64_t>(sizeof(float));
      }
    bytes.push_back(sum);
  }
  return [bytes](int first, int last) {
    return std::accumulate(bytes.begin() + first, bytes.begin() + last + 1, std::int64_t{0});
  };
}

std::string step_memory_note(const std::vector<Unit>& units,
                             const std::function<std::int64_t(int first, int last)>& bytes,
                             std::int64_t memory) {
  int largest = 0;
  for (int i = 1; i < static_cast<int>(units.size()); ++i)
    if (bytes(i, i) > bytes(largest, largest)) largest = i;
  const std::int64_t most = units.empty() ? 0 : bytes(largest, largest);
  if (most <= memory) return "";
  return fmt::format(
      "a step of unit '{}' alone holds {:.1f} MB, more than the {:.1f} MB of --memory, which then bounds "
      "what is "
      "cached only; a smaller --learn-batch needs less",
      units[static_cast<std::size_t>(largest)].name, static_cast<double>(most) / 1e6,
      static_cast<double>(memory) / 1e6);
}

Reconstruction reconstruct(const Graph& graph, QdqPlan& plan, const DatasetPtr& calibration,
                           const ReconstructOptions& options, Progress& progress) {
  if (plan.weights.empty() && plan.activations.empty())
    fail("nothing is quantised, so nothing can be learnt");
  if (!(options.keep > 0 && options.keep <= 1))
    fail("--keep {}: give more than 0, and at most 1 (all activations quantised in every step)",
         options.keep);
  if (options.batch < 1 || options.schedule.steps < 1)
    fail("reconstruction needs at least one step and one sample a step");
  const at::NoGradGuard no_grad;
  return Engine(graph, calibration, options, progress).run(plan);
}

}  // namespace lithe
