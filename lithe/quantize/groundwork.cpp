#include "lithe/quantize/groundwork.h"

#include <algorithm>
#include <map>
#include <set>
#include <span>

#include "lithe/base/error.h"
#include "lithe/base/hash.h"
#include "lithe/data/loader.h"
#include "lithe/data/usable_batch.h"
#include "lithe/graph/onnx.h"
#include "lithe/ops/registry.h"
#include "lithe/quantize/reconstruct/learning_plan.h"
#include "lithe/quantize/reconstruct/reconstruct.h"
#include "lithe/quantize/reconstruct/reconstruct_checkpoint.h"

namespace lithe {
namespace {

bool is_eight_or_float(int bits) {
  return bits == 8 || bits == kFloatBits;
}

QuantizeSettings settle(const QuantizeOptions& options, const std::vector<Layer>& layers,
                        std::vector<std::string>& notes) {
  QuantizeSettings settings{};
  const bool eight = is_eight_or_float(options.attention_bits) &&
                     std::all_of(layers.begin(), layers.end(),
                                 [](const Layer& layer) { return is_eight_or_float(layer.activation_bits); });
  const bool any = std::any_of(layers.begin(), layers.end(),
                               [](const Layer& layer) { return layer.activation_bits != kFloatBits; });
  settings.profile = options.profile.value_or(eight && any ? Profile::Int8 : Profile::Exact);
  if (settings.profile == Profile::Int8)
    for (const Layer& layer : layers)
      if (!is_eight_or_float(layer.activation_bits))
        fail("layer '{}': profile int8 runs 8-bit activations, not {}; ask for 8 bits or for profile exact",
             layer.name, layer.activation_bits);
  if (settings.profile == Profile::Int8 && !is_eight_or_float(options.attention_bits))
    fail("--attention-bits {}: profile int8 runs 8-bit activations; ask for 8 bits or for profile exact",
         options.attention_bits);
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

template <class Enum>
std::string choice_text(const std::optional<Enum>& choice) {
  return choice ? std::to_string(static_cast<int>(*choice)) : "by default";
}

/// What model and options a checkpoint of learning is for, by the flags of the tool.
std::map<std::string, std::string> task_of(const Graph& model, const QuantizeOptions& options) {
  const std::string bytes = serialize_onnx(model);
  std::string rules;
  for (const BitsRule& rule : options.bits_for)
    rules += fmt::format("{}={},{};", rule.pattern, rule.weight_bits, rule.activation_bits);
  std::map<std::string, std::string> task{
      {"model", fmt::format("{:016x}", fnv1a(std::as_bytes(std::span(bytes))))},
      {"--weight-bits", std::to_string(options.weight_bits)},
      {"--activation-bits", std::to_string(options.activation_bits)},
      {"--attention-bits", std::to_string(options.attention_bits)},
      {"--first-last", std::to_string(static_cast<int>(options.first_last))},
      {"--bits-for", rules},
      {"--exclude", fmt::format("{}", fmt::join(options.exclude, ";"))},
      {"--budget", options.budget ? fmt::format("{} {}", format_budget(*options.budget),
                                                fmt::join(options.budget_bits, ","))
                                  : ""},
      {"--target", std::to_string(static_cast<int>(options.target))},
      {"--profile", choice_text(options.profile)},
      {"--placement", choice_text(options.placement)},
      {"--reduce-range", choice_text(options.reduce_range)},
      {"--weight-scheme", choice_text(options.weight_scheme)},
      {"--activation-scheme", choice_text(options.activation_scheme)},
      {"--search", fmt::format("{} {}", static_cast<int>(options.method), static_cast<int>(options.search))},
      {"--vit", choice_text(options.reparameterise_norms)},
      {"--equalize", std::to_string(options.equalize)},
      {"--opset", std::to_string(options.opset)},
      {"--batch", std::to_string(options.batch)}};
  if (const auto& points = options.dfsq)
    task["points"] =
        fmt::format("{} {} {} {} {}", static_cast<int>(points->statistics), static_cast<int>(points->points),
                    static_cast<int>(points->weights), points->restarts, points->seed);
  return task;
}

/// Of the targets, only ONNX Runtime takes 4-bit containers for convolutions and activations.
bool takes_nibbles(Target target) {
  return target == Target::OnnxRuntime;
}

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

}  // namespace

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

ExportOptions export_options_for(const QuantizeOptions& options, const QuantizeSettings& settings) {
  return {.integer_bias = options.target == Target::OnnxRuntime ||
                          (settings.profile == Profile::Int8 && options.target == Target::OpenVino),
          .nibbles = takes_nibbles(options.target)};
}

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

Groundwork prepare_layers(const Graph& model, const DatasetPtr& data, const QuantizeOptions& options,
                          std::vector<std::string>& notes) {
  Groundwork ground{.graph = prepare_for_quantization(model, data, options, notes)};
  ground.layers = find_layers(ground.graph, &notes);
  if (ground.layers.empty())
    fail("the model has no Conv, ConvTranspose, Gemm or MatMul with constant weights to quantise");
  return ground;
}

void prepare_learning(const Graph& model, const DatasetPtr& calibration, QuantizeOptions& options) {
  ReconstructOptions& learning = *options.reconstruct;
  learning.threads = options.threads;
  learning.device = options.device;
  learning.task = task_of(model, options);
  const std::int64_t fixed = fixed_batch(model);
  require_enough_samples(learning, calibration->size(), fixed > 0 ? fixed : 1);
  if (options.batch > 1) usable_batch(model, calibration, learning.batch);
  require_resumable(learning, *calibration, used_samples(learning, calibration->size()));
}

void require_learnable(const Groundwork& ground, const DatasetPtr& data, const QuantizeOptions& options) {
  if (!options.reconstruct) return;
  std::map<const Node*, int> bits;
  for (const Layer& layer : ground.layers) bits[&ground.graph.nodes[layer.node]] = layer.weight_bits;
  plan_learning(
      ground.graph,
      [&](const Node& node) {
        const auto found = bits.find(&node);
        return found == bits.end() ? kFloatBits : found->second;
      },
      *options.reconstruct, options.reconstruct->batch, input_shapes_of(ground.graph, data, options.threads));
}

SqnrOptions sqnr_options(const QuantizeOptions& options) {
  return {.samples = options.report_samples,
          .batch = std::min<std::int64_t>(8, options.batch),
          .threads = options.threads,
          .device = options.device};
}

Groundwork lay_ground(const Graph& model, const DatasetPtr& data, const QuantizeOptions& options,
                      std::vector<std::string>& notes, const ChooseBits& choose) {
  Groundwork ground = prepare_layers(model, data, options, notes);
  assign_bits(ground.layers, options.weight_bits, options.activation_bits, options.first_last,
              options.bits_for, options.exclude);
  ground.settings = settle(options, ground.layers, notes);
  // What no layer reads follows the general bits, but integer kernels have 8 only.
  const bool eight_only = ground.settings.profile == Profile::Int8 && options.activation_bits != kFloatBits;
  ground.points = place_activations(ground.graph, ground.layers, ground.settings.placement, options.target,
                                    eight_only ? 8 : options.activation_bits, options.attention_bits);
  if (options.attention_bits != kFloatBits && attention_operands(ground.graph).empty())
    fail("--attention-bits: the model has no product of two activations; leave it out");
  if (choose) choose(ground);
  ground.weights = assign_weights(ground.layers, ground.settings.reduce_range);
  note_reduced(ground, notes);
  note_containers(ground, options.target, notes);
  return ground;
}

QuantizeOptions widest(QuantizeOptions options) {
  if (options.budget)
    options.weight_bits = *std::max_element(options.budget_bits.begin(), options.budget_bits.end());
  return options;
}

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

LayerResult describe_layer(const Graph& graph, const Layer& layer, int weight_bits, Target target) {
  const TensorData& weight = graph.constants.at(layer.weight);
  const std::int64_t bias =
      layer.bias.empty() ? 0 : static_cast<std::int64_t>(graph.constants.at(layer.bias).bytes().size());
  LayerResult result{.name = layer.name,
                     .op = layer.op,
                     .weight_bits = weight_bits,
                     .activation_bits = layer.activation_bits};
  result.float_bytes = static_cast<std::int64_t>(weight.bytes().size()) + bias;
  result.bytes = weight_bits == kFloatBits ? result.float_bytes
                                           : stored_bytes(weight_bits, weight.count(), scales_of(layer),
                                                          graph.opset(), takes_nibbles(target)) +
                                                 bias;
  const at::Tensor values = to_tensor(weight);
  result.weight_low = values.min().item<float>();
  result.weight_high = values.max().item<float>();
  return result;
}

std::vector<LayerResult> describe_layers(const Groundwork& ground, Target target) {
  std::map<std::string, int> point_bits;
  for (const ActivationPoint& point : ground.points) point_bits.emplace(point.value, point.bits);
  std::map<std::size_t, const QuantizedWeight*> weights;
  for (const QuantizedWeight& weight : ground.weights)
    for (const std::size_t i : weight.layers) weights.emplace(i, &weight);
  std::vector<LayerResult> results;
  for (std::size_t i = 0; i < ground.layers.size(); ++i) {
    const Layer& layer = ground.layers[i];
    const auto found = weights.find(i);
    const int bits = found == weights.end() ? kFloatBits : found->second->bits;
    results.push_back(describe_layer(ground.graph, layer, bits, target));
    if (layer.activation_bits != kFloatBits) results.back().activation_bits = point_bits.at(layer.input);
  }
  return results;
}

}  // namespace lithe
