#include "lithe/quantize/quantize.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "lithe/base/error.h"
#include "lithe/ops/registry.h"
#include "lithe/quantize/batches.h"
#include "lithe/quantize/bias_correction.h"
#include "lithe/quantize/calibration.h"
#include "lithe/quantize/equalization.h"
#include "lithe/quantize/export_qdq.h"
#include "lithe/quantize/fidelity.h"
#include "lithe/quantize/fold_batch_norm.h"
#include "lithe/quantize/prepare.h"
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
    const QuantizeOptions& options, Scheme scheme) {
  std::map<std::size_t, ActivationStatistics> groups;
  for (const ActivationPoint& point : points) {
    const auto [place, fresh] = groups.emplace(point.group, statistics.at(point.value));
    if (!fresh) place->second.merge(statistics.at(point.value));
  }
  std::map<std::size_t, Quantizer> quantizers;
  const RangeOptions range{.method = range_method(options.method), .percentile = options.percentile};
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
                           .is_signed = scheme == Scheme::Symmetric});
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
      if (layer.bias.empty() || layer.activation_bits == kFloatBits || scale == input_scale.end()) continue;
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

std::vector<LayerResult> describe_layers(const Graph& graph, const QdqPlan& plan, const Graph& exported,
                                         bool nibbles) {
  std::map<std::string, const QuantizedActivation*> activations;
  for (const QuantizedActivation& activation : plan.activations)
    activations.emplace(activation.value, &activation);
  std::map<std::size_t, const QuantizedWeight*> weights;
  for (const QuantizedWeight& weight : plan.weights)
    for (const std::size_t i : weight.layers) weights.emplace(i, &weight);
  std::vector<LayerResult> results;
  for (std::size_t i = 0; i < plan.layers.size(); ++i) {
    const Layer& layer = plan.layers[i];
    const TensorData& weight = graph.constants.at(layer.weight);
    const std::int64_t bias_bytes =
        layer.bias.empty() ? 0 : static_cast<std::int64_t>(graph.constants.at(layer.bias).bytes().size());
    LayerResult result{.name = layer.name, .op = layer.op};
    result.float_bytes = static_cast<std::int64_t>(weight.bytes().size()) + bias_bytes;
    result.bytes = result.float_bytes;
    const at::Tensor values = to_tensor(weight);
    result.weight_low = values.min().item<float>();
    result.weight_high = values.max().item<float>();
    if (const auto found = weights.find(i); found != weights.end()) {
      result.weight_bits = found->second->bits;
      result.bytes = stored_bytes(*found->second, exported.opset(), nibbles) + bias_bytes;
    }
    if (const auto found = activations.find(layer.input);
        found != activations.end() && layer.activation_bits != kFloatBits) {
      const Quantizer& quantizer = found->second->quantizer;
      result.activation_bits = found->second->bits;
      result.input_low = code_value(quantizer, quantizer.codes.low);
      result.input_high = code_value(quantizer, quantizer.codes.high);
    }
    results.push_back(std::move(result));
  }
  return results;
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

Quantized quantize(const Graph& model, const DatasetPtr& calibration, const QuantizeOptions& wanted,
                   Progress& progress) {
  check(wanted);
  if (!calibration || calibration->size() == 0) fail("the calibration data hold no sample");
  const at::NoGradGuard no_grad;
  Quantized result;
  QuantizeOptions options = wanted;
  options.batch = result.batch = usable_batch(model, calibration, wanted.batch);
  if (options.batch != wanted.batch)
    result.notes.push_back("the model runs single samples only, although it declares its batch free");
  Graph graph = prepare_for_quantization(model, calibration, options, result.notes);

  QdqPlan plan{.layers = find_layers(graph, &result.notes)};
  if (plan.layers.empty())
    fail("the model has no Conv, ConvTranspose, Gemm or MatMul with constant weights to quantise");
  assign_bits(plan.layers, options.weight_bits, options.activation_bits, options.first_last, options.bits_for,
              options.exclude);
  const Settings settings = settle(options, plan.layers, result.notes);
  result.profile = settings.profile;
  result.placement = settings.placement;
  result.reduce_range = settings.reduce_range;
  result.samples = calibration->size();
  if (result.samples < 128)
    result.notes.push_back(
        fmt::format("only {} samples for calibration; 128 or more give steadier ranges", result.samples));

  // What no layer reads follows the general bits, but integer kernels have 8 only.
  const bool eight_only = settings.profile == Profile::Int8 && options.activation_bits != kFloatBits;
  const int other_bits = eight_only ? 8 : options.activation_bits;
  const std::vector<ActivationPoint> points =
      place_activations(graph, plan.layers, settings.placement, options.target, other_bits);
  std::map<std::string, ActivationStatistics> statistics;
  if (!points.empty()) {
    std::vector<std::string> values;
    for (const ActivationPoint& point : points) values.push_back(point.value);
    Executor executor(graph);
    statistics = calibrate(
        executor, calibration, values,
        {.batch = options.batch,
         .threads = options.threads,
         .statistics = {.histogram = options.method != QuantizeMethod::MinMax, .momentum = options.momentum}},
        progress);
    plan.activations = choose_activations(points, statistics, options, settings.activation_scheme);
  }
  plan.weights = quantize_weights(graph, plan.layers,
                                  {.method = range_method(options.method),
                                   .search = options.search,
                                   .scheme = settings.weight_scheme,
                                   .reduce_range = settings.reduce_range});
  const auto reduced = std::count_if(plan.layers.begin(), plan.layers.end(), [&](const Layer& layer) {
    return layer.weight_bits == 8 &&
           std::any_of(plan.weights.begin(), plan.weights.end(), [&](const QuantizedWeight& weight) {
             return weight.constant == layer.weight && weight.bits == 7;
           });
  });
  if (reduced > 0)
    result.notes.push_back(fmt::format(
        "the 8-bit weights of {} layers keep to 7 bits, so that x86 without VNNI does not saturate; "
        "--reduce-range off keeps all 8",
        reduced));
  result.reference = graph;
  if (options.correct_bias) {
    const int corrected = correct_biases(
        graph, plan, calibration,
        {.samples = options.bias_samples, .batch = options.batch, .threads = options.threads}, progress);
    result.notes.push_back(fmt::format("the biases of {} layers were corrected", corrected));
  }
  // ONNX Runtime rounds a float bias of a quantised layer to int32 by itself, and moves codes by it: what is
  // exact must say so in the file.
  // TensorRT wants biases in float.
  const bool integer_bias = options.target == Target::OnnxRuntime ||
                            (settings.profile == Profile::Int8 && options.target == Target::OpenVino);
  // Of the targets, only ONNX Runtime takes 4-bit containers for convolutions and activations.
  const bool nibbles = options.target == Target::OnnxRuntime;
  if (integer_bias) guard_biases(graph, plan, result.notes);
  result.graph = export_qdq(graph, plan, {.integer_bias = integer_bias, .nibbles = nibbles});

  result.layers = describe_layers(graph, plan, result.graph, nibbles);
  for (const QuantizedActivation& activation : plan.activations) {
    const ActivationStatistics& seen = statistics.at(activation.value);
    result.activations.push_back(
        {.value = activation.value,
         .bits = activation.bits,
         .low = seen.low(),
         .high = seen.high(),
         .range_low = code_value(activation.quantizer, activation.quantizer.codes.low),
         .range_high = code_value(activation.quantizer, activation.quantizer.codes.high)});
  }
  if (options.report_samples > 0) {
    std::vector<std::string> outputs;
    for (const Layer& layer : plan.layers) outputs.push_back(layer.output);
    const std::string logits = result.graph.outputs.at(0).name;
    outputs.push_back(logits);
    const auto sqnr = measure_sqnr(result.reference, result.graph, outputs, calibration,
                                   {.samples = options.report_samples,
                                    .batch = std::min<std::int64_t>(8, options.batch),
                                    .threads = options.threads},
                                   progress);
    for (std::size_t i = 0; i < result.layers.size(); ++i)
      result.layers[i].sqnr_db = sqnr.at(plan.layers[i].output);
    result.output_sqnr_db = sqnr.at(logits);
  }
  return result;
}

}  // namespace lithe
