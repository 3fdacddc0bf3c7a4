#include "lithe/quantize/quantize.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <set>

#include "lithe/base/error.h"
#include "lithe/graph/finite.h"
#include "lithe/graph/onnx.h"
#include "lithe/ops/registry.h"
#include "lithe/quantize/batches.h"
#include "lithe/quantize/bias_correction.h"
#include "lithe/quantize/calibration.h"
#include "lithe/quantize/dfsq/quantize_dfsq.h"
#include "lithe/quantize/equalization.h"
#include "lithe/quantize/export_qdq.h"
#include "lithe/quantize/fidelity.h"
#include "lithe/quantize/fold_batch_norm.h"
#include "lithe/quantize/groundwork.h"
#include "lithe/quantize/prepare.h"
#include "lithe/quantize/reparameterise.h"
#include "lithe/quantize/upgrade_opset.h"

namespace lithe {
namespace {

/// Ranges that end less than half a step above the upper bound of the Clip that makes the value (learnt
/// scales do) end at it instead: the codes stay, the Clip has nothing left to do, and ONNX Runtime, which
/// stumbles over a Clip that is idle only by rounding, drops it.
void end_at_clips(const Graph& graph, QdqPlan& plan) {
  const GraphIndex index(graph);
  std::map<std::size_t, int> sharers;
  for (const QuantizedActivation& activation : plan.activations)
    if (activation.group) ++sharers[*activation.group];
  for (QuantizedActivation& activation : plan.activations) {
    const int maker = index.producer(activation.value);
    if (maker < 0 || (activation.group && sharers[*activation.group] > 1) || activation.subset) continue;
    const Node& clip = graph.nodes[static_cast<std::size_t>(maker)];
    const TensorData* bound = clip.is("Clip") ? graph.constant(clip.input(2)) : nullptr;
    if (!bound || bound->count() != 1) continue;
    Quantizer& quantizer = activation.quantizer;
    const double top = bound->to_doubles()[0], scale = quantizer.scale.item<float>(),
                 steps = static_cast<double>(quantizer.codes.high) - quantizer.zero_point.item<float>();
    if (steps > 0 && scale * steps > top && std::nearbyint(top / scale) == steps)
      quantizer.scale = at::full_like(quantizer.scale, top / steps);
  }
}

void check(const QuantizeOptions& options) {
  if (options.opset < 13) fail("--opset {}: per-channel quantisation needs opset 13 or newer", options.opset);
  if (!(options.percentile > 50 && options.percentile <= 100))
    fail("--percentile {}: give more than 50 and at most 100", options.percentile);
  if (!(options.momentum >= 0 && options.momentum < 1))
    fail("--momentum {}: give 0 (off) or a number below 1", options.momentum);
  if (options.momentum > 0 && options.method != QuantizeMethod::MinMax)
    fail("--momentum averages min-max ranges; choose --method minmax or leave it out");
  if (options.budget && options.weight_bits == kFloatBits)
    fail("a budget chooses the bits of weights, which cannot be off then");
  if (options.budget && options.budget_bits.empty()) fail("there are no numbers of bits to choose from");
}

/// Chooses one quantiser for each group of points.
std::vector<QuantizedActivation> choose_activations(
    const std::vector<ActivationPoint>& points, const std::map<std::string, ActivationStatistics>& statistics,
    const RangeOptions& range, Scheme scheme) {
  std::map<std::size_t, ActivationStatistics> groups;
  for (const ActivationPoint& point : points) {
    const auto [place, fresh] = groups.emplace(point.group, statistics.at(point.value));
    if (!fresh) place->second.merge(statistics.at(point.value));
  }
  std::map<std::size_t, Quantizer> quantizers;
  std::vector<QuantizedActivation> activations;
  for (const ActivationPoint& point : points) {
    const auto found = quantizers.find(point.group);
    const bool fresh = found == quantizers.end();
    if (fresh) {
      const ActivationStatistics& seen = groups.at(point.group);
      const CodeRange codes = scheme == Scheme::Symmetric ? symmetric_codes(point.bits, seen.low() >= 0)
                                                          : asymmetric_codes(point.bits);
      quantizers.emplace(point.group,
                         quantizer_for_range(choose_range(seen, range, scheme, codes), scheme, codes));
    }
    activations.push_back({.value = point.value,
                           .bits = point.bits,
                           .quantizer = quantizers.at(point.group),
                           .is_signed = scheme == Scheme::Symmetric,
                           .group = point.group});
  }
  return activations;
}

double code_value(const Quantizer& quantizer, std::int64_t code) {
  return (static_cast<double>(code) - quantizer.zero_point.item<float>()) * quantizer.scale.item<float>();
}

/// Share of what was seen that lies beyond the first and last code.
double saturated_share(const ActivationStatistics& seen, const Quantizer& quantizer) {
  const double half = 0.5 * quantizer.scale.item<float>();
  const double low = code_value(quantizer, quantizer.codes.low) - half;
  const double high = code_value(quantizer, quantizer.codes.high) + half;
  double share = 0;
  if (seen.lowest() < low) share += seen.histogram().share_below(low);
  if (seen.highest() > high) share += 1 - seen.histogram().share_below(high);
  return share;
}

/// Ranges that hang on which samples were drawn are a sign of too few.
void note_uneven(const std::map<std::string, ActivationStatistics>& statistics,
                 std::vector<std::string>& notes) {
  constexpr double kMuch = 2;
  std::int64_t uneven = 0;
  double most = 0;
  std::string worst;
  for (const auto& [value, seen] : statistics) {
    const double ratio = seen.unevenness();
    uneven += ratio > kMuch;
    if (ratio > most) {
      most = ratio;
      worst = value;
    }
  }
  if (uneven > 0)
    notes.push_back(fmt::format(
        "the two halves of the calibration data give ranges that differ more than {}-fold at {} of {} "
        "values, most at '{}' ({:.1f}-fold); calibrate on more samples",
        kMuch, uneven, statistics.size(), worst, most));
}

using Statistics = std::map<std::string, ActivationStatistics>;

/// Sees the activations that are to be quantised.
Statistics observe(const Groundwork& ground, const DatasetPtr& calibration, const QuantizeOptions& options,
                   std::vector<std::string>& notes, Progress& progress) {
  if (ground.points.empty()) return {};
  std::vector<std::string> values;
  for (const ActivationPoint& point : ground.points) values.push_back(point.value);
  Executor executor(ground.graph, {.device = options.device});
  const bool histogram = options.method != QuantizeMethod::MinMax || options.momentum > 0;
  Statistics statistics = calibrate(executor, calibration, values,
                                    {.batch = options.batch,
                                     .threads = options.threads,
                                     .statistics = {.histogram = histogram, .momentum = options.momentum}},
                                    progress);
  note_uneven(statistics, notes);
  return statistics;
}

/// Ranges by this method, nearest codes.
QdqPlan plan_by(RangeMethod method, const Groundwork& ground, const Statistics& statistics,
                const QuantizeOptions& options) {
  const RangeOptions range{.method = method, .percentile = options.percentile};
  return {
      .layers = ground.layers,
      .weights = quantize_weights(ground.graph, ground.layers,
                                  {.method = method,
                                   .search = options.search,
                                   .scheme = ground.settings.weight_scheme,
                                   .reduce_range = ground.settings.reduce_range}),
      .activations = choose_activations(ground.points, statistics, range, ground.settings.activation_scheme)};
}

void describe_activations(const QdqPlan& plan, const Statistics& statistics, Quantized& result) {
  for (const QuantizedActivation& activation : plan.activations) {
    const ActivationStatistics& seen = statistics.at(activation.value);
    const Quantizer& quantizer = activation.quantizer;
    result.activations.push_back({.value = activation.value,
                                  .bits = activation.bits,
                                  .low = seen.low(),
                                  .high = seen.high(),
                                  .range_low = code_value(quantizer, quantizer.codes.low),
                                  .range_high = code_value(quantizer, quantizer.codes.high),
                                  .saturated = saturated_share(seen, quantizer)});
    for (std::size_t i = 0; i < result.layers.size(); ++i) {
      if (plan.layers[i].input != activation.value || plan.layers[i].activation_bits == kFloatBits) continue;
      result.layers[i].input_low = result.activations.back().range_low;
      result.layers[i].input_high = result.activations.back().range_high;
    }
  }
}

/// SQNR of every layer's output and of the first output of the network.
void measure_layers(const QdqPlan& plan, const DatasetPtr& calibration, const QuantizeOptions& options,
                    Quantized& result, Progress& progress) {
  std::vector<std::string> outputs;
  for (const Layer& layer : plan.layers) outputs.push_back(layer.output);
  outputs.push_back(result.graph.outputs.at(0).name);
  const auto sqnr =
      measure_sqnr(result.reference, result.graph, outputs, calibration, sqnr_options(options), progress);
  for (std::size_t i = 0; i < result.layers.size(); ++i)
    result.layers[i].sqnr_db = sqnr.at(plan.layers[i].output);
  result.output_sqnr_db = sqnr.at(outputs.back());
}

/// The network by another plan.
Graph plain_graph(const Groundwork& ground, QdqPlan plan, const QuantizeOptions& options) {
  const ExportOptions exporting = export_options_for(options, ground.settings);
  std::vector<std::string> unsaid;
  if (exporting.integer_bias) guard_biases(ground.graph, plan, unsaid);
  return export_qdq(ground.graph, plan, exporting);
}

/// SQNR of its first output.
double plain_sqnr(const Graph& plain, const DatasetPtr& calibration, const QuantizeOptions& options,
                  const Graph& reference) {
  Progress silent;  // a line of its own would look like the one before again
  const std::string& logits = reference.outputs.at(0).name;
  return measure_sqnr(reference, plain, {logits}, calibration, sqnr_options(options), silent).at(logits);
}

}  // namespace

Graph prepare_for_quantization(const Graph& model, const DatasetPtr& calibration,
                               const QuantizeOptions& options, std::vector<std::string>& notes) {
  Graph graph = model;
  if (graph.opset() > options.opset && !options.raise_opset)
    fail("the model is of opset {} and cannot be lowered to {}; ask for --opset {} or newer", graph.opset(),
         options.opset, graph.opset());
  require_usable_constants(model);
  RewriteGuard guard(model, calibration, std::min<std::int64_t>(8, options.batch));
  simplify(graph);
  upgrade_opset(graph, std::max(options.opset, graph.opset()));
  guard.check(graph, "simplification and opset conversion", 1e-4);
  const FoldReport folds = fold_batch_norm(graph);
  if (folds.folded > 0)
    notes.push_back(fmt::format("{} nodes were folded into the layers before them", folds.folded));
  notes.insert(notes.end(), folds.left.begin(), folds.left.end());
  guard.check(graph, "batch-norm folding", 1e-4);
  if (calibration && options.reparameterise_norms.value_or(options.activation_bits < 8)) {
    const int norms = reparameterise_norms(
        graph, calibration, {.batch = options.batch, .threads = options.threads, .device = options.device});
    if (norms > 0)
      notes.push_back(
          fmt::format("{} layer norms give all channels one range; the layers behind them undo it", norms));
    guard.check(graph, "reparameterisation of layer norms", 1e-3);
  }
  if (options.equalize) {
    const EqualizationReport report = equalize(graph);
    notes.push_back(report.pairs == 0
                        ? std::string("equalisation found no neighbouring convolutions to rescale")
                        : fmt::format("equalisation rescaled {} pairs of convolutions in {} rounds",
                                      report.pairs, report.rounds));
    if (report.clips_split > 0)
      notes.push_back(
          fmt::format("equalisation turned {} Clip nodes into Relu and a Min of one bound a channel",
                      report.clips_split));
    guard.check(graph, "cross-layer equalisation", 1e-3);
  }
  return graph;
}

bool needs_calibration(const QuantizeOptions& options) {
  return options.correct_bias || options.reconstruct || options.budget ||
         options.activation_bits != kFloatBits || options.attention_bits != kFloatBits ||
         std::any_of(options.bits_for.begin(), options.bits_for.end(), [](const BitsRule& rule) {
           return rule.activation_bits != 0 && rule.activation_bits != kFloatBits;
         });
}

QuantizationPlan plan_quantization(const Graph& model, const QuantizeOptions& options) {
  if (options.dfsq) return plan_dfsq(model, options);
  check(options);
  const at::NoGradGuard no_grad;
  QuantizationPlan plan;
  Groundwork ground = lay_ground(model, nullptr, widest(options), plan.notes, [&](const Groundwork& laid) {
    if (!options.budget) return;
    check_budget(laid.graph, laid.layers, precision_options(model, laid, options));
    plan.notes.push_back("the bits of weights under the budget are chosen on data; the most are shown here");
  });
  plan.layers = describe_layers(ground, options.target);
  plan.profile = ground.settings.profile;
  plan.placement = ground.settings.placement;
  plan.reduce_range = ground.settings.reduce_range;
  plan.graph = std::move(ground.graph);
  return plan;
}

Quantized quantize(const Graph& model, const DatasetPtr& calibration, const QuantizeOptions& wanted,
                   Progress& progress) {
  if (wanted.dfsq) return quantize_dfsq(model, calibration, wanted, progress);
  check(wanted);
  const bool has_data = calibration && calibration->size() > 0;
  if (!has_data && (calibration || needs_calibration(wanted))) fail("the calibration data hold no sample");
  const at::NoGradGuard no_grad;
  Quantized result;
  QuantizeOptions options = widest(wanted);
  if (has_data) options.batch = usable_batch(model, calibration, wanted.batch);
  result.batch = options.batch;
  if (options.batch != wanted.batch) result.notes.emplace_back(kSingleSamplesOnly);
  if (options.reconstruct) prepare_learning(model, calibration, options);
  Groundwork ground = lay_ground(model, calibration, options, result.notes, [&](Groundwork& laid) {
    require_learnable(laid, calibration, options);
    if (!options.budget) return;
    result.precision = choose_precision(laid.graph, laid.layers, calibration,
                                        precision_options(model, laid, options), progress);
  });
  const QuantizeSettings& settings = ground.settings;
  result.profile = settings.profile;
  result.placement = settings.placement;
  result.reduce_range = settings.reduce_range;
  if (needs_calibration(options)) {
    result.samples = calibration->size();
    if (result.samples < 128)
      result.notes.push_back(
          fmt::format("only {} samples for calibration; 128 or more give steadier ranges", result.samples));
  }

  const Statistics statistics = observe(ground, calibration, options, result.notes, progress);
  QdqPlan plan = plan_by(range_method(options.method), ground, statistics, options);
  result.reference = ground.graph;
  const std::vector<Layer> uncorrected = ground.layers;
  const QdqPlan nearest = plan;
  if (options.reconstruct) {
    result.reconstruction = reconstruct(ground.graph, plan, calibration, *options.reconstruct, progress);
    result.notes.insert(result.notes.end(), result.reconstruction->notes.begin(),
                        result.reconstruction->notes.end());
  }
  if (options.correct_bias) {
    const int corrected = correct_biases(ground.graph, plan, calibration,
                                         {.samples = options.bias_samples,
                                          .batch = options.batch,
                                          .threads = options.threads,
                                          .device = options.device},
                                         progress);
    ground.layers = plan.layers;
    result.notes.push_back(fmt::format("the biases of {} layers were corrected", corrected));
  }
  const ExportOptions export_options = export_options_for(options, settings);
  end_at_clips(ground.graph, plan);
  if (export_options.integer_bias) guard_biases(ground.graph, plan, result.notes);
  result.graph = export_qdq(ground.graph, plan, export_options);

  result.layers = describe_layers(ground, options.target);
  describe_activations(plan, statistics, result);
  if (has_data && options.report_samples > 0) {
    measure_layers(plan, calibration, options, result, progress);
    // The plain ways for comparison: what was seen already, no corrections.
    ground.graph = result.reference;
    ground.layers = uncorrected;
    if (options.reconstruct)
      result.nearest_sqnr_db =
          plain_sqnr(plain_graph(ground, nearest, options), calibration, options, result.reference);
    if (options.method != QuantizeMethod::MinMax) {
      result.minmax_graph =
          plain_graph(ground, plan_by(RangeMethod::MinMax, ground, statistics, options), options);
      result.minmax_sqnr_db = plain_sqnr(*result.minmax_graph, calibration, options, result.reference);
    }
  }
  return result;
}

}  // namespace lithe
