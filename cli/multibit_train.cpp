// `lithe multibit train`: a network or a trained model in; a model for several bit-widths out.
#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "cli/data_flags.h"
#include "cli/multibit.h"
#include "cli/multibit_report.h"
#include "cli/network_for.h"
#include "cli/overwrite.h"
#include "cli/plan_report.h"
#include "cli/torch_setup.h"
#include "cli/train_flags.h"
#include "cli/train_report.h"
#include "cli/validators.h"
#include "lithe/base/error.h"
#include "lithe/graph/onnx.h"
#include "lithe/models/registry.h"
#include "lithe/multibit/multibit.h"

namespace lithe::cli {
namespace {

namespace fs = std::filesystem;

constexpr double kScratchRate = 0.1, kTunedRate = 0.02;
constexpr double kAdamShare = 0.01;  // of these, for adamw

struct MultibitTrainFlags {
  const CLI::App* verb = nullptr;
  Invocation call{"multibit train"};
  PreprocessFlags preprocess;
  RecipeFlags recipe;
  MultibitOptions options;
  std::string data, validation, bits = "2,4,6,8", method = "mbquant", teaching;
  std::vector<std::string> widths;
  std::int64_t classes = 0;
  bool naive = false, dry_run = false;
};

MultibitMethod method_of(const std::string& name) {
  for (const MultibitMethod method :
       {MultibitMethod::Shared, MultibitMethod::AnyPrecision, MultibitMethod::AdaBits, MultibitMethod::Lsq})
    if (name == multibit_method_name(method)) return method;
  return MultibitMethod::MbQuant;
}

Teaching teaching_of(const MultibitTrainFlags& flags, MultibitMethod method) {
  if (flags.teaching.empty())
    return method == MultibitMethod::AnyPrecision ? Teaching::Recursive
           : method == MultibitMethod::AdaBits    ? Teaching::None
                                                  : Teaching::InPlace;
  return flags.teaching == "none"        ? Teaching::None
         : flags.teaching == "recursive" ? Teaching::Recursive
                                         : Teaching::InPlace;
}

bool was_given(const MultibitTrainFlags& flags, const char* flag) {
  return flags.verb->get_option(flag)->count() > 0;
}

/// Flags that would change nothing are a misunderstanding.
void refuse_idle_flags(const MultibitTrainFlags& flags, const MultibitOptions& options, bool by_name) {
  if (options.method != MultibitMethod::MbQuant)
    for (const char* flag : {"--naive-branches", "--slots", "--part", "--branch-noise"})
      if (was_given(flags, flag))
        fail("{}: only method mbquant has branches; leave it out with --method {}", flag, flags.method);
  const std::vector<int>& bits = options.bits;
  if (was_given(flags, "--part") &&
      std::all_of(bits.begin(), bits.end(), [](int one) { return one % 2 == 0; }))
    fail("--part: only odd bit-widths run a part of a branch, and --bits {} has none", flags.bits);
  if (bits.size() == 1)
    for (const char* flag : {"--sandwich", "--teaching"})
      if (was_given(flags, flag))
        fail("{}: --bits {} is one bit-width, which learns from the labels; leave it out", flag, flags.bits);
  if (options.from_scratch && was_given(flags, "--branch-noise"))
    fail("--branch-noise: branches that start from scratch are no copies; leave it out");
  if (!by_name && was_given(flags, "--classes"))
    fail("--classes: an ONNX model has its own outputs; leave it out");
}

NarrowWidths parse_widths(const std::vector<std::string>& rules) {
  NarrowWidths widths;
  for (const std::string& rule : rules) {
    long long full = 0, narrow = 0;
    int used = 0;
    if (std::sscanf(rule.c_str(), "%lld=%lld%n", &full, &narrow, &used) != 2 ||
        used != static_cast<int>(rule.size()) || narrow < 1 || narrow > full)
      fail("--part {}: write FULL=PART with 1 to FULL channels, for example 64=40", rule);
    if (!widths.emplace(full, narrow).second) fail("--part {}: {} channels are given twice", rule, full);
  }
  return widths;
}

MultibitOptions options_of(const MultibitTrainFlags& flags, bool by_name, at::Device device) {
  MultibitOptions options = flags.options;
  options.bits = parse_bits(flags.bits);
  options.method = method_of(flags.method);
  options.teaching = teaching_of(flags, options.method);
  options.amortise = !flags.naive;
  options.widths = parse_widths(flags.widths);
  options.from_scratch = by_name || flags.options.from_scratch;
  refuse_idle_flags(flags, options, by_name);
  const double rate = options.from_scratch ? kScratchRate : kTunedRate;
  options.train = training_options(flags.recipe, flags.call, device,
                                   flags.recipe.optimiser == "adamw" ? kAdamShare * rate : rate);
  return options;
}

/// The scores of the epoch whose weights are kept.
void take_scores(const MultibitTrained& result, const DatasetPtr& validation, std::vector<BitRow>& rows) {
  for (const EpochRecord& record : result.history) {
    if (record.epoch != result.best_epoch) continue;
    for (BitRow& row : rows) {
      const auto of = [&](const char* what, const std::optional<double>& single) {
        const auto found = record.extra.find(fmt::format("{} {}", what, row.path.output));
        return found != record.extra.end() ? std::optional<double>(found->second) : single;
      };
      row.score = Evaluation{};
      if (validation) row.score->n = validation->size();
      row.score->top1 = of("top1", record.validation_top1);
      row.score->loss = of("loss", record.validation_loss);
    }
  }
}

json result_json(const MultibitTrained& result, const MultibitOptions& options,
                 const std::vector<BitRow>& rows) {
  json widths = json::object();
  for (const auto& [full, narrow] : result.branches.widths) widths[std::to_string(full)] = narrow;
  return {{"method", multibit_method_name(options.method)},
          {"bit_widths", bits_json(rows)},
          {"storage", storage_json(bit_storage(result.branches.graph))},
          {"partial_widths", widths},
          {"bounds_crossed", result.crossed},
          {"epochs", history_json(result.history)},
          {"best_epoch", result.best_epoch > 0 ? json(result.best_epoch) : json()},
          {"complete", result.complete},
          {"images_per_second", result.images_per_second},
          {"notes", result.notes}};
}

Report report_of(const MultibitTrainFlags& flags, const MultibitTrained& result,
                 const MultibitOptions& options, const std::vector<BitRow>& rows) {
  Report report{.title = fs::path(flags.call.options.model).filename().string() + ", several bit-widths",
                .subtitle = fmt::format("lithe multibit train on {}: method {}", flags.data,
                                        multibit_method_name(options.method))};
  const Graph& graph = result.branches.graph;
  add_bits(report, rows, bit_storage(graph), multibit_info(graph));
  if (!result.history.empty()) add_history(report, result.history);
  std::vector<Series> losses, scores;
  for (const BitRow& row : rows) {
    const auto curve = [&](const std::string& key, double factor) {
      return epoch_curve(
          fmt::format("{} bits", row.path.bits), result.history, factor, [key](const EpochRecord& record) {
            const auto found = record.extra.find(key);
            return found == record.extra.end() ? std::nullopt : std::optional<double>(found->second);
          });
    };
    losses.push_back(curve(fmt::format("loss of {} bits", row.path.bits), 1));
    scores.push_back(curve("top1 " + row.path.output, 100));
  }
  add_epoch_plot(report, "Training loss of every bit-width", "loss", std::move(losses));
  add_epoch_plot(report, "Held-out accuracy of every bit-width", "top-1 in %", std::move(scores));
  for (const std::string& note : result.notes) report.add(Text{note});
  return report;
}

void show_plan(MultibitTrainFlags& flags, const Graph& model, const DatasetPtr& data,
               const MultibitOptions& options) {
  Invocation& call = flags.call;
  std::vector<std::string> notes;
  const BranchGraph branches = plan_multibit(model, data, options, &notes);
  const auto rows = bit_rows(branches.graph, options.bits);
  call.say("{}", bits_table(rows));
  for (const std::string& note : notes) call.say("note: {}", note);
  const json widths = bits_json(rows), result{{"method", multibit_method_name(options.method)},
                                              {"bit_widths", widths},
                                              {"storage", storage_json(bit_storage(branches.graph))},
                                              {"notes", notes}};
  finish_plan(call, result,
              {table_of("Bit-widths", widths,
                        {"bits", "branches", "partial", "macs", "float_macs", "bit_operations", "ratio"})},
              notes);
}

void run_train(MultibitTrainFlags& flags) {
  Invocation& call = flags.call;
  if (flags.data.empty()) fail("multibit train needs --data; see docs/data.md");
  if (!flags.dry_run && call.options.output.empty())
    fail("multibit train needs -o FILE for the trained model");
  if (!flags.validation.empty() && flags.recipe.options.validation_share > 0)
    fail("give --val or --val-share, not both");
  const bool by_name = names_network(call.options.model);
  if (by_name && find_network(call.options.model)->kind == NetworkKind::Denoiser)
    fail("{}: noise predictors are trained by lithe train alone", call.options.model);
  const at::Device device = set_up_torch(call);
  MultibitOptions options = options_of(flags, by_name, device);
  check_overwriting(call, {{"--data", flags.data}, {"--val", flags.validation}});
  if (!flags.dry_run) check_checkpoints(call, options.train.checkpoints);
  Graph model;
  Preprocess preprocess;
  if (by_name) {
    preprocess = apply_flags(network_preprocess(call.options.model), flags.preprocess);
  } else {
    model = read_onnx(call.options.model);
    preprocess = preprocess_for(call.options.model, model, flags.preprocess);
  }
  options.train.preprocess = preprocess;
  DatasetPtr data = open_dataset(flags.data, preprocess);
  if (const std::string hint = unused_labels(flags.data, *data); !hint.empty()) call.warn(hint);
  if (!by_name)
    if (const std::string note = assumed_preprocess(call.options.model, model, flags.preprocess, flags.data);
        !note.empty())
      call.warn(note);
  if (call.options.limit > 0) data = seeded_subset(data, call.options.limit, call.options.seed);
  if (!flags.validation.empty()) options.train.validation = open_dataset(flags.validation, preprocess);
  if (by_name)
    model = network_for({.name = call.options.model,
                         .data_spec = flags.data,
                         .classes = flags.classes,
                         .seed = call.options.seed},
                        *data, preprocess);
  if (flags.dry_run) return show_plan(flags, model, data, options);

  options.train.on_epoch = [&](const EpochRecord& record) {
    call.say("{}", epoch_line(record, options.train.epochs));
    std::fflush(stdout);  // also where it is a file that somebody follows
  };
  options.train.on_note = [&](const std::string& text) { call.warn(text); };
  MultibitTrained result = train_multibit(model, data, options, call.progress());
  Graph& graph = result.branches.graph;
  keep_preprocess(graph, preprocess);
  graph.header.producer_name = "lithe";
  std::vector<BitRow> rows = bit_rows(graph, options.bits);
  if (result.best_epoch > 0) {
    take_scores(result, options.train.validation, rows);
  } else if (options.train.validation) {
    const auto scores = evaluate_bits(graph, options.bits, options.train.validation,
                                      {.batch = std::min<std::int64_t>(options.train.batch, 128),
                                       .threads = call.threads(),
                                       .preprocess = preprocess},
                                      device);
    for (std::size_t i = 0; i < rows.size(); ++i) rows[i].score = scores[i];
  }
  std::vector<std::string> files{call.options.output};
  write_onnx(graph, call.options.output);
  if (result.complete && flags.recipe.checkpoints.empty()) remove_checkpoints(options.train.checkpoints);
  const json object = result_json(result, options, rows);
  if (!call.options.report.empty()) {
    const auto written = write_report(report_of(flags, result, options, rows), call.envelope(object, files),
                                      call.options.report);
    files.insert(files.end(), written.begin(), written.end());
  }
  call.say("\n{}", bits_table(rows));
  for (const std::string& note : result.notes) call.say("note: {}", note);
  for (const std::string& file : files) call.say("wrote {}", file);
  call.finish(object, files);
}

}  // namespace

void add_multibit_train(CLI::App& parent) {
  auto flags = std::make_shared<MultibitTrainFlags>();
  CLI::App* verb = parent.add_subcommand("train", "train a classifier for several bit-widths at once");
  flags->call.add_flags(
      *verb, {Flag::Output, Flag::Seed, Flag::Threads, Flag::Device, Flag::Limit, Flag::Memory, Flag::Resume},
      false);
  MultibitOptions& options = flags->options;
  verb->add_option("model", flags->call.options.model,
                   "a network by name (see lithe train --help), which starts from scratch, or an ONNX file")
      ->required();
  verb->add_option("--data", flags->data, std::string("labelled data to train on: ") + kDataHelp);
  verb->add_option("--val,--validation", flags->validation, "held-out data that choose the best epoch");
  verb->add_option("--bits", flags->bits, "bit-widths from 2 to 8, for example 2,4,6,8 or 2-8")
      ->capture_default_str();
  verb->add_option(
          "--method", flags->method,
          "mbquant (branches of 2-bit weights), or a baseline: shared (one weight tensor, quantised anew), "
          "anyprecision and adabits (their authors' quantisers), lsq (one bit-width alone)")
      ->check(CLI::IsMember({"mbquant", "shared", "anyprecision", "adabits", "lsq"}))
      ->capture_default_str();
  verb->add_option(
          "--teaching", flags->teaching,
          "what lower bit-widths learn from: in-place (labels and the most bits), recursive (the next higher "
          "bit-width) or none (labels) (default: in-place; recursive for anyprecision, none for adabits)")
      ->check(CLI::IsMember({"in-place", "recursive", "none"}));
  verb->add_flag("--sandwich", options.sandwich,
                 "train the most bits and one other bit-width, drawn at random, in a step instead of all");
  verb->add_flag("--naive-branches", flags->naive,
                 "let every bit-width start with branch 1 (no amortisation)");
  verb->add_flag("--slots", options.slots,
                 "bind bounds of weights to places in the selection, as the authors' code does");
  verb->add_option(
      "--part", flags->widths,
      "channels of the partial branches of odd bit-widths, FULL=PART for every width there is (default: "
      "chosen)");
  verb->add_option("--branch-noise", options.branch_noise,
                   "on the copies of a trained model's weights, as a share of their deviation")
      ->check(in_range(0.0, 10.0))
      ->capture_default_str();
  verb->add_option("--bound-lr", options.bound_learning_rate,
                   "learning rate of the quantisers' bounds (Adam)")
      ->check(positive())
      ->capture_default_str();
  verb->add_option("--norm-batches", options.norm_batches, "batches to re-estimate batch norms on; 0: none")
      ->check(in_range(0, 100000))
      ->capture_default_str();
  verb->add_flag("--from-scratch", options.from_scratch, "draw the weights of an ONNX model anew");
  verb->add_option("--classes", flags->classes,
                   "outputs of a network built by name (default: as many as the data have)")
      ->check(at_least(1));
  verb->add_option("--time-budget", flags->recipe.options.time_budget,
                   "seconds after which training stops, with a checkpoint")
      ->check(at_least(0));
  verb->add_flag("--dry-run", flags->dry_run, "show branches and costs of every bit-width, and stop");
  add_training_flags(*verb, flags->recipe, "0.1, or 0.02 from a trained model; a hundredth for adamw");
  add_preprocess_flags(*verb, flags->preprocess);
  flags->verb = verb;
  verb->callback([flags] { run_train(*flags); });
}

}  // namespace lithe::cli
