// `lithe quantize`: post-training quantisation, with calibrated ranges and learnt roundings.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <sstream>

#include "cli/data_flags.h"
#include "cli/plan_report.h"
#include "cli/quantize_notes.h"
#include "cli/quantize_report.h"
#include "cli/reconstruct_flags.h"
#include "cli/reconstruct_report.h"
#include "cli/torch_setup.h"
#include "cli/validators.h"
#include "cli/verbs.h"
#include "lithe/base/error.h"
#include "lithe/graph/cost.h"
#include "lithe/graph/onnx.h"
#include "lithe/graph/shape_inference.h"
#include "lithe/graph/units.h"
#include "lithe/quantize/quantize.h"

namespace lithe::cli {
namespace {

struct QuantizeFlags {
  Invocation call{"quantize"};
  PreprocessFlags preprocess;
  ReconstructFlags learning;
  const CLI::App* verb = nullptr;
  std::string calib, data, method = "mse", weight_bits = "8", activation_bits = "8", first_last = "8",
                           target = "ort", profile, placement, reduce_range = "auto", weight_scheme,
                           activation_scheme, search = "shrink", sweep, vit;
  std::vector<std::string> exclude, bits_for, shapes;
  std::int64_t calib_samples = 0, batch = 32, opset = 0, bias_samples = 128;
  double percentile = 99.99, momentum = 0;
  bool equalize = false, correct_bias = false, dry_run = false;
};

constexpr std::int64_t kRangeSamples = 512, kLearningSamples = 1024;

int parse_bits(const std::string& text, const char* flag) {
  if (text == "off" || text == "32") return kFloatBits;
  if (text.size() == 1 && text[0] >= '2' && text[0] <= '8') return text[0] - '0';
  fail("{} {}: give 2 to 8, or off", flag, text);
}

std::vector<int> parse_sweep(const std::string& text) {
  std::vector<int> bits;
  std::stringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) bits.push_back(parse_bits(part, "--sweep"));
  if (bits.empty()) fail("--sweep: give bits, for example 8,6,4,3,2");
  return bits;
}

QuantizeOptions options_of(const QuantizeFlags& flags, int threads, at::Device device) {
  QuantizeOptions options;
  options.method = flags.method == "minmax"       ? QuantizeMethod::MinMax
                   : flags.method == "percentile" ? QuantizeMethod::Percentile
                                                  : QuantizeMethod::Mse;
  options.weight_bits = parse_bits(flags.weight_bits, "--weight-bits");
  options.activation_bits = parse_bits(flags.activation_bits, "--activation-bits");
  options.first_last = flags.first_last == "8" ? FirstLast::Eight : FirstLast::Same;
  for (const std::string& rule : flags.bits_for) options.bits_for.push_back(parse_bits_rule(rule));
  options.exclude = flags.exclude;
  options.target = flags.target == "tensorrt"   ? Target::TensorRt
                   : flags.target == "openvino" ? Target::OpenVino
                                                : Target::OnnxRuntime;
  if (!flags.profile.empty()) options.profile = flags.profile == "int8" ? Profile::Int8 : Profile::Exact;
  if (!flags.placement.empty())
    options.placement = flags.placement == "deploy" ? PlacementStyle::Deploy : PlacementStyle::Academic;
  if (flags.reduce_range != "auto")
    options.reduce_range = flags.reduce_range == "off"   ? ReduceRange::Off
                           : flags.reduce_range == "all" ? ReduceRange::All
                                                         : ReduceRange::FirstLast;
  const auto scheme = [](const std::string& text) -> std::optional<Scheme> {
    if (text.empty()) return std::nullopt;
    return text == "symmetric" ? Scheme::Symmetric : Scheme::Asymmetric;
  };
  options.weight_scheme = scheme(flags.weight_scheme);
  options.activation_scheme = scheme(flags.activation_scheme);
  options.search = flags.search == "grid" ? MseSearch::Grid : MseSearch::Shrink;
  if (flags.opset != 0) {
    options.opset = flags.opset;
    options.raise_opset = false;
  }
  options.percentile = flags.percentile;
  options.momentum = flags.momentum;
  if (!flags.vit.empty()) options.reparameterise_norms = flags.vit == "reparameterise";
  options.equalize = flags.equalize;
  options.correct_bias = flags.correct_bias;
  options.bias_samples = flags.bias_samples;
  options.batch = flags.batch;
  options.threads = threads;
  options.device = device;
  const auto method = parse_reconstruct_method(flags.method);
  if (!method) {
    refuse_reconstruct_flags(*flags.verb, flags.method);
    if (flags.call.options.resume || flags.call.options.memory_bytes > 0)
      fail("--resume and --memory are for methods that learn; method {} takes one pass over the data",
           flags.method);
    return options;
  }
  ReconstructOptions learning = reconstruct_options_of(flags.learning, *method);
  learning.seed = flags.call.options.seed;
  learning.memory = flags.call.options.memory_bytes;
  learning.resume = flags.call.options.resume;
  if (learning.checkpoints.empty() && !flags.call.options.output.empty())
    learning.checkpoints = flags.call.options.output + ".checkpoints";
  options.reconstruct = std::move(learning);
  return options;
}

/// What would be quantised, without data.
void show_plan(QuantizeFlags& flags, const Graph& model, const QuantizeOptions& options) {
  flags.call.check_outputs(false);
  QuantizationPlan plan = plan_quantization(model, options);
  Graph& graph = plan.graph;
  infer_shapes(graph, concrete_input_shapes(graph, parse_shape_flags(flags.shapes)));
  const Cost cost = measure_cost(graph);
  std::map<std::string, int> bits;
  for (const LayerResult& layer : plan.layers) bits[layer.name] = layer.weight_bits;
  const auto bits_of = [&](const Node& node) {
    const auto found = bits.find(layer_name(node));
    return found == bits.end() ? kFloatBits : found->second;
  };
  json units = json::array();
  std::vector<std::vector<std::string>> rows;
  for (const Unit& unit : find_units(graph)) {
    json ops = json::array();
    std::string words;
    std::int64_t macs = 0;
    for (const int node : unit.nodes) {
      ops.push_back(graph.nodes[static_cast<std::size_t>(node)].op_type);
      macs += cost.node_macs.at(static_cast<std::size_t>(node));
    }
    for (const int node : unit.layers)
      words += (words.empty() ? "" : " ") + graph.nodes[static_cast<std::size_t>(node)].op_type;
    const double capacity = unit_capacity(graph, unit, bits_of);
    const std::int64_t weights = unit_weights(graph, unit);
    units.push_back({{"name", unit.name},
                     {"ops", ops},
                     {"weights", weights},
                     {"macs", macs},
                     {"modcap", capacity},
                     {"inputs", unit.inputs},
                     {"outputs", unit.outputs},
                     {"stage_boundary", unit.stage_boundary}});
    rows.push_back({unit.name, words, std::to_string(weights), std::to_string(macs),
                    fmt::format("{:.0f}", capacity), unit.stage_boundary ? "yes" : ""});
  }
  json planned = json::array();
  for (const LayerResult& layer : plan.layers)
    planned.push_back({{"name", layer.name},
                       {"op", layer.op},
                       {"weight_bits", layer.weight_bits},
                       {"activation_bits", layer.activation_bits},
                       {"bytes", layer.bytes},
                       {"float_bytes", layer.float_bytes},
                       {"weight_range", {layer.weight_low, layer.weight_high}}});
  const auto notes = notes_on_use(options.target, plan.reduce_range, plan.layers, graph);
  plan.notes.insert(plan.notes.end(), notes.begin(), notes.end());
  if (const std::string warning = nothing_quantized(plan.layers); !warning.empty()) flags.call.warn(warning);
  flags.call.say("{}", format_table({"unit", "layers", "weights", "MACs", "ModCap", "stage boundary"}, rows));
  flags.call.say("\n{}", layer_table(plan.layers));
  for (const std::string& note : plan.notes) flags.call.say("note: {}", note);
  // Calibrated methods learn nothing jointly, so no units are grouped.
  json result{{"units", units}, {"groups", json::array()}, {"layers", planned}, {"notes", plan.notes}};
  result.update(choices_json(plan.profile, plan.placement, plan.reduce_range));
  const auto files = write_plan(
      flags.call, result,
      {table_of("Units", units, {"name", "ops", "weights", "macs", "modcap", "stage_boundary"}),
       table_of("Layers", planned, {"name", "op", "weight_bits", "activation_bits", "bytes", "float_bytes"})},
      plan.notes);
  for (const std::string& file : files) flags.call.say("wrote {}", file);
  flags.call.finish(result, files);
}

RunBatch runner(Executor& executor) {
  return [&executor](const Feeds& feeds) { return executor.run(feeds); };
}

void run_quantize(QuantizeFlags& flags) {
  Invocation& call = flags.call;
  const at::Device device = set_up_torch(call);
  const at::NoGradGuard no_grad;
  const QuantizeOptions options = options_of(flags, call.threads(), device);
  const std::vector<int> sweep = flags.sweep.empty() ? std::vector<int>() : parse_sweep(flags.sweep);
  if (flags.dry_run) {
    show_plan(flags, read_onnx(call.options.model), options);
    return;
  }
  if (call.options.output.empty()) fail("quantize needs -o FILE for the result (or --dry-run)");
  if (flags.calib.empty() && needs_calibration(options))
    fail(
        "quantize needs --calib DATA to {} (only weights, with --activation-bits off, do without; or "
        "--dry-run)",
        options.correct_bias ? "correct biases on" : "observe activations on");
  if (flags.calib.empty() && flags.data.empty() && !sweep.empty())
    fail("--sweep needs --calib or --data to measure on");
  const Graph model = read_onnx(call.options.model);
  call.check_outputs();
  const Preprocess preprocess = preprocess_for(call.options.model, model, flags.preprocess);
  const std::int64_t limit = call.options.limit > 0 ? call.options.limit : -1;
  const std::int64_t samples = flags.calib_samples > 0 ? flags.calib_samples
                               : options.reconstruct   ? kLearningSamples
                                                       : kRangeSamples;
  const std::int64_t wanted = limit > 0 ? std::min(limit, samples) : samples;
  const DatasetPtr data = flags.data.empty() ? nullptr : open_dataset(flags.data, preprocess);
  // Where nothing is calibrated, the data only measure.
  const DatasetPtr seen = flags.calib.empty() ? data : open_dataset(flags.calib, preprocess);
  const DatasetPtr calib = seen ? seeded_subset(seen, wanted, call.options.seed) : nullptr;
  if (data)
    if (const std::string hint = unused_labels(flags.data, *data); !hint.empty()) call.warn(hint);

  Quantized quantized;
  try {
    quantized = quantize(model, calib, options, call.progress());
  } catch (const Interrupted&) {
    if (options.reconstruct)
      call.warn(fmt::format("finished units are kept in '{}'; the same command with --resume goes on",
                            options.reconstruct->checkpoints.string()));
    throw;
  }
  const auto notes = notes_on_use(options.target, quantized.reduce_range, quantized.layers, quantized.graph);
  quantized.notes.insert(quantized.notes.end(), notes.begin(), notes.end());
  if (seen)
    if (std::string note = assumed_preprocess(call.options.model, model, flags.preprocess,
                                              flags.calib.empty() ? flags.data : flags.calib);
        !note.empty())
      quantized.notes.push_back(std::move(note));
  keep_preprocess(quantized.graph, preprocess);

  const EvaluateOptions scoring{.batch = quantized.batch,
                                .threads = call.threads(),
                                .limit = limit,
                                .seed = call.options.seed,
                                .preprocess = preprocess,
                                .progress = &call.progress()};
  Executor original(model, {.device = device}), result(quantized.graph, {.device = device});
  QuantizeSummary summary{.model = call.options.model, .method = flags.method, .options = options};
  const DatasetPtr& scored = data ? data : calib;
  if (data) summary.before = evaluate(model, runner(original), scored, scoring);
  if (scored) {
    summary.after = evaluate(quantized.graph, runner(result), scored, scoring, runner(original));
    if (!data) summary.after->top1 = summary.after->top5 = summary.after->loss = std::nullopt;
  }
  for (const int bits : sweep) {
    QuantizeOptions other = options;
    other.weight_bits = bits;
    other.activation_bits = options.activation_bits == kFloatBits ? kFloatBits : bits;
    other.profile = Profile::Exact;  // one placement for all points of the curve
    other.report_samples = 0;
    if (other.reconstruct) other.reconstruct->checkpoints.clear();
    const Quantized point = quantize(model, calib, other, call.progress());
    Executor executor(point.graph, {.device = device});
    Evaluation score = evaluate(point.graph, runner(executor), scored, scoring, runner(original));
    if (!data) score.top1 = score.top5 = score.loss = std::nullopt;
    summary.sweep.push_back({bits, score});
  }

  write_onnx(quantized.graph, call.options.output);  // after all that can fail for the user's reasons
  summary.bytes_before = static_cast<std::int64_t>(std::filesystem::file_size(call.options.model));
  summary.bytes_after = static_cast<std::int64_t>(std::filesystem::file_size(call.options.output));

  std::vector<std::string> files{call.options.output};
  summary.warnings = warnings_about(quantized, summary);
  if (std::string warning = nothing_quantized(quantized.layers); !warning.empty())
    summary.warnings.push_back(std::move(warning));
  const json object = result_json(quantized, summary);
  if (!call.options.report.empty()) {
    const auto written =
        write_report(report_of(quantized, summary), call.envelope(object, files), call.options.report);
    files.insert(files.end(), written.begin(), written.end());
  }
  if (options.reconstruct && flags.learning.checkpoints.empty()) {
    std::error_code ignored;  // the result is there; a folder left behind does no harm
    std::filesystem::remove_all(options.reconstruct->checkpoints, ignored);
  }
  call.say("{}", layer_table(quantized.layers));
  if (quantized.reconstruction) {
    call.say("{}", reconstruction_table(*quantized.reconstruction));
    if (const std::string text = oscillation_text(*quantized.reconstruction); !text.empty())
      call.say("{}", text);
  }
  for (const std::string& note : quantized.notes) call.say("note: {}", note);
  call.say("\n{}", summary_table(quantized, summary));
  for (const std::string& warning : summary.warnings) call.warn(warning);
  for (const std::string& file : files) call.say("wrote {}", file);
  call.finish(object, files);
}

}  // namespace

void add_quantize(CLI::App& app) {
  auto flags = std::make_shared<QuantizeFlags>();
  CLI::App* verb = app.add_subcommand("quantize", summary_of("quantize"));
  flags->call.add_flags(*verb, {Flag::Output, Flag::Seed, Flag::Threads, Flag::Device, Flag::Limit,
                                Flag::Memory, Flag::Resume});
  flags->verb = verb;
  verb->add_option("--calib", flags->calib,
                   std::string("data to calibrate on (not needed with --activation-bits off): ") + kDataHelp);
  verb->add_option("--calib-samples", flags->calib_samples, "how many samples of it, chosen by --seed")
      ->check(at_least(1))
      ->capture_default_str();
  verb->add_option("--data", flags->data, "labelled data to measure the accuracy on, before and after");
  verb->add_option("--method", flags->method,
                   "minmax, percentile, mse: how ranges are chosen; adaround, brecq, qdrop, mrecg: learn the "
                   "rounding of weights and the scales of activations from ranges by mse")
      ->check(CLI::IsMember({"minmax", "percentile", "mse", "adaround", "brecq", "qdrop", "mrecg"}))
      ->capture_default_str();
  verb->add_option("--weight-bits", flags->weight_bits, "2 to 8, or off")->capture_default_str();
  verb->add_option("--activation-bits", flags->activation_bits, "2 to 8, or off")->capture_default_str();
  verb->add_option("--first-last", flags->first_last,
                   "bits of the first and last layers: 8, or same as the others")
      ->check(CLI::IsMember({"8", "same"}))
      ->capture_default_str();
  verb->add_option(
      "--bits-for", flags->bits_for,
      "PATTERN=BITS for layers by name, for example 'layer1/*=4' (weights), 'head=w8a8', '*/fc=off'; "
      "repeatable, later ones win");
  verb->add_option("--exclude", flags->exclude, "pattern of layer names that stay in float; repeatable");
  verb->add_option("--target", flags->target, "where the file will run")
      ->check(CLI::IsMember({"ort", "tensorrt", "openvino"}))
      ->capture_default_str();
  verb->add_option("--profile", flags->profile,
                   "exact: a faithful simulation of any bits; int8: what integer kernels run "
                   "(default: int8 if all activations have 8 bits)")
      ->check(CLI::IsMember({"exact", "int8"}));
  verb->add_option("--placement", flags->placement,
                   "academic: quantise the inputs of layers only; deploy: also around Add, Concat, pools "
                   "(default: deploy for int8)")
      ->check(CLI::IsMember({"academic", "deploy"}));
  verb->add_option(
          "--reduce-range", flags->reduce_range,
          "7 instead of 8 bits for weights, against saturation on x86 without VNNI (auto: all for ort)")
      ->check(CLI::IsMember({"auto", "first_last", "all", "off"}))
      ->capture_default_str();
  verb->add_option("--weight-scheme", flags->weight_scheme,
                   "zero-points of weights below 8 bits (default: asymmetric; symmetric for tensorrt)")
      ->check(CLI::IsMember({"symmetric", "asymmetric"}));
  verb->add_option("--activation-scheme", flags->activation_scheme, "zero-points of activations (likewise)")
      ->check(CLI::IsMember({"symmetric", "asymmetric"}));
  verb->add_option("--search", flags->search,
                   "how mse searches weight ranges: shrink both ends, or a grid with zero-points")
      ->check(CLI::IsMember({"shrink", "grid"}))
      ->capture_default_str();
  verb->add_option("--percentile", flags->percentile,
                   "share in percent that stays inside (method percentile)")
      ->check(in_range(50.0, 100.0))
      ->capture_default_str();
  verb->add_option("--momentum", flags->momentum,
                   "average min-max ranges over batches instead of uniting them, for example 0.9")
      ->check(in_range(0.0, 0.999999));
  verb->add_option("--vit", flags->vit,
                   "layer norms of transformers: reparameterise (one range for all channels; default below 8 "
                   "bits) or plain")
      ->check(CLI::IsMember({"reparameterise", "plain"}));
  verb->add_flag("--equalize", flags->equalize, "cross-layer equalisation of weight ranges first");
  verb->add_flag("--correct-bias", flags->correct_bias,
                 "correct the mean of every layer's output through its bias");
  verb->add_option("--bias-samples", flags->bias_samples, "samples for --correct-bias")
      ->check(at_least(1))
      ->capture_default_str();
  verb->add_option(
      "--opset", flags->opset,
      "opset of the result (default: the model's, at least 13); from 21 on 4 bits are stored as int4");
  verb->add_option("--batch", flags->batch, "samples in one run")
      ->check(in_range(1, 1 << 16))
      ->capture_default_str();
  verb->add_option("--sweep", flags->sweep, "also measure these bits, for example 8,6,4,3,2");
  flags->learning.add_to(*verb);
  verb->add_flag("--dry-run", flags->dry_run, "show units, layers and bits; write no model");
  verb->add_option("--shape", flags->shapes, "NAME=1,3,224,224: shape of an open input, for --dry-run");
  add_preprocess_flags(*verb, flags->preprocess);
  verb->callback([flags] { run_quantize(*flags); });
}

}  // namespace lithe::cli
