#include "lithe/quantize/quantize.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <set>

#include "lithe/base/error.h"
#include "lithe/graph/onnx.h"
#include "lithe/ops/registry.h"
#include "lithe/quantize/batches.h"
#include "lithe/quantize/bias_correction.h"
#include "lithe/quantize/calibration.h"
#include "lithe/quantize/equalization.h"
#include "lithe/quantize/export_qdq.h"
#include "lithe/quantize/fidelity.h"
#include "lithe/quantize/fold_batch_norm.h"
#include "lithe/quantize/prepare.h"
#include "lithe/quantize/reparameterise.h"
#include "lithe/quantize/upgrade_opset.h"

namespace lithe {
namespace {

/// The options with every default that depends on others decided.
struct Settings {
  Profile profile;
  PlacementStyle placement;
  ReduceRange reduce_range;
  Scheme weight_scheme, activation_scheme;
};

bool is_eight_or_float(int bits) {
  return bits == 8 || bits == kFloatBits;
}

Settings settle(const QuantizeOptions& options, const std::vector<Layer>& layers,
                std::vector<std::string>& notes) {
  Settings settings{};
  const bool eight = std::all_of(layers.begin(), layers.end(),
                                 [](const Layer& layer) { return is_eight_or_float(layer.activation_bits); });
  const bool any = std::any_of(layers.begin(), layers.end(),
                               [](const Layer& layer) { return layer.activation_bits != kFloatBits; });
  settings.profile = options.profile.value_or(eight && any ? Profile::Int8 : Profile::Exact);
  if (settings.profile == Profile::Int8)
    for (const Layer& layer : layers)
      if (!is_eight_or_float(layer.activation_bits))
        fail("layer '{}': profile int8 runs 8-bit activations, not {}; ask for 8 bits or for profile exact",
             layer.name, layer.activation_bits);
  settings.placement = options.placement.value_or(
      settings.profile == Profile::Int8 ? PlacementStyle::Deploy : PlacementStyle::Academic);
  // Its kernels for x86 without VNNI add pairs of products in 16 bits, which 8-bit weights overflow.
  const bool saturates = options.target == Target::OnnxRuntime && any;
  settings.reduce_range = options.reduce_range.value_or(saturates ? ReduceRange::All : ReduceRange::Off);
  const bool tensor_rt = options.target == Target::TensorRt;
  const Scheme fallback = tensor_rt ? Scheme::Symmetric : Scheme::Asymmetric;
  settings.weight_scheme = options.weight_scheme.value_or(fallback);
  settings.activation_scheme = options.activation_scheme.value_or(fallback);
  if (tensor_rt &&
      (settings.weight_scheme == Scheme::Asymmetric || settings.activation_scheme == Scheme::Asymmetric))
    fail("TensorRT takes zero-points of 0 only; leave the schemes symmetric, or choose another target");
  if (options.weight_scheme == Scheme::Asymmetric &&
      std::any_of(layers.begin(), layers.end(), [](const Layer& layer) { return layer.weight_bits == 8; }))
    notes.push_back(
        "8-bit weights are symmetric: less their zero-point, asymmetric ones would not fit into int8");
  return settings;
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

RangeMethod range_method(QuantizeMethod method) {
  switch (method) {
    case QuantizeMethod::MinMax:
      return RangeMethod::MinMax;
    case QuantizeMethod::Percentile:
      return RangeMethod::Percentile;
    default:
      return RangeMethod::Mse;
  }
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

/// Keeps every bias of an integer network within int32.
void guard_biases(const Graph& graph, QdqPlan& plan, std::vector<std::string>& notes) {
  std::map<std::string, double> input_scale;
  for (const QuantizedActivation& activation : plan.activations)
    input_scale[activation.value] = activation.quantizer.scale.item<float>();
  for (QuantizedWeight& weight : plan.weights)
    for (const std::size_t i : weight.layers) {
      const Layer& layer = plan.layers[i];
      const auto scale = input_scale.find(layer.input);
      if (layer.bias.empty() || layer.bias_node != layer.node || layer.activation_bits == kFloatBits ||
          scale == input_scale.end())
        continue;
      const int raised = raise_scales(weight, to_tensor(graph.constants.at(weight.constant)),
                                      to_tensor(graph.constants.at(layer.bias)).reshape({-1}), scale->second);
      if (raised > 0)
        notes.push_back(fmt::format(
            "layer '{}': {} weight scales were raised so that the bias fits into int32", layer.name, raised));
    }
}

double code_value(const Quantizer& quantizer, std::int64_t code) {
  return (static_cast<double>(code) - quantizer.zero_point.item<float>()) * quantizer.scale.item<float>();
}

/// Of the targets, only ONNX Runtime takes 4-bit containers for convolutions and activations.
bool takes_nibbles(Target target) {
  return target == Target::OnnxRuntime;
}

/// Everything that is decided before data are seen.
struct Groundwork {
  Graph graph;
  std::vector<Layer> layers;
  Settings settings{};
  std::vector<ActivationPoint> points;
  std::vector<QuantizedWeight> weights;  // bits only
};

void note_reduced(const Groundwork& ground, std::vector<std::string>& notes) {
  std::int64_t reduced = 0;
  for (const QuantizedWeight& weight : ground.weights)
    for (const std::size_t layer : weight.layers)
      reduced += weight.reduced && ground.layers[layer].weight_bits == 8;
  if (reduced > 0)
    notes.push_back(fmt::format(
        "the 8-bit weights of {} layers keep to 7 bits, so that x86 without VNNI does not saturate; "
        "--reduce-range off keeps all 8",
        reduced));
}

/// Tells what 4-bit containers would save where the opset has none.
void note_containers(const Groundwork& ground, Target target, std::vector<std::string>& notes) {
  if (!takes_nibbles(target)) return;
  std::int64_t saved = 0, narrow = 0;
  for (const QuantizedWeight& weight : ground.weights) {
    const std::int64_t elements = ground.graph.constants.at(weight.constant).count();
    const std::int64_t scales = scales_of(ground.layers[weight.layers.front()]);
    const std::int64_t gain = stored_bytes(weight.bits, elements, scales, ground.graph.opset()) -
                              stored_bytes(weight.bits, elements, scales, 21);
    saved += gain;
    narrow += gain > 0;
  }
  if (narrow > 0)
    notes.push_back(
        fmt::format("{} weights of 4 bits or fewer take 8 bits each in this file, which every runtime reads; "
                    "--opset 21 packs them into 4 and saves {:.1f} KB, for newer runtimes",
                    narrow, static_cast<double>(saved) / 1e3));
}

/// Sees everything but the weights before their bits are final.
using ChooseBits = std::function<void(Groundwork&)>;

Groundwork lay_ground(const Graph& model, const DatasetPtr& data, const QuantizeOptions& options,
                      std::vector<std::string>& notes, const ChooseBits& choose = {}) {
  Groundwork ground{.graph = prepare_for_quantization(model, data, options, notes)};
  ground.layers = find_layers(ground.graph, &notes);
  if (ground.layers.empty())
    fail("the model has no Conv, ConvTranspose, Gemm or MatMul with constant weights to quantise");
  assign_bits(ground.layers, options.weight_bits, options.activation_bits, options.first_last,
              options.bits_for, options.exclude);
  ground.settings = settle(options, ground.layers, notes);
  // What no layer reads follows the general bits, but integer kernels have 8 only.
  const bool eight_only = ground.settings.profile == Profile::Int8 && options.activation_bits != kFloatBits;
  ground.points = place_activations(ground.graph, ground.layers, ground.settings.placement, options.target,
                                    eight_only ? 8 : options.activation_bits);
  if (choose) choose(ground);
  ground.weights = assign_weights(ground.layers, ground.settings.reduce_range);
  note_reduced(ground, notes);
  note_containers(ground, options.target, notes);
  return ground;
}

/// With a budget the layers start with the most bits.
QuantizeOptions widest(QuantizeOptions options) {
  if (options.budget)
    options.weight_bits = *std::max_element(options.budget_bits.begin(), options.budget_bits.end());
  return options;
}

/// ONNX Runtime rounds a float bias of a quantised layer to int32 by itself, and moves codes by it: what is
/// exact must say so in the file. TensorRT wants biases in float.
ExportOptions export_options_for(const QuantizeOptions& options, const Settings& settings) {
  return {.integer_bias = options.target == Target::OnnxRuntime ||
                          (settings.profile == Profile::Int8 && options.target == Target::OpenVino),
          .nibbles = takes_nibbles(options.target)};
}

/// Bytes of the file that do not hang on the bits of weights: those of a trial, less its constants.
std::int64_t structure_bytes(const Groundwork& ground, const QuantizeOptions& options) {
  constexpr std::int64_t kMetadata = 1024;  // what a caller may write into the file, as preprocessing
  const ExportOptions exporting = export_options_for(options, ground.settings);
  QdqPlan plan{.layers = ground.layers,
               .weights = quantize_weights(ground.graph, ground.layers,
                                           {.method = RangeMethod::MinMax,
                                            .scheme = ground.settings.weight_scheme,
                                            .reduce_range = ground.settings.reduce_range})};
  const bool symmetric = ground.settings.activation_scheme == Scheme::Symmetric;
  for (const ActivationPoint& point : ground.points)
    plan.activations.push_back({.value = point.value,
                                .bits = point.bits,
                                .quantizer = {.scale = at::ones({}),
                                              .zero_point = at::zeros({}),
                                              .codes = symmetric ? symmetric_codes(point.bits, false)
                                                                 : asymmetric_codes(point.bits)},
                                .is_signed = symmetric,
                                .group = point.group});
  std::vector<std::string> unsaid;
  if (exporting.integer_bias) guard_biases(ground.graph, plan, unsaid);
  auto bytes = static_cast<std::int64_t>(serialize_onnx(export_qdq(ground.graph, plan, exporting)).size());
  std::set<std::string> weights;
  for (const QuantizedWeight& weight : plan.weights) {
    weights.insert(weight.constant);
    bytes -= stored_bytes(weight.bits, ground.graph.constants.at(weight.constant).count(),
                          scales_of(ground.layers[weight.layers.front()]), ground.graph.opset(),
                          exporting.nibbles);
  }
  for (const auto& [name, data] : ground.graph.constants)
    if (!weights.contains(name)) bytes -= static_cast<std::int64_t>(data.bytes().size());
  return bytes + kMetadata;
}

/// How the bits of weights are chosen. Fixed are the layers whose bits do not follow the general ones.
MixedPrecisionOptions precision_options(const Graph& model, const Groundwork& ground,
                                        const QuantizeOptions& options) {
  const auto bits_from = [&](int general) {
    std::vector<Layer> layers = ground.layers;
    assign_bits(layers, general, options.activation_bits, options.first_last, options.bits_for,
                options.exclude);
    return layers;
  };
  const std::vector<Layer> few = bits_from(2), many = bits_from(8);
  std::set<std::size_t> free;
  for (std::size_t i = 0; i < few.size(); ++i)
    if (few[i].weight_bits != many[i].weight_bits) free.insert(few[i].node);
  const bool nibbles = takes_nibbles(options.target);
  const std::int64_t opset = ground.graph.opset();
  MixedPrecisionOptions result{.budget = *options.budget,
                               .sensitivity = {.bits = options.budget_bits,
                                               .weights = {.method = range_method(options.method),
                                                           .search = options.search,
                                                           .scheme = ground.settings.weight_scheme,
                                                           .reduce_range = ground.settings.reduce_range},
                                               .batch = options.batch,
                                               .threads = options.threads,
                                               .device = options.device},
                               .fixed = [free](const Layer& layer) { return !free.contains(layer.node); },
                               .bytes =
                                   [opset, nibbles](int bits, std::int64_t elements, std::int64_t scales) {
                                     return stored_bytes(bits, elements, scales, opset, nibbles);
                                   }};
  // Of 8 bits only 7 are used there, and 7 bits may have zero-points.
  std::vector<int>& bits = result.sensitivity.bits;
  if (ground.settings.reduce_range == ReduceRange::All && bits.size() > 1) std::erase(bits, 8);
  if (options.budget->kind == BitBudget::Kind::MeanBits) return result;
  result.structure_bytes = structure_bytes(ground, options);
  result.float_bytes = static_cast<std::int64_t>(serialize_onnx(model).size());
  if (nibbles && opset < 21) result.remedy = ", or store weights of up to 4 bits in 4 with --opset 21";
  return result;
}

/// The layers as the file will hold them.
std::vector<LayerResult> describe_layers(const Groundwork& ground, Target target) {
  std::map<std::string, int> point_bits;
  for (const ActivationPoint& point : ground.points) point_bits.emplace(point.value, point.bits);
  std::map<std::size_t, const QuantizedWeight*> weights;
  for (const QuantizedWeight& weight : ground.weights)
    for (const std::size_t i : weight.layers) weights.emplace(i, &weight);
  std::vector<LayerResult> results;
  for (std::size_t i = 0; i < ground.layers.size(); ++i) {
    const Layer& layer = ground.layers[i];
    const TensorData& weight = ground.graph.constants.at(layer.weight);
    const std::int64_t bias_bytes =
        layer.bias.empty() ? 0
                           : static_cast<std::int64_t>(ground.graph.constants.at(layer.bias).bytes().size());
    LayerResult result{.name = layer.name, .op = layer.op};
    result.float_bytes = static_cast<std::int64_t>(weight.bytes().size()) + bias_bytes;
    result.bytes = result.float_bytes;
    const at::Tensor values = to_tensor(weight);
    result.weight_low = values.min().item<float>();
    result.weight_high = values.max().item<float>();
    if (const auto found = weights.find(i); found != weights.end()) {
      result.weight_bits = found->second->bits;
      result.bytes = stored_bytes(result.weight_bits, weight.count(), scales_of(layer), ground.graph.opset(),
                                  takes_nibbles(target)) +
                     bias_bytes;
    }
    if (layer.activation_bits != kFloatBits) result.activation_bits = point_bits.at(layer.input);
    results.push_back(std::move(result));
  }
  return results;
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

/// Infinity may be meant (attention masks), NaN never is.
void refuse_nan(const Graph& graph) {
  for (const auto& [name, data] : graph.constants) {
    if (!is_float(data.dtype())) continue;
    const std::vector<float> values = data.to_floats();
    const auto bad = std::find_if(values.begin(), values.end(), [](float v) { return std::isnan(v); });
    if (bad != values.end())
      fail("the constant '{}' holds NaN at element {}; train or export the model again", name,
           bad - values.begin());
  }
}

}  // namespace

Graph prepare_for_quantization(const Graph& model, const DatasetPtr& calibration,
                               const QuantizeOptions& options, std::vector<std::string>& notes) {
  Graph graph = model;
  if (graph.opset() > options.opset && !options.raise_opset)
    fail("the model is of opset {} and cannot be lowered to {}; ask for --opset {} or newer", graph.opset(),
         options.opset, graph.opset());
  refuse_nan(model);
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
         options.activation_bits != kFloatBits ||
         std::any_of(options.bits_for.begin(), options.bits_for.end(), [](const BitsRule& rule) {
           return rule.activation_bits != 0 && rule.activation_bits != kFloatBits;
         });
}

QuantizationPlan plan_quantization(const Graph& model, const QuantizeOptions& options) {
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
  check(wanted);
  const bool has_data = calibration && calibration->size() > 0;
  if (!has_data && (calibration || needs_calibration(wanted))) fail("the calibration data hold no sample");
  const at::NoGradGuard no_grad;
  Quantized result;
  QuantizeOptions options = widest(wanted);
  if (has_data) options.batch = usable_batch(model, calibration, wanted.batch);
  result.batch = options.batch;
  if (options.batch != wanted.batch)
    result.notes.push_back("the model runs single samples only, although it declares its batch free");
  Groundwork ground = lay_ground(model, calibration, options, result.notes, [&](Groundwork& laid) {
    if (!options.budget) return;
    result.precision = choose_precision(laid.graph, laid.layers, calibration,
                                        precision_options(model, laid, options), progress);
  });
  const Settings& settings = ground.settings;
  result.profile = settings.profile;
  result.placement = settings.placement;
  result.reduce_range = settings.reduce_range;
  if (needs_calibration(options)) {
    result.samples = calibration->size();
    if (result.samples < 128)
      result.notes.push_back(
          fmt::format("only {} samples for calibration; 128 or more give steadier ranges", result.samples));
  }

  std::map<std::string, ActivationStatistics> statistics;
  if (!ground.points.empty()) {
    std::vector<std::string> values;
    for (const ActivationPoint& point : ground.points) values.push_back(point.value);
    Executor executor(ground.graph, {.device = options.device});
    const bool histogram = options.method != QuantizeMethod::MinMax || options.momentum > 0;
    statistics = calibrate(executor, calibration, values,
                           {.batch = options.batch,
                            .threads = options.threads,
                            .statistics = {.histogram = histogram, .momentum = options.momentum}},
                           progress);
    note_uneven(statistics, result.notes);
  }
  const auto plan_with = [&](RangeMethod method) {
    const RangeOptions range{.method = method, .percentile = options.percentile};
    return QdqPlan{
        .layers = ground.layers,
        .weights = quantize_weights(ground.graph, ground.layers,
                                    {.method = method,
                                     .search = options.search,
                                     .scheme = settings.weight_scheme,
                                     .reduce_range = settings.reduce_range}),
        .activations = choose_activations(ground.points, statistics, range, settings.activation_scheme)};
  };
  QdqPlan plan = plan_with(range_method(options.method));
  result.reference = ground.graph;
  const std::vector<Layer> uncorrected = ground.layers;
  const QdqPlan nearest = plan;
  if (options.reconstruct) {
    ReconstructOptions learning = *options.reconstruct;
    learning.threads = options.threads;
    learning.device = options.device;
    result.reconstruction = reconstruct(ground.graph, plan, calibration, learning, progress);
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
  if (export_options.integer_bias) guard_biases(ground.graph, plan, result.notes);
  result.graph = export_qdq(ground.graph, plan, export_options);

  result.layers = describe_layers(ground, options.target);
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
  if (has_data && options.report_samples > 0) {
    const SqnrOptions measured{.samples = options.report_samples,
                               .batch = std::min<std::int64_t>(8, options.batch),
                               .threads = options.threads,
                               .device = options.device};
    std::vector<std::string> outputs;
    for (const Layer& layer : plan.layers) outputs.push_back(layer.output);
    const std::string logits = result.graph.outputs.at(0).name;
    outputs.push_back(logits);
    const auto sqnr = measure_sqnr(result.reference, result.graph, outputs, calibration, measured, progress);
    for (std::size_t i = 0; i < result.layers.size(); ++i)
      result.layers[i].sqnr_db = sqnr.at(plan.layers[i].output);
    result.output_sqnr_db = sqnr.at(logits);
    // The plain ways for comparison: what was seen already, no corrections.
    ground.graph = result.reference;
    ground.layers = uncorrected;
    const auto sqnr_of = [&](QdqPlan other) {
      std::vector<std::string> unsaid;
      Progress silent;  // a line of its own would look like the one above again
      if (export_options.integer_bias) guard_biases(ground.graph, other, unsaid);
      const Graph simple = export_qdq(ground.graph, other, export_options);
      return measure_sqnr(result.reference, simple, {logits}, calibration, measured, silent).at(logits);
    };
    if (options.reconstruct) result.nearest_sqnr_db = sqnr_of(nearest);
    if (options.method != QuantizeMethod::MinMax)
      result.minmax_sqnr_db = sqnr_of(plan_with(RangeMethod::MinMax));
  }
  return result;
}

}  // namespace lithe
