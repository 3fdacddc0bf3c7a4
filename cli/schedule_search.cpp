// `lithe schedule search`
#include <algorithm>
#include <filesystem>

#include "cli/data_flags.h"
#include "cli/overwrite.h"
#include "cli/processes.h"
#include "cli/sample_json.h"
#include "cli/schedule.h"
#include "cli/train_flags.h"
#include "cli/validators.h"
#include "cli/verbs.h"
#include "lithe/base/clock.h"
#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/base/hash.h"
#include "lithe/base/version.h"
#include "lithe/diffusion/model_record.h"
#include "lithe/engine/threads.h"

namespace lithe::cli {
namespace {

namespace fs = std::filesystem;

constexpr double kMostBudget = 1e18;  // in any unit

struct SearchFlags {
  Invocation call{"schedule search"};
  DenoiserFlags denoiser;
  PreprocessFlags preprocess;
  ScheduleSearchOptions options;
  std::string data, features, features_value, verdict, method = "racing", metric = "frechet", budget, log,
                                                       quirks;
  std::int64_t reference = 10000;
  bool faithful = false, own_log = false;
  CLI::App* verb = nullptr;
};

/// "6 calls", "480 layers", "120M macs", "35 ms".
ScheduleBudget parse_budget(const std::string& text) {
  std::size_t used = 0;
  double amount = 0;
  try {
    amount = std::stod(text, &used);
  } catch (const std::exception&) {
    used = 0;
  }
  std::string unit = text.substr(used);
  const double factor = unit.starts_with('k')   ? 1e3
                        : unit.starts_with('M') ? 1e6
                        : unit.starts_with('G') ? 1e9
                                                : 1;
  if (factor > 1) unit.erase(0, 1);
  unit.erase(std::remove(unit.begin(), unit.end(), ' '), unit.end());
  for (const BudgetUnit known :
       {BudgetUnit::Calls, BudgetUnit::Layers, BudgetUnit::Macs, BudgetUnit::Milliseconds})
    if (unit == budget_unit_name(known) && used > 0 && amount > 0 && amount * factor <= kMostBudget)
      return {known, amount * factor};
  fail("--budget {}: give what one image may cost: \"6 calls\", \"100 layers\", \"120M macs\" or \"35 ms\"",
       text);
}

void apply_quirks(const std::string& text, EvolutionOptions& evolution) {
  std::string left = text + ",";
  for (std::size_t comma = 0; (comma = left.find(',')) != std::string::npos; left.erase(0, comma + 1)) {
    const std::string one = left.substr(0, comma);
    if (one == "unsorted")
      evolution.unsorted = true;
    else if (one == "frozen-skips")
      evolution.frozen_skips = true;
    else if (one == "fresh-noise")
      evolution.fresh_noise = true;
    else if (!one.empty())
      fail("--published-quirks {}: there are unsorted, frozen-skips and fresh-noise", text);
  }
}

void check_flags(SearchFlags& flags) {
  const CLI::App& verb = *flags.verb;
  if (flags.faithful) {
    if (verb.count("--method") > 0 && flags.method != "autodiffusion")
      fail("--faithful is --method autodiffusion; do not give another method");
    flags.method = "autodiffusion";
  }
  flags.options.method = parse_search_method(flags.method);
  const bool evolves = flags.options.method == SearchMethod::Evolution;
  const bool races = flags.options.method == SearchMethod::Racing;
  const std::string with = "with --method " + flags.method;
  if (!evolves)
    refuse_idle(
        verb,
        {"--population", "--generations", "--parents", "--mutation", "--published-quirks", "--least-skipped"},
        with + " it does nothing");
  if (!races) refuse_idle(verb, {"--rounds", "--children", "--forecast-images"}, with + " it does nothing");
  if (evolves || races) refuse_idle(verb, {"--evaluations"}, with + " it does nothing");
  if (flags.call.options.output.empty()) fail("schedule search needs -o FILE.json for the schedule");
  if (flags.data.empty())
    fail("schedule search needs --data: the real images that samples are compared with; see docs/data.md");
  if (!flags.budget.empty()) flags.options.budget = parse_budget(flags.budget);
  const bool layers = flags.options.budget.unit != BudgetUnit::Calls;
  if (layers && verb.count("--max-skipped") == 0) flags.options.most_skipped = 0.5;
  if (flags.options.most_skipped > 0 && flags.budget.empty()) flags.options.budget.unit = BudgetUnit::Layers;
  const bool doubles = flags.denoiser.sampler == "plms" || flags.denoiser.null_label >= 0;
  if (!flags.budget.empty() && doubles)
    fail(
        "--budget does not know the further calls of plms and of classifier-free guidance; give --steps "
        "alone");
  if (!flags.budget.empty() && !layers) {
    if (verb.count("--steps") > 0) fail("--budget in calls is --steps; give one of them");
    flags.options.steps = static_cast<std::int64_t>(flags.options.budget.amount);
    if (static_cast<double>(flags.options.steps) != flags.options.budget.amount)
      fail("--budget {}: calls come in whole numbers", flags.budget);
    flags.options.budget.amount = 0;
  }
  if (flags.options.budget.unit == BudgetUnit::Milliseconds && flags.call.options.resume)
    fail(
        "a budget in ms is measured anew at every start, so that such a search cannot be resumed; give it in "
        "macs");
  if (flags.options.reuse && flags.options.most_skipped == 0)
    fail("--reuse is for skipped layers: give a --budget in layers, macs or ms, or --max-skipped");
  if (flags.metric != "frechet" && flags.metric != "kernel")
    fail("--metric {}: there are frechet and kernel", flags.metric);
  flags.own_log = flags.log.empty();
  if (flags.own_log) flags.log = flags.call.options.output + ".log.jsonl";
}

/// A share of a whole population each, as in the published scripts.
void scale_population(SearchFlags& flags) {
  EvolutionOptions& evolution = flags.options.evolution;
  evolution.mutations = evolution.population / 2;
  evolution.crossovers = evolution.population * 3 / 10;
  if (flags.verb->count("--parents") == 0) evolution.parents = std::max(1, evolution.population / 5);
}

/// How real images become what the model makes: -1..1, of its size and channels.
Preprocess real_preprocess(const SearchFlags& flags, const std::vector<std::int64_t>& shape) {
  Preprocess preprocess{.mean = {0.5}, .std = {0.5}};
  preprocess.resize = PixelSize{shape[1], shape[2]};
  preprocess.interpolation = Interpolation::Area;
  preprocess.colour = shape[0] == 1 ? ColourOrder::Gray : ColourOrder::Rgb;
  preprocess = apply_flags(preprocess, flags.preprocess);
  if (image_range(preprocess) != std::pair(-1.0, 1.0) || preprocess.layout != ImageLayout::Nchw)
    fail(
        "--mean, --std, --scale and --layout: real images must lie in -1..1, channels first, as what is "
        "sampled does");
  return preprocess;
}

LayerAccount account_of(const LoadedDenoiser& model, const ScheduleSearchOptions& options) {
  LayerAccount out{.layers = model.layers, .macs = {}, .times = {}};
  out.macs = measure_layer_macs(*model.graph, model.layers, model.shapes);
  if (options.budget.unit == BudgetUnit::Milliseconds) {
    LayerTimeOptions how{.batch = model.task.sampler.batch, .threads = 1};
    LayerTimes times = measure_layer_times(*model.graph, model.layers, how);
    const auto batch = static_cast<double>(how.batch);
    times.full /= batch;
    for (double& one : times.saved) one /= batch;
    out.times = times;
  }
  return out;
}

json identity_of(const SearchFlags& flags, const LoadedDenoiser& model, const at::Tensor& real) {
  const ScheduleSearchOptions& o = flags.options;
  return {{"model", model_hash(flags.call)},
          {"noise_schedule", fmt::format("{:016x}", model.task.noise.hash())},
          {"sampler", sampler_name(model.task.sampler.kind)},
          {"prediction", prediction_name(model.task.sampler.prediction)},
          {"eta", model.task.sampler.eta},
          {"clip", model.task.sampler.clip},
          {"rederive", model.task.sampler.rederive},
          {"guidance", guidance_name(model.task.sampler.guidance.kind)},
          {"guidance_scale", model.task.sampler.guidance.scale},
          {"batch", model.task.sampler.batch},
          {"metric", flags.metric},
          {"null_label", model.task.sampler.guidance.null_label},
          {"classes", model.task.classes},
          {"classifier", flags.denoiser.classifier.empty() ? "" : file_hash(flags.denoiser.classifier)},
          {"features", flags.features.empty() ? "embedded" : file_hash(flags.features)},
          {"features_value", flags.features_value},
          {"reference",
           fmt::format("{:016x}", fnv1a({static_cast<const std::byte*>(real.data_ptr()), real.nbytes()}))},
          {"method", flags.method},
          {"seed", o.seed},
          {"steps", o.steps},
          {"budget", fmt::format("{} {}", o.budget.amount, budget_unit_name(o.budget.unit))},
          {"max_skipped", o.most_skipped},
          {"reuse", o.reuse}};
}

void run_search(SearchFlags& flags) {
  Invocation& call = flags.call;
  check_flags(flags);
  scale_population(flags);
  Processes processes(call);
  set_threads(1);  // of this thread: --threads counts workers, each of which computes on one
  LoadedDenoiser model = load_denoiser(call, flags.denoiser, processes.device());
  if (flags.options.reuse) reuse_layers(model);
  ScheduleSearchOptions& options = flags.options;
  options.seed = call.options.seed;
  options.threads = call.threads();
  options.collective = processes.join();
  options.device = processes.device();
  if (options.collective && options.budget.unit == BudgetUnit::Milliseconds)
    fail("a budget in ms is measured by each process for itself; give it in macs, or start one process");
  options.resume = call.options.resume;
  options.log = flags.log;
  apply_quirks(flags.quirks, options.evolution);
  if (flags.features.empty() && !model.embedded)
    fail(
        "--features: name a classifier trained on images like these, whose features tell images apart "
        "(lithe train resnet20 --data ... makes one)");
  processes.check_in_first([&] {
    check_overwriting(call,
                      {{"--data", flags.data},
                       {"--features", flags.features},
                       {"--verdict", flags.verdict},
                       {"--classifier", flags.denoiser.classifier}},
                      {{"--log", flags.own_log ? "" : flags.log}});
  });

  ImageTask task = model.task, other = model.task;
  at::Tensor real, other_real;
  LayerAccount account;
  const bool second = !flags.verdict.empty() || (flags.features.empty() && model.embedded);
  processes.together([&] {
    task.make_features = load_features(flags.features, flags.features_value, 0, processes.device());
    const DatasetPtr data = open_dataset(flags.data, real_preprocess(flags, task.shape));
    const at::Tensor pixels =
        load_pixels(seeded_subset(data, flags.reference, options.seed), -1, call.threads());
    real = features_of(*task.make_features(), pixels);
    options.identity = identity_of(flags, model, real);
    account = account_of(model, options);
    if (!second || !processes.first()) return;
    other.make_features = load_features(flags.verdict, "", 1, processes.device());
    other_real = features_of(*other.make_features(), pixels);
  });
  const ImageMetric metric = flags.metric == "kernel" ? ImageMetric::Kernel : ImageMetric::Frechet;

  const auto start = Clock::now();
  const ScheduleSearchResult result = search_schedule(task, real, metric, account, options, call.progress());
  SearchSummary summary{.model = model.name,
                        .method = flags.method,
                        .metric = metric == ImageMetric::Kernel ? "kernel distance" : "Frechet distance",
                        .data = flags.data,
                        .features = flags.features.empty() ? "the embedded network" : flags.features,
                        .images = options.images,
                        .final_images = options.final_images,
                        .seconds = seconds_since(start)};
  const SamplingPlan plan = plan_of(result.best);
  summary.nfe = network_calls(task.sampler, plan);
  for (const std::size_t point : called_points(task.sampler, plan)) {
    summary.macs += static_cast<double>(account.macs.without(plan[point].skipped));
    summary.full_macs += static_cast<double>(account.macs.full);
  }
  if (metric == ImageMetric::Frechet) {
    FeatureStatistics statistics;
    statistics.add(real);
    summary.noise_floor = frechet_noise_floor(statistics.covariance(), options.final_images);
  }
  if (!processes.first()) return;
  if (second)
    summary.verdicts.emplace_back(flags.verdict.empty() ? "the second embedded network" : flags.verdict,
                                  judge_again(other, other_real, metric, result, options, call.progress()));

  SavedSchedule schedule{
      .steps = to_saved(plan, model.layers), .reuse = options.reuse, .sampler = task.sampler};
  set_noise(schedule, task.noise);
  schedule.provenance = {{"lithe", kVersion},
                         {"model", model.name},
                         {"model_hash", options.identity.at("model")},
                         {"layers", model.layers.size()},
                         {"search", options.identity},
                         {"evaluations", result.evaluations},
                         {"search_calls", result.search_calls}};
  const json object = search_json(result, summary, schedule);
  for (const char* name :
       {"fitness", "fitness_sd", "against_by_hand", "against_sd", "by_hand", "final_images", "nfe"})
    schedule.provenance[name] = object.at(name);
  std::vector<std::string> files{call.options.output};
  if (!call.options.report.empty()) {
    const auto written = write_report(search_report(result, summary, schedule, model),
                                      call.envelope(object, files), call.options.report);
    files.insert(files.end(), written.begin(), written.end());
  }
  write_file(call.options.output, schedule_text(schedule));
  if (flags.own_log) fs::remove(flags.log);
  call.say("{}", judged_table(result));
  if (object.at("against_by_hand").is_number() && object.at("against_by_hand") > 0)
    call.warn(fmt::format(
        "on other noise, {} by hand is better than what was found; search with more images or rounds",
        result.by_hand));
  call.say("{}", plan_line(plan));
  for (const std::string& file : files) call.say("wrote {}", file);
  call.finish(object, files);
}

}  // namespace

void add_schedule_search(CLI::App& parent) {
  auto flags = std::make_shared<SearchFlags>();
  CLI::App* verb = flags->verb = parent.add_subcommand(
      "search", "find the time steps, and the layers to skip, that make the best images");
  flags->call.add_flags(*verb, {Flag::Output, Flag::Seed, Flag::Threads, Flag::Device, Flag::Resume}, false);
  add_denoiser_flags(*verb, flags->denoiser, flags->call);
  ScheduleSearchOptions& options = flags->options;
  options.images = 1000;
  verb->add_option("--data", flags->data, std::string("real images: ") + kDataHelp);
  verb->add_option("--reference", flags->reference, "real images to compare with, at most")
      ->check(in_range(2, 1e7))
      ->capture_default_str();
  verb->add_option("--features", flags->features,
                   "ONNX network whose features are compared (Inception gives FID)");
  verb->add_option("--features-value", flags->features_value,
                   "its value (default: what the last layer reads)");
  verb->add_option("--verdict", flags->verdict, "a second such network, which judges the result besides");
  verb->add_option("--metric", flags->metric, "frechet or kernel")->capture_default_str();
  verb->add_option("--steps", options.steps, "calls of the network for an image, with all layers")
      ->check(in_range(1, 1e5))
      ->capture_default_str();
  verb->add_option(
      "--budget", flags->budget,
      "what one image may cost: \"6 calls\", \"100 layers\", \"120M macs\", \"35 ms\" (default: --steps)");
  verb->add_option("--max-skipped", options.most_skipped,
                   "share of the layers that a step may skip, 0 to 1 (default: 0.5 under a budget of layers, "
                   "macs or ms)")
      ->check(in_range(0, 1));
  verb->add_flag(
      "--reuse", options.reuse,
      "skipped layers add what they gave in the last step that executed them, in place of nothing");
  verb->add_option("--method", flags->method, "racing, autodiffusion, random, climb or gits")
      ->capture_default_str();
  verb->add_flag("--faithful", flags->faithful, "the published search: --method autodiffusion");
  verb->add_option("--published-quirks", flags->quirks,
                   "defects of the published program to keep: unsorted, frozen-skips, fresh-noise");
  verb->add_option("--images", options.images, "of an evaluation; of the last level of racing")
      ->check(in_range(2, 1e7))
      ->capture_default_str();
  verb->add_option("--population", options.evolution.population, "of autodiffusion")
      ->check(in_range(4, 1e5))
      ->capture_default_str();
  verb->add_option("--generations", options.evolution.generations, "of autodiffusion")
      ->check(in_range(1, 1e5))
      ->capture_default_str();
  verb->add_option("--parents", options.evolution.parents,
                   "of autodiffusion (default: a fifth of the population)")
      ->check(in_range(1, 1e5));
  verb->add_option("--mutation", options.evolution.mutation, "chance that a step changes")
      ->check(in_range(0, 1))
      ->capture_default_str();
  verb->add_option("--least-skipped", options.least_skipped, "share of layers, of its last generations")
      ->check(in_range(0, 1));
  verb->add_option("--rounds", options.racing.rounds, "of racing")
      ->check(in_range(0, 1e5))
      ->capture_default_str();
  verb->add_option("--children", options.racing.children, "of a round of racing")
      ->check(in_range(1, 1e5))
      ->capture_default_str();
  verb->add_option("--forecast-images", options.forecast_images,
                   "racing: images of a filter by closeness to 100 steps; 0: none")
      ->check(in_range(0, 1e6))
      ->capture_default_str();
  verb->add_option("--evaluations", options.evaluations, "of random and climb")
      ->check(in_range(1, 1e7))
      ->capture_default_str();
  verb->add_option("--finalists", options.finalists, "judged again on other noise")
      ->check(in_range(1, 1000))
      ->capture_default_str();
  verb->add_option("--final-images", options.final_images, "of the verdict")
      ->check(in_range(2, 1e7))
      ->capture_default_str();
  verb->add_option("--final-streams", options.final_streams, "of noise, in the verdict")
      ->check(in_range(1, 1000))
      ->capture_default_str();
  verb->add_option("--log", flags->log,
                   "append every evaluation to this file, which --resume goes on from "
                   "(default: OUTPUT.log.jsonl, removed at the end)");
  add_preprocess_flags(*verb, flags->preprocess);
  verb->callback([flags] { run_search(*flags); });
}

}  // namespace lithe::cli
