// `lithe tokens`: fewer tokens for vision transformers.
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <set>
#include <sstream>

#include "cli/data_flags.h"
#include "cli/overwrite.h"
#include "cli/plan_report.h"
#include "cli/tokens_report.h"
#include "cli/torch_setup.h"
#include "cli/train_flags.h"
#include "cli/train_report.h"
#include "cli/validators.h"
#include "cli/verbs.h"
#include "lithe/base/clock.h"
#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/data/side_by_side.h"
#include "lithe/engine/random_inputs.h"
#include "lithe/graph/onnx.h"
#include "lithe/tokens/survivors.h"

namespace lithe::cli {
namespace {

namespace fs = std::filesystem;

struct TokensFlags {
  Invocation call{"tokens"};
  PreprocessFlags preprocess;
  TokensOptions options;
  std::vector<std::string> shapes;
  std::string data, val, method = "diffrate", schedule, schedule_out, kind = "both", fall = "fraction",
                         sizes = "faithful", importance = "auto", checkpoints, compare;
  double penalty = 5, multiplier = 0.5;
  std::int64_t pictures = 4;
  bool dry_run = false;
  CLI::App* verb = nullptr;  // to ask which flags were given

  bool given(const char* flag) const { return verb->get_option(flag)->count() > 0; }
  bool learns() const { return schedule.empty() && method == "diffrate"; }
  bool trains() const { return learns() || options.fine_tune_epochs > 0; }
  std::string schedule_path() const {
    return schedule_out.empty() ? call.options.output + ".schedule.json" : schedule_out;
  }
};

/// Throws Error(Input) for a flag that was given and would change nothing.
void check_flags(const TokensFlags& flags) {
  const bool from_file = !flags.schedule.empty();
  if (from_file && flags.given("--method"))
    fail("--schedule gives the counts, so that --method has nothing to choose; leave one of them out");
  if (from_file && flags.given("--flops"))
    fail("--schedule gives the counts, and with them the cost; leave --flops out");
  const std::string& method = flags.method;
  const std::string chosen = from_file ? "--schedule" : "--method " + method;
  const bool ours = !from_file && method != "tome" && method != "evit";
  const auto only = [&](bool used, std::initializer_list<const char*> names, const char* where) {
    for (const char* name : names)
      if (!used && flags.given(name))
        fail("{} has no effect with {}: it belongs to {}; leave it out", name, chosen, where);
  };
  only(flags.learns(), {"--epochs", "--lr", "--penalty", "--multiplier-rate", "--granularity"},
       "the search of --method diffrate");
  only(flags.trains(), {"--data", "--limit", "--batch", "--time-budget", "--checkpoints", "--resume"},
       "the search of --method diffrate and to --fine-tune");
  only(flags.options.fine_tune_epochs > 0, {"--fine-tune-lr"}, "--fine-tune");
  only(ours, {"--kind", "--first-block"}, "--method diffrate, fixed and random");
  only(!from_file && method == "fixed", {"--fall"}, "--method fixed");
  only(ours || from_file, {"--sizes", "--per-image"}, "the operators of DiffRate");
  only(method != "tome" || from_file, {"--importance"}, "methods that ask which tokens are important");
  only((ours || from_file) && !flags.call.options.report.empty(), {"--pictures"},
       "--report, and to the operators of DiffRate");
}

TokenMethod method_of(const std::string& name) {
  for (const TokenMethod method :
       {TokenMethod::Tome, TokenMethod::Evit, TokenMethod::Random, TokenMethod::Fixed})
    if (name == token_method_name(method)) return method;
  return TokenMethod::DiffRate;
}

TokensOptions options_of(const TokensFlags& flags, const Preprocess& preprocess, at::Device device) {
  TokensOptions options = flags.options;
  options.method = method_of(flags.method);
  options.kind = flags.kind == "prune"   ? TokenKind::Prune
                 : flags.kind == "merge" ? TokenKind::Merge
                                         : TokenKind::Both;
  options.fall = flags.fall == "count" ? TokenFall::Count : TokenFall::Fraction;
  options.sizes = flags.sizes == "consistent" ? TokenSizes::Consistent
                  : flags.sizes == "weighted" ? TokenSizes::Weighted
                                              : TokenSizes::Faithful;
  options.seed = flags.call.options.seed;
  options.learning.penalty = flags.penalty;
  options.learning.multiplier_rate = flags.multiplier;
  TrainOptions& train = options.train;
  train.seed = flags.call.options.seed;
  train.threads = flags.call.threads();
  train.device = device;
  train.preprocess = preprocess;
  train.resume = flags.call.options.resume;
  train.checkpoints =
      flags.checkpoints.empty() ? default_checkpoints(flags.call.options.output) : flags.checkpoints;
  options.importance = flags.importance == "class"  ? TokenImportance::Class
                       : flags.importance == "mean" ? TokenImportance::Mean
                                                    : TokenImportance::Auto;
  options.fine_tune.batch = train.batch;
  if (!flags.schedule.empty()) options.schedule = read_schedule(flags.schedule);
  return options;
}

/// Milliseconds of one image on one thread (its share, where the file fixes a batch), the best of some runs
/// in turns, so that both meet the same machine. The image is random where `given` has none.
std::pair<double, double> latencies(const Graph& first, const Graph& second, at::Device device,
                                    const Feeds& given) {
  const at::NoGradGuard no_grad;
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  Executor a(first, {.device = device}), b(second, {.device = device});
  const auto feeds = [&](const Graph& graph) {
    Feeds all = given.empty() ? random_inputs(graph, 1) : given;
    for (auto& [name, value] : all) value = value.to(device);
    return all;
  };
  const Feeds x = feeds(first), y = feeds(second);
  double best[2] = {1e9, 1e9};
  const auto run = [&](int which, Executor& executor, const Feeds& inputs) {
    const Clock::time_point start = Clock::now();
    const Feeds out = executor.run(inputs);
    if (device.is_cuda()) out.begin()->second.to(at::kCPU);
    best[which] = std::min(best[which], 1e3 * seconds_since(start));
  };
  const Clock::time_point begin = Clock::now();
  for (int i = 0; i < 30 && (i < 3 || seconds_since(begin) < 2); ++i) {
    run(0, a, x);
    run(1, b, y);
  }
  at::set_num_threads(threads);
  const auto images = static_cast<double>(std::max<std::int64_t>(1, x.begin()->second.size(0)));
  return {best[0] / images, best[1] / images};
}

CompressOptions rewriting_of(const TokensOptions& options) {
  return {.sizes = options.sizes, .class_rows = options.class_rows, .own_mass = options.own_mass};
}

/// The first images, and what is left of them behind a third and two thirds of the blocks and the last one.
void draw_pictures(const TokensPlan& plan, const TokensResult& result, const TokensOptions& options,
                   const DatasetPtr& data, std::int64_t count, TokensSummary& summary) {
  const DatasetPtr some = seeded_subset(data, count, options.seed);
  Loader loader(some, {.batch = 1, .threads = 1});
  const std::size_t blocks = plan.model.blocks.size();
  for (Batch batch; loader.next(batch);) {
    const at::Tensor images = bind_batch(plan.prepared, batch).begin()->second;
    if (images.dim() != 4) return;
    const auto fates = trace_tokens(plan.prepared, plan.model, result.steps, images, rewriting_of(options));
    const at::Tensor picture = to_pixels(images[0], options.train.preprocess);
    const auto grid = patch_grid(plan.model, picture.size(1), picture.size(2));
    if (!grid)
      fail("it is not known how the {} patches lie in the picture", plan.model.tokens - plan.model.specials);
    std::vector<LabelledPicture> row{{"image", picture}};
    std::set<std::size_t> shown;
    for (std::size_t third = 1; third <= 3; ++third)
      shown.insert(std::max<std::size_t>(1, blocks * third / 3) - 1);
    for (const std::size_t l : shown)
      row.push_back(
          {fmt::format("block {}", l + 1), draw_survivors(picture, fates[l][0], plan.model.specials, *grid)});
    const int magnify = static_cast<int>(std::clamp<std::int64_t>(160 / picture.size(1), 1, 6));
    const at::Tensor last = fates.back()[0].contiguous();
    summary.fates.emplace_back(last.data_ptr<std::int64_t>(), last.data_ptr<std::int64_t>() + last.numel());
    summary.pictures.push_back({batch.names[0], side_by_side_png(row, magnify), ""});
  }
}

std::vector<double> shares_of(const std::string& text) {
  std::vector<double> shares;
  std::stringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) {
    std::size_t used = 0;
    double share = 0;
    try {
      share = std::stod(part, &used);
    } catch (const std::exception&) {
      used = 0;
    }
    if (used != part.size() || !(share > 0 && share <= 1))
      fail("--compare {}: give shares above 0 and up to 1, such as 0.5,0.7", text);
    shares.push_back(share);
  }
  return shares;
}

/// Every method that does not learn, at every share; and the `learnt` counts, if there are any, brought to
/// each by tokens from all blocks in turn.
std::vector<TokenScore> compare(const TokensPlan& plan, const TokensOptions& options,
                                const std::vector<double>& shares, const std::optional<TokenSchedule>& learnt,
                                const std::function<Evaluation(const Graph&)>& score, Progress& progress) {
  struct Entry {
    std::string name;
    TokenMethod method;
    TokenKind kind;
    TokenFall fall;
  };
  const std::vector<Entry> entries{
      {"random", TokenMethod::Random, TokenKind::Both, TokenFall::Fraction},
      {"evit", TokenMethod::Evit, TokenKind::Both, TokenFall::Fraction},
      {"tome", TokenMethod::Tome, TokenKind::Both, TokenFall::Fraction},
      {"constant count", TokenMethod::Fixed, TokenKind::Both, TokenFall::Count},
      {"constant fraction", TokenMethod::Fixed, TokenKind::Both, TokenFall::Fraction},
      {"constant fraction, prune", TokenMethod::Fixed, TokenKind::Prune, TokenFall::Fraction},
      {"constant fraction, merge", TokenMethod::Fixed, TokenKind::Merge, TokenFall::Fraction}};
  std::vector<TokenScore> scores;
  progress.start("comparing", static_cast<std::int64_t>((entries.size() + (learnt ? 1 : 0)) * shares.size()));
  for (const Entry& entry : entries)
    for (const double share : shares) {
      TokensOptions own = options;
      own.share = share;
      own.kind = entry.kind;
      own.fall = entry.fall;
      const auto steps = steps_of(entry.method, plan, own);
      const double ratio = static_cast<double>(plan.cost.total(steps)) / static_cast<double>(plan.cost.dense);
      if (ratio <= share) {  // else this method does not come so far down
        const Compressed compressed = compress_tokens(plan.prepared, plan.model, steps,
                                                      {.sizes = own.sizes, .class_rows = own.class_rows});
        scores.push_back({entry.name, ratio, score(compressed.graph).top1.value_or(0)});
      }
      progress.advance();
    }
  for (const double share : learnt ? shares : std::vector<double>()) {
    const auto budget = static_cast<std::int64_t>(share * static_cast<double>(plan.cost.dense));
    const TokenSchedule moved = repair_schedule(*learnt, plan.cost, plan.limits, budget);
    const auto steps = reduce_steps(moved, plan.model.tokens);
    const std::int64_t macs = plan.cost.total(steps);
    if (macs <= budget && moved != *learnt)
      scores.push_back({"diffrate, learnt counts moved",
                        static_cast<double>(macs) / static_cast<double>(plan.cost.dense),
                        score(compress_tokens(plan.prepared, plan.model, steps,
                                              {.sizes = options.sizes, .class_rows = options.class_rows})
                                  .graph)
                            .top1.value_or(0)});
    progress.advance();
  }
  progress.finish();
  return scores;
}

void show_plan(TokensFlags& flags, const Graph& model, const TokensOptions& options) {
  flags.call.check_outputs(false);
  const TokensPlan plan = plan_tokens(model, options);
  const json result = tokens_plan_json(plan);
  flags.call.say("{}", tokens_plan_table(plan));
  for (const std::string& note : plan.model.aside) flags.call.say("left alone: {}", note);
  finish_plan(flags.call, result,
              {table_of("Blocks", result.at("units"), {"name", "softmax", "tokens", "macs", "reducible"})},
              plan.model.aside);
}

/// Bytes of the file that `write_onnx` will write.
std::int64_t file_bytes(const Graph& graph) {
  std::size_t constants = 0;
  for (const auto& [name, data] : graph.constants) constants += data.bytes().size();
  constexpr std::size_t kLargestMessage = 2'000'000'000;  // beyond it constants lie in a file of their own
  return static_cast<std::int64_t>(constants < kLargestMessage ? serialize_onnx(graph).size() : constants);
}

/// What the flags ask for, and everything that can be refused before the work.
struct Work {
  Graph model;
  Preprocess preprocess;
  TokensOptions options;
  TokensPlan plan;
  std::vector<double> shares;
  DatasetPtr data, held_out;
};

Work prepare_work(TokensFlags& flags, const Graph& model, TokensOptions options) {
  Invocation& call = flags.call;
  if (call.options.output.empty()) fail("tokens needs -o FILE for the result (or --dry-run)");
  if (flags.data.empty() && flags.trains())
    fail(
        "{} needs --data, some hundred to some thousand images; without data there are --method fixed, "
        "random, "
        "tome and evit, and --schedule",
        flags.learns() ? "--method diffrate learns the counts and" : "--fine-tune");
  if (!flags.compare.empty() && flags.val.empty()) fail("--compare scores the methods and needs --val");
  check_overwriting(call, {{"--schedule", flags.schedule}, {"--data", flags.data}, {"--val", flags.val}},
                    {{"--schedule-out", flags.schedule_path()}});
  if (flags.trains()) check_checkpoints(call, options.train.checkpoints);
  Work work{.model = model, .preprocess = options.train.preprocess, .plan = plan_tokens(model, options)};
  check_tokens(work.plan, options);
  if (!flags.compare.empty()) work.shares = shares_of(flags.compare);
  const auto open = [&](const std::string& spec, bool limited) -> DatasetPtr {
    if (spec.empty()) return nullptr;
    const DatasetPtr data = open_dataset(spec, work.preprocess);
    if (const std::string hint = unused_labels(spec, *data); !hint.empty()) call.warn(hint);
    return limited && call.options.limit > 0 ? seeded_subset(data, call.options.limit, call.options.seed)
                                             : data;
  };
  work.data = open(flags.data, true);
  work.held_out = open(flags.val, false);
  if (const std::string& spec = flags.data.empty() ? flags.val : flags.data; !spec.empty())
    if (const std::string note = assumed_preprocess(call.options.model, model, flags.preprocess, spec);
        !note.empty())
      call.warn(note);
  if (flags.learns() && options.train.epochs == 0)
    options.train.epochs = search_epochs(work.data->size(), std::min(options.train.batch, work.data->size()));
  options.train.on_epoch = [&call, epochs = options.train.epochs](const EpochRecord& record) {
    call.say("{}", epoch_line(record, epochs));
    std::fflush(stdout);
  };
  options.fine_tune.on_epoch = [&call, epochs = options.fine_tune_epochs](const EpochRecord& record) {
    call.say("fine-tuning, {}", epoch_line(record, epochs));
    std::fflush(stdout);
  };
  options.train.on_note = [&call](const std::string& text) { call.warn(text); };
  work.options = std::move(options);
  return work;
}

void add_pictures(TokensFlags& flags, const Work& work, TokensResult& result, TokensSummary& summary) {
  const DatasetPtr& shown = work.held_out ? work.held_out : work.data;
  if (!shown || flags.pictures == 0 || result.schedule.operators != TokenOperators::Reduce) return;
  try {
    draw_pictures(work.plan, result, work.options, shown, flags.pictures, summary);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::Input) throw;
    result.notes.push_back(fmt::format("no pictures of what survives: {}", error.what()));
  }
}

/// Where images keep counts of their own: how many, and the first image, whose time is measured.
Feeds measure_own_counts(const Work& work, const TokensResult& result, int threads, TokensSummary& summary) {
  const DatasetPtr& images = work.held_out ? work.held_out : work.data;
  if (work.options.own_mass == 0 || !images) return {};
  constexpr std::int64_t kEnough = 1000;
  const DatasetPtr some = seeded_subset(images, kEnough, work.options.seed);
  summary.own = count_own_tokens(work.plan.prepared, work.plan.model, work.plan.cost, result.steps,
                                 rewriting_of(work.options), some, threads, work.options.train.device);
  const std::int64_t fixed = fixed_batch(work.plan.prepared);
  Loader loader(some, {.batch = std::max<std::int64_t>(1, fixed), .threads = 1});
  Batch first;
  loader.next(first);
  return first.size() < fixed ? Feeds() : bind_batch(work.plan.prepared, first);
}

void run_tokens(TokensFlags& flags) {
  Invocation& call = flags.call;
  check_flags(flags);
  const at::Device device = set_up_torch(call);
  Graph model = read_onnx(call.options.model);
  fix_input_sizes(model, parse_shape_flags(flags.shapes));
  const Preprocess preprocess = preprocess_for(call.options.model, model, flags.preprocess);
  const TokensOptions asked = options_of(flags, preprocess, device);
  if (flags.dry_run) return show_plan(flags, model, asked);
  const Work work = prepare_work(flags, model, asked);
  const TokensOptions& options = work.options;

  TokensSummary summary{.model = call.options.model,
                        .method = options.schedule ? "schedule" : token_method_name(options.method),
                        .options = options};
  const EvaluateOptions scoring{.batch = 64,
                                .threads = call.threads(),
                                .seed = call.options.seed,
                                .preprocess = preprocess,
                                .progress = &call.progress()};
  const auto score = [&](const Graph& graph, Executor* against) {
    const at::NoGradGuard no_grad;
    Executor executor(graph, {.device = device});
    const auto runner = [](Executor& one) {
      return RunBatch([&one](const Feeds& feeds) { return one.run(feeds); });
    };
    return evaluate(graph, runner(executor), work.held_out, scoring, against ? runner(*against) : RunBatch());
  };
  if (work.held_out) summary.before = score(model, nullptr);
  if (flags.learns()) {
    summary.searched = fmt::format("counts learnt from {} {} images", work.data->size(),
                                   work.data->labelled() ? "labelled" : "unlabelled");
    call.say("{}", summary.searched);
  }
  TokensResult result = reduce_model_tokens(work.plan, work.data, options, call.progress());
  for (const std::string& text : result.warnings) call.warn(text);
  keep_preprocess(result.graph, preprocess);
  result.graph.header.producer_name = "lithe";
  if (work.held_out) {
    Executor dense(model, {.device = device});
    summary.after = score(result.graph, &dense);
  }
  if (!flags.compare.empty()) {
    const double own = static_cast<double>(result.macs) / static_cast<double>(result.macs_before);
    std::vector<double> shares = work.shares;
    shares.push_back(options.schedule ? own : options.share);
    std::sort(shares.begin(), shares.end());
    shares.erase(std::unique(shares.begin(), shares.end()), shares.end());
    const std::optional<TokenSchedule> moved_from =
        result.learnt ? std::optional(result.schedule) : std::nullopt;
    summary.compared = compare(
        work.plan, options, shares, moved_from, [&](const Graph& graph) { return score(graph, nullptr); },
        call.progress());
    if (summary.after && summary.after->top1)
      summary.compared.push_back({summary.method + " (result)", own, *summary.after->top1});
    if (summary.before && summary.before->top1)
      summary.compared.push_back({"dense", 1, *summary.before->top1});
  }
  const Feeds image = measure_own_counts(work, result, call.threads(), summary);
  std::tie(summary.ms_before, summary.ms_after) = latencies(model, result.graph, device, image);
  summary.bytes_before = static_cast<std::int64_t>(fs::file_size(call.options.model));
  summary.bytes_after = file_bytes(result.graph);

  // The model comes last: where it is, the rest is too.
  std::vector<std::string> files{call.options.output, flags.schedule_path()};
  if (!call.options.report.empty()) add_pictures(flags, work, result, summary);
  const json object = tokens_json(result, summary);
  if (!call.options.report.empty()) {
    const auto written =
        write_report(tokens_report(result, summary), call.envelope(object, files), call.options.report);
    files.insert(files.end(), written.begin(), written.end());
  }
  write_file(flags.schedule_path(),
             schedule_text(fs::path(call.options.model).stem().string(),
                           fmt::format("{:.4f}", static_cast<double>(result.macs) / 1e9), result.schedule));
  write_onnx(result.graph, call.options.output);
  if (flags.trains() && flags.checkpoints.empty() && result.complete) {  // only what this run has written
    if (options.fine_tune_epochs > 0) remove_checkpoints(options.train.checkpoints / "fine_tune");
    if (flags.learns()) remove_checkpoints(options.train.checkpoints);
    std::error_code not_empty;
    fs::remove(options.train.checkpoints, not_empty);
  }
  call.say("{}", tokens_table(result));
  for (const std::string& note : result.notes) call.say("note: {}", note);
  call.say("\n{}", tokens_summary_table(result, summary));
  for (const std::string& file : files) call.say("wrote {}", file);
  call.finish(object, files);
}

void add_search_flags(CLI::App& verb, TokensFlags& flags) {
  TrainOptions& train = flags.options.train;
  const auto group = [](CLI::Option* option) { return option->group("Search and fine-tuning"); };
  group(verb.add_option("--epochs", train.epochs,
                        "passes over --data while counts are learnt (default: as many as come to 180 steps)")
            ->check(in_range(1, 100000)));
  group(verb.add_option("--batch", train.batch, "images in a step")
            ->check(in_range(1, 1 << 16))
            ->capture_default_str());
  group(
      verb.add_option(
              "--lr", train.learning_rate,
              "learning rate of the counts (default: by the number of steps, 0.1 for 150, 0.01 from 1500 on)")
          ->check(positive()));
  group(verb.add_option("--penalty", flags.penalty,
                        "of the squared distance from the budget, for a model of DeiT-S's size")
            ->check(at_least(0))
            ->capture_default_str());
  group(verb.add_option("--multiplier-rate", flags.multiplier,
                        "how fast a multiplier of the distance grows, so that the budget is met; 0: the "
                        "penalty alone, as "
                        "published")
            ->check(at_least(0))
            ->capture_default_str());
  group(verb.add_option("--granularity", flags.options.granularity, "tokens between two candidates")
            ->check(in_range(1, 1024))
            ->capture_default_str());
  group(verb.add_option("--fine-tune", flags.options.fine_tune_epochs,
                        "epochs in which all weights learn with the counts fixed, taught by the dense model; "
                        "0: weights stay "
                        "as they are")
            ->check(in_range(0, 100000))
            ->capture_default_str());
  group(verb.add_option("--fine-tune-lr", flags.options.fine_tune.learning_rate, "its learning rate")
            ->check(positive())
            ->capture_default_str());
  group(
      verb.add_option("--time-budget", train.time_budget,
                      "seconds after which the search or fine-tuning stops, with a checkpoint; the model is "
                      "written as far as it came")
          ->check(at_least(0)));
  group(verb.add_option(
      "--checkpoints", flags.checkpoints,
      "folder of the checkpoints of the search and of fine-tuning (default: OUTPUT.checkpoints)"));
}

}  // namespace

void add_tokens(CLI::App& app) {
  auto flags = std::make_shared<TokensFlags>();
  CLI::App* verb = flags->verb = app.add_subcommand("tokens", summary_of("tokens"));
  flags->call.add_flags(*verb,
                        {Flag::Output, Flag::Seed, Flag::Threads, Flag::Device, Flag::Limit, Flag::Resume});
  verb->add_option("--data", flags->data,
                   std::string("images, with labels or without, that counts are learnt from: ") + kDataHelp);
  verb->add_option("--val", flags->val, "held-out data to measure the accuracy on, before and after");
  verb->add_option("--flops,--macs", flags->options.share,
                   "share of the dense multiply-accumulates, met from below")
      ->check(positive_up_to(1))
      ->capture_default_str();
  verb->add_option("--method", flags->method,
                   "diffrate: learns how many tokens each block prunes and merges; tome, evit: the methods "
                   "of that name; "
                   "fixed: falls evenly; random: counts drawn at random")
      ->check(CLI::IsMember({"diffrate", "tome", "evit", "random", "fixed"}))
      ->capture_default_str();
  verb->add_option(
      "--schedule", flags->schedule,
      "counts from a file (prune_kept_num, merge_kept_num) instead; FILE#MODEL/TARGET where it has several");
  verb->add_option("--schedule-out", flags->schedule_out,
                   "where the counts are written (default: OUTPUT.schedule.json)");
  verb->add_option("--kind", flags->kind, "what may remove tokens (diffrate, random, fixed)")
      ->check(CLI::IsMember({"both", "prune", "merge"}))
      ->capture_default_str();
  verb->add_option("--fall", flags->fall,
                   "of --method fixed: the same count or the same fraction in every block")
      ->check(CLI::IsMember({"count", "fraction"}))
      ->capture_default_str();
  verb->add_option("--sizes", flags->sizes,
                   "how merged tokens grow: faithful (as the authors run their models), consistent (as they "
                   "train them), "
                   "weighted (as in ToMe)")
      ->check(CLI::IsMember({"faithful", "consistent", "weighted"}))
      ->capture_default_str();
  verb->add_option(
          "--per-image", flags->options.own_mass,
          "every image keeps only its most important patches that hold this share of the importance; "
          "the counts are then the most that an image keeps (default: all keep as many)")
      ->check(positive_up_to(1));
  verb->add_option(
          "--importance", flags->importance,
          "whose attention says how important a token is: class (the first special token), mean (all "
          "queries), auto (the special tokens that are read at the end, else see --dry-run)")
      ->check(CLI::IsMember({"auto", "class", "mean"}))
      ->capture_default_str();
  verb->add_option("--shape", flags->shapes,
                   "NAME=1,3,224,224: height and width of an input that the file leaves free; the result has "
                   "them fixed");
  verb->add_flag(
      "--class-row-last", flags->options.class_rows,
      "compute only the special tokens' rows in the last block, which then removes nothing: the same "
      "result as without removing there");
  verb->add_flag("--first-block", flags->options.first_block, "let the first block remove tokens too");
  verb->add_option("--compare", flags->compare,
                   "shares such as 0.5,0.7 at which all methods that do not learn are scored too");
  verb->add_option("--pictures", flags->pictures, "images in the report that show which patches survive")
      ->check(in_range(0, 64))
      ->capture_default_str();
  verb->add_flag("--dry-run", flags->dry_run, "show the blocks that were found, and stop");
  add_search_flags(*verb, *flags);
  add_preprocess_flags(*verb, flags->preprocess);
  verb->callback([flags] { run_tokens(*flags); });
}

}  // namespace lithe::cli
