// `lithe sparsify`: N:M sparse weights.
#include <cstdio>
#include <filesystem>
#include <set>
#include <sstream>

#include "cli/data_flags.h"
#include "cli/overwrite.h"
#include "cli/plan_report.h"
#include "cli/processes.h"
#include "cli/sparsify_report.h"
#include "cli/train_flags.h"
#include "cli/train_report.h"
#include "cli/validators.h"
#include "cli/verbs.h"
#include "lithe/base/error.h"
#include "lithe/graph/onnx.h"
#include "lithe/sparsify/sparsify.h"

namespace lithe::cli {
namespace {

constexpr double kScratchRate = 0.1, kTunedRate = 0.02;
constexpr double kAdamShare = 0.01;  // of these, for adamw

struct SparsifyFlags {
  Invocation call{"sparsify"};
  PreprocessFlags preprocess;
  RecipeFlags recipe;
  std::string data, val, pattern = "2:4", method = "spre", ragged = "skip", budget, spatial = "measured",
                         spatial_update, candidates;
  std::vector<std::string> pattern_for, include, exclude;
  bool prune_first = false, prune_last = false, prune_depthwise = false, permute = false, faithful = false,
       from_scratch = false, dry_run = false;
  std::int64_t norm_batches = 40, tighten = 0;
  double decay = 2e-4, branch_gamma = -1, margin = 0, distil = 0, temperature = 4;
  CLI::App* verb = nullptr;  // to ask which flags were given
};

/// The recipe of the flags; under --faithful that of the paper's code where they say nothing.
TrainOptions recipe_of(const SparsifyFlags& flags, at::Device device) {
  const double rate = flags.from_scratch ? kScratchRate : kTunedRate;
  TrainOptions train = training_options(flags.recipe, flags.call, device,
                                        flags.recipe.optimiser == "adamw" ? kAdamShare * rate : rate);
  if (!flags.faithful || flags.method != "spre") return train;
  const TrainOptions published = published_recipe(train);
  const auto open = [&](const char* flag) { return flags.verb->get_option(flag)->empty(); };
  if (open("--decay-all")) train.decay_all = published.decay_all;
  if (open("--schedule")) train.schedule = published.schedule;
  if (open("--warmup")) train.warmup_epochs = published.warmup_epochs;
  if (open("--label-smoothing")) train.label_smoothing = published.label_smoothing;
  if (open("--batch")) train.batch = published.batch;
  return train;
}

void refuse_idle_flags(const SparsifyFlags& flags) {
  const CLI::App& verb = *flags.verb;
  const std::string is = "with --method " + flags.method;
  std::vector<std::string> training = training_flags(verb);
  std::erase(training, "--batch");  // of re-estimating norms, too
  training.insert(training.end(), {"--distil", "--resume"});
  if (flags.method == "magnitude") refuse_idle(verb, training, is + " nothing is trained");
  if (flags.method == "magnitude" || flags.method == "asp")
    refuse_idle(verb, {"--decay", "--tighten"}, is + " masks do not change");
  if (flags.method != "spre")
    refuse_idle(verb, {"--branch-gamma", "--spatial-update", "--spatial-margin", "--spatial", "--faithful"},
                is + " there are no branches");
  if (flags.distil == 0) refuse_idle(verb, {"--temperature"}, "there is no --distil");
  if (flags.recipe.optimiser == "adamw")
    refuse_idle(verb, {"--momentum", "--nesterov"}, "it is for --optimiser sgd");
  if (flags.budget.empty())
    refuse_idle(verb, {"--candidates"}, "there is no --budget");
  else
    refuse_idle(verb, {"--pattern"}, "--budget chooses among --candidates");
}

SparsifyOptions options_of(const SparsifyFlags& flags, const Preprocess& preprocess, at::Device device) {
  SparsifyOptions options;
  options.method = flags.method == "magnitude" ? SparsifyMethod::Magnitude
                   : flags.method == "asp"     ? SparsifyMethod::Asp
                   : flags.method == "sr-ste"  ? SparsifyMethod::SrSte
                                               : SparsifyMethod::SpRe;
  options.layers = {.pattern = parse_sparsity(flags.pattern),
                    .ragged = flags.ragged == "pad"     ? Ragged::Pad
                              : flags.ragged == "error" ? Ragged::Error
                                                        : Ragged::Skip,
                    .prune_first = flags.prune_first,
                    .prune_last = flags.prune_last,
                    .prune_depthwise = flags.prune_depthwise,
                    .include = flags.include,
                    .exclude = flags.exclude};
  for (const std::string& rule : flags.pattern_for)
    options.layers.pattern_for.push_back(parse_pattern_rule(rule));
  if (!flags.budget.empty()) options.budget = parse_sparsity_budget(flags.budget);
  if (!flags.candidates.empty()) {
    options.choose.candidates.clear();
    std::stringstream parts(flags.candidates);
    for (std::string part; std::getline(parts, part, ',');)
      options.choose.candidates.push_back(parse_sparsity(part));
  }
  options.permute = flags.permute;
  options.decay = flags.decay;
  options.tighten_epochs = flags.tighten;
  options.faithful = flags.faithful;
  if (flags.branch_gamma >= 0) options.branch_gamma = flags.branch_gamma;
  if (!flags.spatial_update.empty())
    options.spatial_update = flags.spatial_update == "step"    ? SpatialUpdate::Step
                             : flags.spatial_update == "epoch" ? SpatialUpdate::Epoch
                                                               : SpatialUpdate::Never;
  options.spatial_margin = flags.margin;
  options.spatial = flags.spatial == "everywhere" ? SpatialChoice::Everywhere
                    : flags.spatial == "inverted" ? SpatialChoice::Inverted
                                                  : SpatialChoice::Measured;
  options.from_scratch = flags.from_scratch;
  options.distillation = flags.distil;
  options.temperature = flags.temperature;
  options.norm_batches = flags.norm_batches;

  options.train = recipe_of(flags, device);
  options.train.preprocess = preprocess;
  options.choose.batch = std::min<std::int64_t>(options.train.batch, 128);
  options.choose.threads = options.train.threads;
  options.choose.seed = options.train.seed;
  return options;
}

RunBatch runner(Executor& executor) {
  return [&executor](const Feeds& feeds) { return executor.run(feeds); };
}

void show_plan(SparsifyFlags& flags, const Graph& model, const SparsifyOptions& options) {
  flags.call.check_outputs(false);
  const std::vector<SparseLayer> layers = plan_sparsity(model, options);
  flags.call.say("{}", plan_table(layers));
  std::vector<std::string> notes;
  if (options.budget)
    notes.emplace_back("the budget chooses the patterns by measuring, which a dry run does not");
  const json plan = plan_json(layers);
  const json result{{"layers", plan}, {"units", plan}, {"groups", json::array()}};
  for (const std::string& note : notes) flags.call.say("note: {}", note);
  finish_plan(flags.call, result,
              {table_of("Layers", plan,
                        {"name", "op", "shape", "weights", "kept", "macs", "pattern", "dense_reason"})},
              notes);
}

void run_sparsify(SparsifyFlags& flags) {
  Invocation& call = flags.call;
  refuse_idle_flags(flags);
  Processes processes(call);
  const at::Device device = processes.device();
  const Graph model = read_onnx(call.options.model);
  const Preprocess preprocess = preprocess_for(call.options.model, model, flags.preprocess);
  SparsifyOptions options = options_of(flags, preprocess, device);
  if (flags.dry_run) return show_plan(flags, model, options);
  if (call.options.output.empty()) fail("sparsify needs -o FILE for the result (or --dry-run)");
  const bool trains = options.method != SparsifyMethod::Magnitude;
  if (trains && flags.data.empty())
    fail("--method {} trains and needs --data; without data there is --method magnitude", flags.method);
  options.train.collective = processes.join();
  processes.check_in_first([&] {
    check_overwriting(call, {{"--data", flags.data}, {"--val", flags.val}});
    if (trains) check_checkpoints(call, options.train.checkpoints);
  });
  const std::int64_t limit = call.options.limit;
  const auto open = [&](const std::string& spec) -> DatasetPtr {
    if (spec.empty()) return nullptr;
    const DatasetPtr data = open_dataset(spec, preprocess);
    if (const std::string hint = unused_labels(spec, *data); !hint.empty()) call.warn(hint);
    return limit > 0 ? seeded_subset(data, limit, call.options.seed) : data;
  };
  const DatasetPtr data = open(flags.data), held_out = open(flags.val);
  if (const std::string& spec = flags.data.empty() ? flags.val : flags.data; !spec.empty())
    if (const std::string note = assumed_preprocess(call.options.model, model, flags.preprocess, spec);
        !note.empty())
      call.warn(note);

  SparsifySummary summary{.model = call.options.model, .options = options};
  const EvaluateOptions scoring{.batch = std::min<std::int64_t>(options.train.batch, 128),
                                .threads = call.threads(),
                                .seed = call.options.seed,
                                .preprocess = preprocess,
                                .progress = &call.progress()};
  const auto score = [&](const Graph& graph, const RunBatch& against) {
    const at::NoGradGuard no_grad;
    Executor executor(graph, {.device = device});
    return evaluate(graph, runner(executor), held_out, scoring, against);
  };
  if (held_out) summary.before = score(model, {});
  options.train.on_epoch = [&](const EpochRecord& record) {
    call.say("{}", epoch_line(record, options.train.epochs));
    std::fflush(stdout);  // also where it is a file that somebody follows
  };
  std::set<std::string> told;
  options.train.on_note = [&](const std::string& text) {
    call.warn(text);
    told.insert(text);
  };
  Sparsified result = sparsify(model, data, options, call.progress());
  if (!processes.first()) return;
  keep_preprocess(result.graph, preprocess);
  if (held_out) {
    Executor dense(model, {.device = device});
    summary.after = score(result.graph, runner(dense));
  }

  write_onnx(result.graph, call.options.output);  // after all that can fail for the user's reasons
  if (trains && flags.recipe.checkpoints.empty()) remove_checkpoints(options.train.checkpoints);
  summary.bytes_before = static_cast<std::int64_t>(std::filesystem::file_size(call.options.model));
  summary.bytes_after = static_cast<std::int64_t>(std::filesystem::file_size(call.options.output));
  std::vector<std::string> files{call.options.output};
  const json object = result_json(result, summary);
  if (!call.options.report.empty()) {
    const auto written =
        write_report(report_of(result, summary), call.envelope(object, files), call.options.report);
    files.insert(files.end(), written.begin(), written.end());
  }
  call.say("{}", layer_table(result));
  for (const std::string& note : result.notes)
    if (!told.contains(note)) call.say("note: {}", note);
  call.say("\n{}", summary_table(result, summary));
  for (const std::string& file : files) call.say("wrote {}", file);
  call.finish(object, files);
}

void add_pruning_flags(CLI::App& verb, SparsifyFlags& flags) {
  verb.add_option("--pattern", flags.pattern, "N:M, at most N of M consecutive input channels are kept")
      ->capture_default_str();
  verb.add_option("--method", flags.method,
                  "magnitude: one-shot, no training; asp: one-shot, then train with the mask fixed; sr-ste, "
                  "spre: learn the masks")
      ->check(CLI::IsMember({"magnitude", "asp", "sr-ste", "spre"}))
      ->capture_default_str();
  verb.add_option(
      "--pattern-for", flags.pattern_for,
      "NAMES=N:M or NAMES=dense for layers by name, for example 'layer3/*=1:4'; repeatable, later ones win");
  verb.add_option("--include", flags.include,
                  "names of layers to prune although they would stay dense; repeatable");
  verb.add_option("--exclude", flags.exclude, "names of layers that stay dense; repeatable");
  verb.add_flag("--prune-first", flags.prune_first, "also prune the first layer");
  verb.add_flag("--prune-last", flags.prune_last, "also prune the last layer");
  verb.add_flag("--prune-depthwise", flags.prune_depthwise,
                "also prune grouped convolutions with fewer than M channels");
  verb.add_option(
          "--ragged", flags.ragged,
          "input channels that M does not divide: leave dense, prune with a short last group, or stop")
      ->check(CLI::IsMember({"skip", "pad", "error"}))
      ->capture_default_str();
  verb.add_option("--budget", flags.budget,
                  "size=SHARE or macs=SHARE of the dense model: chooses a pattern for every layer");
  verb.add_option("--candidates", flags.candidates,
                  "patterns that --budget may choose (default: 2:4,1:4,1:8,1:16)");
  verb.add_flag("--permute", flags.permute, "reorder channels first, so that masks keep more");
  verb.add_option("--decay", flags.decay, "of pruned weights (sr-ste, spre)")
      ->check(at_least(0))
      ->capture_default_str();
  verb.add_option("--tighten", flags.tighten,
                  "epochs in which N falls from M to that of the pattern (sr-ste, spre)")
      ->check(at_least(0))
      ->capture_default_str();
  verb.add_flag("--faithful", flags.faithful,
                "spre as its authors' code: branches start at scale 1, spatial masks change every step; and "
                "where no flag says otherwise its recipe: decay of everything, cosine-epoch, warm-up, label "
                "smoothing 0.1, batches of 256");
  verb.add_option("--branch-gamma", flags.branch_gamma,
                  "scale at which branches start (default: 0, or 1 with --faithful)")
      ->check(at_least(0));
  verb.add_option("--spatial-update", flags.spatial_update,
                  "when spatial masks are measured (default: epoch, or step with --faithful)")
      ->check(CLI::IsMember({"step", "epoch", "never"}));
  verb.add_option("--spatial-margin", flags.margin,
                  "hysteresis of the spatial masks, as a share of the average")
      ->check(in_range(0.0, 1.0))
      ->capture_default_str();
  verb.add_option("--spatial", flags.spatial, "where branches live; everywhere and inverted are controls")
      ->check(CLI::IsMember({"measured", "everywhere", "inverted"}))
      ->capture_default_str();
}

void add_learning_flags(CLI::App& verb, SparsifyFlags& flags) {
  verb.add_flag("--from-scratch", flags.from_scratch,
                "draw all weights anew instead of starting from the model's");
  verb.add_option("--distil", flags.distil, "weight of the dense model as teacher, 0 to 1")
      ->check(in_range(0.0, 1.0))
      ->capture_default_str();
  verb.add_option("--temperature", flags.temperature, "of the distillation")
      ->check(positive())
      ->capture_default_str();
  verb.add_option("--norm-batches", flags.norm_batches, "batches to re-estimate batch norms on")
      ->check(in_range(1, 100000))
      ->capture_default_str();
}

}  // namespace

void add_sparsify(CLI::App& app) {
  auto flags = std::make_shared<SparsifyFlags>();
  CLI::App* verb = flags->verb = app.add_subcommand("sparsify", summary_of("sparsify"));
  flags->call.add_flags(*verb, {Flag::Output, Flag::Seed, Flag::Threads, Flag::Device, Flag::Limit,
                                Flag::Memory, Flag::Resume});
  verb->add_option("--data", flags->data, std::string("labelled data to train on: ") + kDataHelp);
  verb->add_option("--val", flags->val, "held-out data to measure the accuracy on, before and after");
  add_pruning_flags(*verb, *flags);
  add_learning_flags(*verb, *flags);
  add_training_flags(*verb, flags->recipe, "0.02, or 0.1 with --from-scratch; a hundredth for adamw");
  verb->add_flag("--dry-run", flags->dry_run, "show which layers would be pruned, and stop");
  add_preprocess_flags(*verb, flags->preprocess);
  verb->callback([flags] { run_sparsify(*flags); });
}

}  // namespace lithe::cli
