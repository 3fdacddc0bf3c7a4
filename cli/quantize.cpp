// `lithe quantize`: post-training quantisation, with calibrated ranges and learnt roundings.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <sstream>

#include "cli/budget_report.h"
#include "cli/data_flags.h"
#include "cli/dfsq_flags.h"
#include "cli/model_errors.h"
#include "cli/overwrite.h"
#include "cli/preview.h"
#include "cli/quantize_data.h"
#include "cli/quantize_notes.h"
#include "cli/quantize_plan.h"
#include "cli/quantize_report.h"
#include "cli/reconstruct_flags.h"
#include "cli/reconstruct_report.h"
#include "cli/score_json.h"
#include "cli/sizes.h"
#include "cli/torch_setup.h"
#include "cli/validators.h"
#include "cli/verbs.h"
#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/data/patches.h"
#include "lithe/graph/onnx.h"
#include "lithe/quantize/quantize.h"
#include "lithe/quantize/reconstruct/reconstruct_checkpoint.h"

namespace lithe::cli {
namespace {

namespace fs = std::filesystem;

struct QuantizeFlags {
  Invocation call{"quantize"};
  PreprocessFlags preprocess;
  ReconstructFlags learning;
  DfsqFlags points;
  const CLI::App* verb = nullptr;
  std::string calib, data, method = "mse", weight_bits = "8", activation_bits = "8", attention_bits = "off",
                           first_last = "8", target = "ort", profile, placement, reduce_range = "auto",
                           weight_scheme, activation_scheme, search = "shrink", sweep, vit, budget,
                           budget_bits = "2,3,4,5,6,7,8";
  std::vector<std::string> exclude, bits_for, shapes;
  std::int64_t calib_samples = 0, calib_patch = 0, preview = 0, batch = 32, opset = 0, bias_samples = 128;
  double percentile = 99.99, momentum = 0;
  bool equalize = false, correct_bias = false, dry_run = false;
};

constexpr std::int64_t kRangeSamples = 512, kLearningSamples = 1024, kPointSamples = 32, kPatchSamples = 256;

/// Of batches that are cut once there are at least sixteen, as published.
std::int64_t default_samples(const QuantizeOptions& options) {
  if (options.dfsq) return options.reconstruct ? kPatchSamples : kPointSamples;
  if (!options.reconstruct) return kRangeSamples;
  const bool cut = options.reconstruct->draw == Draw::Batches;
  return cut ? std::max(kLearningSamples, 16 * options.reconstruct->batch) : kLearningSamples;
}

int parse_bits(const std::string& text, const char* flag) {
  if (text == "off" || text == "32") return kFloatBits;
  if (text.size() == 1 && text[0] >= '2' && text[0] <= '8') return text[0] - '0';
  fail("{} {}: give 2 to 8, or off", flag, text);
}

std::vector<int> parse_bits_list(const std::string& text, const char* flag) {
  std::vector<int> bits;
  std::stringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) bits.push_back(parse_bits(part, flag));
  if (bits.empty()) fail("{}: give bits, for example 8,6,4,3,2", flag);
  return bits;
}

bool was_given(const QuantizeFlags& flags, const char* flag) {
  return flags.verb->get_option(flag)->count() > 0;
}

/// The budget of --budget, which stands for the bits of weights.
void read_budget(const QuantizeFlags& flags, QuantizeOptions& options) {
  if (flags.budget.empty()) {
    if (was_given(flags, "--budget-bits")) fail("--budget-bits are what a --budget chooses from; give one");
    return;
  }
  options.budget = parse_budget(flags.budget);
  if (was_given(flags, "--weight-bits"))
    fail(
        "--budget chooses the bits of weights; leave --weight-bits out, or fix single layers with "
        "--bits-for");
  if (!flags.sweep.empty()) fail("--sweep gives all layers the same bits, --budget each its own; choose one");
  std::vector<int>& bits = options.budget_bits = parse_bits_list(flags.budget_bits, "--budget-bits");
  std::sort(bits.begin(), bits.end());
  bits.erase(std::unique(bits.begin(), bits.end()), bits.end());
  if (bits.back() == kFloatBits) fail("--budget-bits: give 2 to 8; layers to leave in float go to --exclude");
}

QuantizeOptions options_of(const QuantizeFlags& flags, int threads, at::Device device) {
  QuantizeOptions options;
  options.method = flags.method == "minmax"       ? QuantizeMethod::MinMax
                   : flags.method == "percentile" ? QuantizeMethod::Percentile
                                                  : QuantizeMethod::Mse;
  options.weight_bits = parse_bits(flags.weight_bits, "--weight-bits");
  options.activation_bits = parse_bits(flags.activation_bits, "--activation-bits");
  options.attention_bits = parse_bits(flags.attention_bits, "--attention-bits");
  options.first_last = flags.first_last == "8" ? FirstLast::Eight : FirstLast::Same;
  read_budget(flags, options);
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
  const bool subset = flags.method == "dfsq";
  if (subset) {
    refuse_range_flags(*flags.verb);
    options.dfsq = dfsq_options_of(flags.points, flags.call.options.seed, flags.call.options.memory_bytes);
    refuse_idle_dfsq_flags(*flags.verb, options);
  } else {
    refuse_dfsq_flags(*flags.verb, flags.method);
  }
  const auto method = parse_reconstruct_method(subset ? flags.points.reconstruct : flags.method);
  if (!method) {
    refuse_reconstruct_flags(*flags.verb, flags.method);
    if (flags.call.options.resume || (flags.call.options.memory_bytes > 0 && !subset))
      fail("--resume and --memory are for methods that learn; method {} takes one pass over the data",
           flags.method);
    return options;
  }
  ReconstructOptions learning = reconstruct_options_of(flags.learning, *method);
  learning.seed = flags.call.options.seed;
  learning.memory = flags.call.options.memory_bytes;
  learning.resume = flags.call.options.resume;
  if (learning.checkpoints.empty() && !flags.call.options.output.empty())
    learning.checkpoints = default_checkpoints(flags.call.options.output);
  options.reconstruct = std::move(learning);
  return options;
}

RunBatch runner(Executor& executor) {
  return [&executor](const Feeds& feeds) { return executor.run(feeds); };
}

/// Every picture is decoded once, where its patches fit into memory.
DatasetPtr cut_patches(const DatasetPtr& data, std::int64_t side, std::int64_t count, const Invocation& call,
                       ImageLayout layout) {
  KeepOptions keeping{.threads = call.threads()};
  if (call.options.memory_bytes > 0) keeping.memory = call.options.memory_bytes;
  return kept_patches(data, side, count, call.options.seed, layout, keeping);
}

void quantize_model(QuantizeFlags& flags, const QuantizeOptions& options) {
  Invocation& call = flags.call;
  const std::vector<int> sweep =
      flags.sweep.empty() ? std::vector<int>() : parse_bits_list(flags.sweep, "--sweep");
  if (call.options.output.empty()) fail("quantize needs -o FILE for the result (or --dry-run)");
  if (flags.calib.empty() && needs_calibration(options))
    fail(
        "quantize needs --calib DATA to {} (only weights, with --activation-bits off, do without; or "
        "--dry-run)",
        options.budget         ? "choose bits on"
        : options.correct_bias ? "correct biases on"
                               : "observe activations on");
  if (flags.preview > 0 && call.options.report.empty())
    fail("--preview puts pictures into the report: give --report DIR");
  if (flags.preview > 0 && flags.calib.empty() && flags.data.empty())
    fail("--preview needs --data or --calib to show");
  if (flags.calib.empty() && flags.data.empty() && !sweep.empty())
    fail("--sweep needs --calib or --data to measure on");
  const Graph model = read_fitting_model(call.options.model, {});
  check_overwriting(call, {{"--calib", flags.calib}, {"--data", flags.data}});
  if (options.reconstruct) {
    require_parent_folder(options.reconstruct->checkpoints, "--checkpoints");
    require_writable_folder(options.reconstruct->checkpoints);
    check_listed_groups(model, options);
    const fs::path kept = reconstruction_checkpoint(options.reconstruct->checkpoints);
    if (!options.reconstruct->resume && fs::exists(kept))
      call.warn(fmt::format(
          "'{}' of an earlier run is replaced once a unit is finished; --resume would go on from it",
          kept.string()));
  }
  const Preprocess preprocess = preprocess_for(call.options.model, model, flags.preprocess);
  const std::int64_t limit = call.options.limit > 0 ? call.options.limit : -1;
  const std::int64_t samples = flags.calib_samples > 0 ? flags.calib_samples : default_samples(options);
  const std::int64_t wanted = limit > 0 ? std::min(limit, samples) : samples;
  const DatasetPtr data =
      flags.data.empty() ? nullptr : open_measured(flags.data, preprocess, !flags.calib.empty());
  // Where nothing is calibrated, the data only measure.
  const DatasetPtr seen = flags.calib.empty() ? data : open_calibration(flags.calib, preprocess);
  DatasetPtr calib = seen ? seeded_subset(seen, wanted, call.options.seed) : nullptr;
  if (calib && flags.calib_patch > 0)
    calib = cut_patches(calib, flags.calib_patch, samples, call, preprocess.layout);
  if (calib) require_inputs(model, *calib, flags.calib.empty() ? flags.data : flags.calib);
  if (calib && options.reconstruct) require_one_size(calib, call.threads());
  const PreviewOptions previews{.images = flags.preview, .preprocess = preprocess, .device = options.device};
  const DatasetPtr shown = data ? seeded_subset(data, limit, call.options.seed) : calib;
  if (flags.preview > 0) require_pictures(model, shown, previews);
  if (data)
    if (const std::string hint = unused_labels(flags.data, *data); !hint.empty()) call.warn(hint);

  Quantized quantized = quantize(model, calib, options, call.progress());
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
  Executor original(model, {.device = options.device}), result(quantized.graph, {.device = options.device});
  QuantizeSummary summary{.model = call.options.model, .method = flags.method, .options = options};
  const DatasetPtr& scored = data ? data : calib;
  if (data) summary.before = evaluate(model, runner(original), scored, scoring);
  if (scored) {
    summary.after = evaluate(quantized.graph, runner(result), scored, scoring, runner(original));
    if (!data) summary.after->top1 = summary.after->top5 = summary.after->loss = std::nullopt;
    for (std::string& note : notes_on_scores(*summary.after)) quantized.notes.push_back(std::move(note));
  }
  for (const int bits : sweep) {
    QuantizeOptions other = options;
    other.weight_bits = bits;
    other.activation_bits = options.activation_bits == kFloatBits ? kFloatBits : bits;
    other.profile = Profile::Exact;  // one placement for all points of the curve
    other.report_samples = 0;
    if (other.reconstruct) other.reconstruct->checkpoints.clear();
    const Quantized point = quantize(model, calib, other, call.progress());
    Executor executor(point.graph, {.device = options.device});
    Evaluation score = evaluate(point.graph, runner(executor), scored, scoring, runner(original));
    if (!data) score.top1 = score.top5 = score.loss = std::nullopt;
    summary.sweep.push_back({bits, score});
  }

  std::vector<Picture> pictures;
  if (flags.preview > 0) pictures = preview(model, quantized, shown, flags.method, previews);
  write_onnx(quantized.graph, call.options.output);  // after all that can fail for the user's reasons
  summary.bytes_before = static_cast<std::int64_t>(std::filesystem::file_size(call.options.model));
  summary.bytes_after = static_cast<std::int64_t>(std::filesystem::file_size(call.options.output));

  std::vector<std::string> files{call.options.output};
  summary.warnings = warnings_about(quantized, summary);
  if (std::string warning = nothing_quantized(quantized.layers); !warning.empty())
    summary.warnings.push_back(std::move(warning));
  const json object = result_json(quantized, summary);
  if (!call.options.report.empty()) {
    Report report = report_of(quantized, summary);
    if (!pictures.empty()) report.add(Heading{"Previews"});
    for (Picture& picture : pictures) report.add(std::move(picture));
    const auto written = write_report(report, call.envelope(object, files), call.options.report);
    files.insert(files.end(), written.begin(), written.end());
  }
  if (options.reconstruct && flags.learning.checkpoints.empty())
    remove_checkpoints(options.reconstruct->checkpoints);
  call.say("{}", layer_table(quantized.layers));
  if (quantized.dfsq) call.say("{}", dfsq_text(*quantized.dfsq));
  if (quantized.precision) call.say("{}", budget_line(*quantized.precision, *options.budget));
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

/// For the plan, which opens the data that are named although it needs none: they may not fit.
std::vector<std::string> shapes_of_plan(const QuantizeFlags& flags, const Graph& model) {
  const Preprocess preprocess = preprocess_for(flags.call.options.model, model, flags.preprocess);
  DatasetPtr seen =
      flags.data.empty() ? nullptr : open_measured(flags.data, preprocess, !flags.calib.empty());
  if (!flags.calib.empty()) seen = open_calibration(flags.calib, preprocess);
  if (seen) require_inputs(model, *seen, flags.calib.empty() ? flags.data : flags.calib);
  if (seen && flags.calib_patch > 0)
    seen = random_patches(seen, flags.calib_patch, 1, flags.call.options.seed, preprocess.layout);
  return plan_shapes(model, flags.shapes, seen, flags.method == "dfsq");
}

void run_quantize(QuantizeFlags& flags) {
  Invocation& call = flags.call;
  const at::Device device = set_up_torch(call);
  const at::NoGradGuard no_grad;
  const QuantizeOptions options = options_of(flags, call.threads(), device);
  if (flags.dry_run) {
    const Graph model = read_fitting_model(call.options.model, parse_shape_flags(flags.shapes));
    show_quantization_plan(call, model, options, shapes_of_plan(flags, model));
    return;
  }
  try {
    quantize_model(flags, options);
  } catch (const Interrupted&) {
    std::error_code missing;
    if (options.reconstruct && std::filesystem::exists(options.reconstruct->checkpoints, missing))
      call.warn(fmt::format("finished units are kept in '{}'; the same command with --resume goes on",
                            options.reconstruct->checkpoints.string()));
    throw;
  }
}

}  // namespace

void add_quantize(CLI::App& app) {
  auto flags = std::make_shared<QuantizeFlags>();
  CLI::App* verb = app.add_subcommand("quantize", summary_of("quantize"));
  flags->verb = verb;
  const auto grouped = [verb](const char* group) {
    return [verb, group](const char* name, auto& value, const std::string& what) {
      return verb->add_option(name, value, what)->group(group);
    };
  };
  // What most calls need comes first.
  verb->add_option("--calib", flags->calib,
                   std::string("data to calibrate on (not needed with --activation-bits off): ") + kDataHelp);
  verb->add_option("--data", flags->data, "labelled data to measure the accuracy on, before and after");
  verb->add_option("--method", flags->method,
                   "minmax, percentile, mse: how ranges are chosen; adaround, brecq, qdrop, mrecg: learn the "
                   "rounding of weights and the scales of activations from ranges by mse; dfsq: round the "
                   "activations of "
                   "image-to-image models to a few points")
      ->check(CLI::IsMember({"minmax", "percentile", "mse", "adaround", "brecq", "qdrop", "mrecg", "dfsq"}))
      ->capture_default_str();
  verb->add_option("--weight-bits", flags->weight_bits, "2 to 8, or off")->capture_default_str();
  verb->add_option("--activation-bits", flags->activation_bits, "2 to 8, or off")->capture_default_str();
  verb->add_option(
      "--budget", flags->budget,
      "instead of --weight-bits: bits for each layer by how much it matters, so that the file has "
      "size=1.2M, size=25% (of the model) or weights bits=4.5 in the mean");
  verb->add_flag("--dry-run", flags->dry_run, "show units, groups, layers and bits; write no model");
  flags->call.add_flags(*verb, {Flag::Output, Flag::Seed, Flag::Threads, Flag::Device, Flag::Limit,
                                Flag::Memory, Flag::Resume});
  verb->get_option("--memory")
      ->description(
          "memory to stay within, with a unit: 512M, 4G (at least 1M); of methods that learn, and of dfsq "
          "(default: 1G)");

  const auto layer = grouped("Bits of single layers");
  layer("--first-last", flags->first_last, "bits of the first and last layers: 8, or same as the others")
      ->check(CLI::IsMember({"8", "same"}))
      ->capture_default_str();
  layer("--bits-for", flags->bits_for,
        "PATTERN=BITS for layers by name, for example 'layer1/*=4' (weights), 'head=w8a8', '*/fc=off'; "
        "repeatable, later ones win");
  layer("--exclude", flags->exclude, "pattern of layer names that stay in float; repeatable");
  layer("--budget-bits", flags->budget_bits, "what --budget chooses from")->capture_default_str();
  layer("--sweep", flags->sweep, "also measure these bits for all layers, for example 8,6,4,3,2");

  const auto use = grouped("Where it will run");
  use("--target", flags->target, "runtime")
      ->check(CLI::IsMember({"ort", "tensorrt", "openvino"}))
      ->capture_default_str();
  use("--profile", flags->profile,
      "exact: a faithful simulation of any bits; int8: what integer kernels run (default: int8 if all "
      "activations have 8 bits)")
      ->check(CLI::IsMember({"exact", "int8"}));
  use("--placement", flags->placement,
      "academic: quantise the inputs of layers only; deploy: also around Add, Concat, pools (default: deploy "
      "for int8)")
      ->check(CLI::IsMember({"academic", "deploy"}));
  use("--reduce-range", flags->reduce_range,
      "7 instead of 8 bits for weights, against saturation on x86 without VNNI (auto: all for ort)")
      ->check(CLI::IsMember({"auto", "first_last", "all", "off"}))
      ->capture_default_str();
  use("--weight-scheme", flags->weight_scheme,
      "zero-points of weights below 8 bits (default: asymmetric; symmetric for tensorrt)")
      ->check(CLI::IsMember({"symmetric", "asymmetric"}));
  use("--activation-scheme", flags->activation_scheme, "zero-points of activations (likewise)")
      ->check(CLI::IsMember({"symmetric", "asymmetric"}));
  use("--opset", flags->opset,
      "opset of the result (default: the model's, at least 13); from 21 on 4 bits are stored as int4");

  const auto range = grouped("Ranges");
  range(
      "--calib-samples", flags->calib_samples,
      "how many samples of --calib, chosen by --seed (default: 512; methods that learn: 1024, or with --draw "
      "batches 16 x --learn-batch if that is more; dfsq: 32, with --reconstruct 256)")
      ->check(at_least(1));
  range("--batch", flags->batch, "samples in one run")->check(in_range(1, 1 << 16))->capture_default_str();
  range("--search", flags->search,
        "how mse searches weight ranges: shrink both ends, or a grid with zero-points")
      ->check(CLI::IsMember({"shrink", "grid"}))
      ->capture_default_str();
  range("--percentile", flags->percentile, "share in percent that stays inside (method percentile)")
      ->check(in_range(50.0, 100.0))
      ->capture_default_str();
  range("--momentum", flags->momentum,
        "average min-max ranges over batches instead of uniting them, for example 0.9")
      ->check(in_range(0.0, 0.999999));
  range("--attention-bits", flags->attention_bits,
        "transformers: bits of both operands of products of two activations, 2 to 8 (8 is sensible), or off: "
        "as "
        "the placement has it, which mostly leaves them in float")
      ->capture_default_str();
  range("--vit", flags->vit,
        "layer norms of transformers: reparameterise (one range for all channels; default below 8 bits) or "
        "plain")
      ->check(CLI::IsMember({"reparameterise", "plain"}));
  verb->add_flag("--equalize", flags->equalize, "cross-layer equalisation of weight ranges first")
      ->group("Ranges");
  verb->add_flag("--correct-bias", flags->correct_bias,
                 "correct the mean of every layer's output through its bias")
      ->group("Ranges");
  range("--bias-samples", flags->bias_samples, "samples for --correct-bias")
      ->check(at_least(1))
      ->capture_default_str();
  range("--shape", flags->shapes, "NAME=1,3,224,224: shape of an open input, for --dry-run");
  const auto pictures = grouped("Image-to-image models");
  pictures("--calib-patch", flags->calib_patch,
           "calibrate on random patches of so many pixels, --calib-samples of them (0: whole images)")
      ->check(in_range(0, 1 << 16));
  pictures("--preview", flags->preview,
           "show so many images in the report: float, this method and min-max beside one another")
      ->check(in_range(0, 100));
  flags->points.add_to(*verb);
  flags->learning.add_to(*verb);
  add_preprocess_flags(*verb, flags->preprocess);
  verb->callback(
      [flags] { naming_model("quantize", flags->call.options.model, [&] { run_quantize(*flags); }); });
}

}  // namespace lithe::cli
