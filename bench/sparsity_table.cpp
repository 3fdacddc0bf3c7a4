// N:M methods side by side under one recipe, on a procedural data set and on CIFAR-10.
//   sparsity_table [--tier smoke|small|paper] [--results FILE] [--data-root DIR] [--threads N]
//                  [--seeds N] [--time-seeds N] [--epochs N] [--patterns 2:4,1:16] [--methods a,b] [--shard
//                  I/N]
// Every finished run is one JSON line appended to FILE (default sparsity_<tier>.jsonl); a run that is there
// is not done again, so that the bench can be stopped and started at will, and several processes with
// different --shard can share the work. Table and checks come from the file.
//
// All methods of a seed share the initial weights, the order of the data and the augmentation, and train for
// equal epochs in all: ASP spends half of them on the dense network. "METHOD =time" trains for as many epochs
// as take the time of spre at equal epochs, by what both took in the runs of the same seed and pattern. Times
// are of the processor, not of the clock, and leave the scoring out. Accuracies are measured after batch
// norms were re-estimated under frozen masks. The intervals are Student's t over paired seeds.
// Runs with other --epochs may go into the same FILE: how the gap between spre-faithful and sr-ste moves with
// the schedule is printed from all of them.
//   DIR (default: the environment variable LITHE_DATA) holds cifar10/{train_25000,test_5000}.bin; without it
// that part is left out.
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bench/processor_time.h"
#include "bench/run_file.h"
#include "bench/shapes_data.h"
#include "bench/statistics.h"
#include "bench/table_flags.h"
#include "lithe/base/error.h"
#include "lithe/metrics/evaluate.h"
#include "lithe/models/builder.h"
#include "lithe/models/models.h"
#include "lithe/sparsify/sparsify.h"

namespace {

using namespace lithe;
using bench::BySeed;
using bench::moments;
using bench::Moments;
using bench::processor_seconds;
using bench::RunFile;
using bench::values_of;
using nlohmann::json;
namespace fs = std::filesystem;

/// How many seeds run at a pattern: the methods, the two controls, and all of them for equal time.
struct PatternPlan {
  std::string pattern;
  int seeds = 1, control_seeds = 1, time_seeds = 0;
};

struct Tier {
  std::int64_t epochs, train, test;
  std::vector<PatternPlan> patterns;
  int cifar_seeds;
  std::int64_t cifar_epochs, cifar_train;
  bool cifar_resnet32;  // else ResNet-8
};

const Tier kSmoke{1, 320, 200, {{"1:16", 1, 1, 1}}, 1, 1, 256, false};
// Few seeds where a run is dear: all of it takes about two hours of one core.
const Tier kSmall{12, 4000, 2500,  {{"2:4", 8, 3, 0}, {"1:4", 4, 3, 0}, {"1:16", 8, 3, 3}},
                  1,  6,    10000, false};
const Tier kPaper{60, 20000, 10000, {{"2:4", 8, 8, 8}, {"1:4", 8, 8, 8}, {"1:16", 8, 8, 8}},
                  5,  300,   25000, true};

constexpr double kChance = 10;  // percent, of ten classes
constexpr std::int64_t kNormBatches = 40;
const std::string kTimed = " =time";
const std::vector<std::string> kMethods{"one-shot",        "asp",          "sr-ste", "spre-faithful", "spre",
                                        "spre-everywhere", "spre-inverted"};
const std::vector<std::string> kCifarMethods{"sr-ste", "spre-faithful", "spre"};

/// An ordinary residual network for small pictures with `blocks` blocks a stage, as of He et al., CVPR 2016,
/// section 4.2, with shortcuts of slices and zeros.
Graph build_network(const std::vector<std::int64_t>& widths, int blocks, std::int64_t size,
                    std::uint64_t seed) {
  GraphBuilder net("resnet", seed);
  const auto conv = [&](const std::string& name, const std::string& x, std::int64_t channels,
                        std::int64_t stride) {
    return net.batch_norm(name + ".norm",
                          net.conv(name, x, {.channels = channels, .stride = stride, .bias = false}));
  };
  std::string x = net.relu("relu", conv("conv", net.input("input", {-1, 3, size, size}), widths[0], 1));
  for (std::size_t stage = 0; stage < widths.size(); ++stage)
    for (int block = 0; block < blocks; ++block) {
      const std::string name = fmt::format("stage{}.{}", stage + 1, block);
      const std::int64_t channels = widths[stage], stride = stage > 0 && block == 0 ? 2 : 1;
      const std::string y =
          conv(name + ".conv2", net.relu(name + ".relu1", conv(name + ".conv1", x, channels, stride)),
               channels, 1);
      if (stride == 2) {
        const std::int64_t missing = channels - net.channels(x);
        x = net.node("Slice", name + ".slice",
                     {x, net.ints(name + ".starts", {0, 0}), net.ints(name + ".ends", {INT64_MAX, INT64_MAX}),
                      net.ints(name + ".axes", {2, 3}), net.ints(name + ".steps", {2, 2})});
        x = net.node("Pad", name + ".pad",
                     {x, net.ints(name + ".pads", {0, missing / 2, 0, 0, 0, missing - missing / 2, 0, 0}),
                      net.scalar(name + ".zero", 0)});
      }
      x = net.relu(name + ".relu2", net.add(name + ".add", y, x));
    }
  x = net.flatten("flatten", net.global_average_pool("pool", x));
  net.output("logits", net.gemm("fc", x, widths.back(), 10), {-1, 10});
  return net.finish();
}

struct Subject {
  std::string name;
  DatasetPtr train, test;
  std::int64_t epochs;
  std::string recipe_text;
  TrainOptions recipe;
  std::function<Graph(std::uint64_t)> network;
};

/// A run of the table: a method at a pattern, for the epochs of the subject or for equal time.
struct Run {
  std::string pattern, method;
  int seed = 0;
  bool timed = false;

  std::string label() const { return timed ? method + kTimed : method; }
  std::string key(const Subject& subject) const {
    return fmt::format("{}|{} samples|{} epochs|{}|{}|seed {}", subject.name, subject.train->size(),
                       subject.epochs, pattern, label(), seed);
  }
};

double top1(const Graph& graph, const Subject& subject) {
  const at::NoGradGuard no_grad;
  Executor executor(graph);
  return 100 * *evaluate(executor, subject.test, {.batch = 250, .threads = 1}).top1;
}

TrainOptions recipe_of(const Subject& subject, int seed, std::int64_t epochs) {
  TrainOptions options = subject.recipe;
  options.epochs = epochs;
  options.seed = static_cast<std::uint64_t>(seed);
  return options;
}

struct Dense {
  Graph graph;
  double seconds = 0;  // that its training took
};

Dense train_dense(const Subject& subject, int seed, std::int64_t epochs) {
  Progress silent;
  const double start = processor_seconds();
  const TrainOptions options = recipe_of(subject, seed, epochs);
  Graph graph = train(subject.network(static_cast<std::uint64_t>(seed)), subject.train, options, silent).best;
  Executor executor(graph);
  reestimate_batch_norm(executor, subject.train, reestimate_options(options, kNormBatches));
  executor.store_constants(graph);
  return {std::move(graph), processor_seconds() - start};
}

SparsifyOptions options_of(const Subject& subject, const Run& run, std::int64_t epochs) {
  const std::string& method = run.method;
  SparsifyOptions options{.layers = {.pattern = parse_sparsity(run.pattern)},
                          .train = recipe_of(subject, run.seed, epochs),
                          .norm_batches = kNormBatches};
  options.method = method == "one-shot" ? SparsifyMethod::Magnitude
                   : method == "asp"    ? SparsifyMethod::Asp
                   : method == "sr-ste" ? SparsifyMethod::SrSte
                                        : SparsifyMethod::SpRe;
  options.faithful = method == "spre-faithful";
  options.spatial = method == "spre-everywhere" ? SpatialChoice::Everywhere
                    : method == "spre-inverted" ? SpatialChoice::Inverted
                                                : SpatialChoice::Measured;
  return options;
}

/// Dense networks, trained once; those of another seed are forgotten.
class DenseCache {
 public:
  const Dense& get(const Subject& subject, int seed, std::int64_t epochs) {
    const std::string of = fmt::format("{}|{}", subject.name, seed);
    if (of != of_) cache_.clear();
    of_ = of;
    if (const auto found = cache_.find(epochs); found != cache_.end()) return found->second;
    return cache_[epochs] = train_dense(subject, seed, epochs);
  }

 private:
  std::string of_;
  std::map<std::int64_t, Dense> cache_;
};

/// Epochs that take the method as long as spre takes for those of the subject; nothing if the runs that tell
/// are not there.
std::optional<std::int64_t> epochs_of_equal_time(const RunFile& results, const Subject& subject, Run run) {
  run.timed = false;
  Run reference = run;
  reference.method = "spre";
  if (run.method == "dense") run.pattern = "-";
  const json *slow = results.find(reference.key(subject)), *fast = results.find(run.key(subject));
  if (!slow || !fast) return std::nullopt;
  const double ratio = slow->at("seconds").get<double>() / fast->at("seconds").get<double>();
  return std::max<std::int64_t>(2, std::llround(static_cast<double>(subject.epochs) * ratio));
}

void run_one(RunFile& results, DenseCache& dense, const Subject& subject, const Run& run) {
  const std::string key = run.key(subject);
  if (results.find(key)) return;
  const double start = processor_seconds();
  std::int64_t epochs = subject.epochs;
  if (run.timed) {
    const auto equal = epochs_of_equal_time(results, subject, run);
    if (!equal) return;
    epochs = *equal;
  }
  json line{{"key", key},       {"data", subject.name}, {"pattern", run.pattern}, {"method", run.label()},
            {"seed", run.seed}, {"epochs", epochs}};
  if (run.method == "dense") {
    const Dense& network = dense.get(subject, run.seed, epochs);
    line["seconds"] = network.seconds;
    line["top1"] = top1(network.graph, subject);
  } else {
    const std::int64_t dense_epochs = run.method == "one-shot" ? epochs
                                      : run.method == "asp"    ? epochs / 2
                                                               : 0;
    const Dense source = dense_epochs > 0
                             ? dense.get(subject, run.seed, dense_epochs)
                             : Dense{.graph = subject.network(static_cast<std::uint64_t>(run.seed))};
    const SparsifyOptions options =
        options_of(subject, run, std::max<std::int64_t>(1, epochs - dense_epochs));
    Progress silent;
    const double before = processor_seconds();
    const Sparsified result = sparsify(source.graph, subject.train, options, silent);
    line["seconds"] = source.seconds + processor_seconds() - before;
    line["top1"] = top1(result.graph, subject);
    if (run.method == "one-shot")  // and with the statistics of the dense network
      line["stale_top1"] = top1(sparsify(source.graph, nullptr, options, silent).graph, subject);
    std::vector<double> z;
    for (const SparsifiedLayer& layer : result.layers)
      if (layer.spatial) z.push_back(layer.spatial->noise_ratio);
    line["z"] = bench::median(z);
    line["fold"] = result.fold_difference.absolute;
    line["fold_exact"] = result.fold_difference.exact.value_or(result.fold_difference.absolute);
    const auto epoch_mean = [&](const char* name) {
      double sum = 0;
      for (const EpochRecord& record : result.history)
        if (const auto found = record.extra.find(name); found != record.extra.end()) sum += found->second;
      return sum / static_cast<double>(result.history.size());
    };
    if (!result.history.empty()) {
      line["spatial_flips"] = epoch_mean("spatial_flips");
      line["mask_flips"] = epoch_mean("mask_flips");
    }
  }
  line["spent"] = processor_seconds() - start;  // scoring included, dense networks from the cache not
  results.add(line);
  fmt::print("  {:<64} {:6.2f} %  {:7.1f} s\n", key, line.at("top1").get<double>(),
             line.at("seconds").get<double>());
  std::fflush(stdout);
}

/// Numbers of the runs that are there, by seed.
BySeed numbers(const RunFile& results, const Subject& subject, Run run, const char* field, int seeds) {
  BySeed found;
  for (run.seed = 0; run.seed < seeds; ++run.seed)
    if (const json* line = results.find(run.key(subject)); line && line->contains(field))
      found[run.seed] = line->at(field);
  return found;
}

std::string plus_minus(const Moments& m) {
  if (m.n == 0) return "-";
  return m.n == 1 ? fmt::format("{:+.2f}", m.mean) : fmt::format("{:+.2f} ± {:.2f}", m.mean, m.interval());
}

bool is_control(const std::string& method) {
  return method == "spre-everywhere" || method == "spre-inverted";
}

/// What is run on one subject.
struct Plan {
  Subject subject;
  std::vector<PatternPlan> patterns;
  std::vector<std::string> methods;

  int seeds() const {
    int most = 0;
    for (const PatternPlan& one : patterns) most = std::max(most, one.seeds);
    return most;
  }
  bool shares() const {
    return std::any_of(patterns.begin(), patterns.end(), [](const auto& one) { return one.time_seeds > 0; });
  }

  std::vector<Run> of(int seed, const PatternPlan& at) const {
    std::vector<Run> runs;
    for (const std::string& method : methods)
      if (seed < (is_control(method) ? at.control_seeds : at.seeds))
        runs.push_back({at.pattern, method, seed, false});
    if (seed >= at.time_seeds) return runs;
    runs.push_back({at.pattern, "dense", seed, true});
    for (const std::string& method : methods)
      if (method != "spre") runs.push_back({at.pattern, method, seed, true});
    return runs;
  }
};

void print_table(const RunFile& results, const Plan& plan) {
  const Subject& subject = plan.subject;
  fmt::print("\n{}: {} samples, {} test images, {} epochs in all, {}\n", subject.name, subject.train->size(),
             subject.test->size(), subject.epochs, subject.recipe_text);
  fmt::print("{:<8}{:<24}{:>3}  {:>16}  {:>24}  {:>7}  {:>7}  {:>8}\n", "pattern", "method", "n",
             "top-1, % (sd)", "- sr-ste, 95 % interval", "epochs", "CPU s", "median Z");
  double spent = 0;
  const auto line = [&](const Run& run) {
    const auto get = [&](const char* field) { return numbers(results, subject, run, field, plan.seeds()); };
    const BySeed scores = get("top1");
    if (scores.empty()) return;
    const Run other{run.pattern, "sr-ste", 0, run.timed};
    const Moments m = moments(values_of(scores)), epochs = moments(values_of(get("epochs"))),
                  seconds = moments(values_of(get("seconds"))),
                  difference =
                      moments(bench::paired(scores, numbers(results, subject, other, "top1", plan.seeds())));
    const auto z = values_of(get("z"));
    const bool bare = run.method == "sr-ste" || run.pattern == "-";
    fmt::print("{:<8}{:<24}{:>3}  {:>16}  {:>24}  {:>7.1f}  {:>7.1f}  {:>8}\n", run.pattern, run.label(), m.n,
               fmt::format("{:.2f} ({:.2f})", m.mean, m.deviation), bare ? "" : plus_minus(difference),
               epochs.mean, seconds.mean, z.empty() ? "" : fmt::format("{:.2f}", bench::median(z)));
    for (const double value : values_of(get("spent"))) spent += value;
  };
  line({"-", "dense", 0, false});
  for (const PatternPlan& pattern : plan.patterns)
    for (const Run& run : plan.of(0, pattern)) line(run);
  fmt::print("all of it took {:.0f} minutes of one core\n", spent / 60);
}

/// How far a method is from sr-ste at a pattern, by the epochs of all runs on this subject that the file
/// holds.
void print_by_epochs(const RunFile& results, const Subject& subject, const std::string& pattern,
                     const std::string& method) {
  const std::string same = fmt::format("{}|{} samples|", subject.name, subject.train->size());
  std::map<std::int64_t, std::map<std::string, BySeed>> scores;
  for (const auto& [key, line] : results.all())
    if (key.starts_with(same) && line.at("pattern") == pattern)
      scores[line.at("epochs")][line.at("method")][line.at("seed")] = line.at("top1");
  for (auto& [epochs, by_method] : scores) {
    const auto differences = bench::paired(by_method[method], by_method["sr-ste"]);
    if (!differences.empty())
      fmt::print("  {:<40} {:>16}   expected: rises with the epochs\n",
                 fmt::format("{} - sr-ste at {}, {} epochs", method, pattern, epochs),
                 plus_minus(moments(differences)));
  }
}

/// The orderings that must hold whatever the seeds; false if one does not.
bool check_orderings(const RunFile& results, const Plan& plan) {
  bool good = true;
  using Number = std::optional<double>;
  const auto scores = [&](const std::string& pattern, const std::string& method) {
    return numbers(results, plan.subject, {pattern, method}, "top1", plan.seeds());
  };
  const auto mean = [&](const std::string& pattern, const std::string& method) -> Number {
    const BySeed found = scores(pattern, method);
    return found.size() < 3 ? Number() : moments(values_of(found)).mean;
  };
  const auto require = [&](const std::string& what, Number value, double least) {
    if (!value) return fmt::print("  open   {:<66} fewer than 3 seeds were run\n", what);
    const bool holds = *value >= least;
    fmt::print("  {} {:<66} {:7.2f} (at least {:.1f})\n", holds ? "holds " : "BROKEN", what, *value, least);
    good = good && holds;
  };
  const auto minus = [](Number a, Number b) { return a && b ? Number(*a - *b) : Number(); };
  fmt::print("\norderings\n");
  require("dense - sr-ste at 1:16", minus(mean("-", "dense"), mean("1:16", "sr-ste")), 10);
  require("sr-ste - one-shot at 1:16", minus(mean("1:16", "sr-ste"), mean("1:16", "one-shot")), 20);
  const auto stale =
      values_of(numbers(results, plan.subject, {"1:16", "one-shot"}, "stale_top1", plan.seeds()));
  require("7 - distance of one-shot at 1:16 from chance, norms as they were",
          stale.size() < 3 ? Number() : Number(7 - std::abs(moments(stale).mean - kChance)), 0);
  for (const std::string& method : plan.methods)
    require("2:4 - 1:16, " + method, minus(mean("2:4", method), mean("1:16", method)), 0);
  if (plan.subject.epochs <= 12)  // the gap closes on longer schedules
    require("spre (branch scale 0) - spre-faithful at 1:16",
            minus(mean("1:16", "spre"), mean("1:16", "spre-faithful")), 4);
  double worst = 0, exact = 0;
  for (const PatternPlan& pattern : plan.patterns)
    for (int seed = 0; seed < plan.seeds(); ++seed)
      for (const Run& run : plan.of(seed, pattern))
        if (const json* line = results.find(run.key(plan.subject)); line && line->contains("fold")) {
          worst = std::max(worst, line->at("fold").get<double>());
          exact = std::max(exact, line->at("fold_exact").get<double>());
        }
  const bool folds = worst <= 1e-5 && exact <= 1e-5;
  fmt::print(
      "  {} largest change of a logit by a fold: {:.1e} in float32, {:.1e} in float64 (at most 1e-5)\n",
      folds ? "holds " : "BROKEN", worst, exact);

  fmt::print("\nexpected, not required (mean and 95 % interval over paired seeds)\n");
  const auto expect = [&](const std::string& pattern, const std::string& method, const char* what) {
    const Moments m = moments(bench::paired(scores(pattern, method), scores(pattern, "sr-ste")));
    fmt::print("  {:<40} {:>16}   expected: {}\n", fmt::format("{} - sr-ste at {}", method, pattern),
               plus_minus(m), what);
  };
  expect("1:16", "spre", "at least -1");
  expect("2:4", "spre", "within 3 of 0");
  expect("1:16", "spre-everywhere", "about 0: without it, no gain is due to where the branch lives");
  print_by_epochs(results, plan.subject, "1:16", "spre-faithful");
  fmt::print("  {:<40} {:>16}   expected: within 7 of chance, {:.0f}\n",
             "one-shot at 1:16, norms re-estimated",
             fmt::format("{:.2f}", moments(values_of(scores("1:16", "one-shot"))).mean), kChance);
  return good && folds;
}

TrainOptions recipe(std::int64_t batch, std::int64_t crop, const Preprocess& preprocess, int threads) {
  TrainOptions options{.batch = batch, .learning_rate = 0.1, .weight_decay = 5e-4};
  options.decay_all = true;
  options.label_smoothing = 0.1;
  options.augmentation = {.flip = true, .padded_crop = crop};
  options.preprocess = preprocess;
  options.threads = threads;
  return options;
}

std::string recipe_text(std::int64_t batch, std::int64_t crop) {
  return fmt::format(
      "SGD at 0.1, momentum 0.9, weight decay 5e-4 on everything, batch {}, cosine by step, label smoothing "
      "0.1, mirror, shift by up to {}",
      batch, crop);
}

struct Arguments : bench::TableFlags {
  std::vector<std::string> patterns, methods = kMethods, cifar_methods = kCifarMethods;
  int time_seeds = -1;
  std::int64_t epochs = 0;
};

void add_flags(CLI::App& app, Arguments& a) {
  bench::add_table_flags(app, a);
  app.add_option("--time-seeds", a.time_seeds, "seeds of the runs at equal time, instead of the tier's")
      ->check(CLI::Range(0, 1000));
  app.add_option("--epochs", a.epochs, "instead of the tier's")->check(CLI::PositiveNumber);
  app.add_option("--patterns", a.patterns, "for example 2:4,1:16, instead of the tier's")->delimiter(',');
  std::vector<std::string> known = kMethods;
  known.emplace_back("dense");
  app.add_option_function<std::vector<std::string>>(
         "--methods", [&a](const std::vector<std::string>& chosen) { a.methods = a.cifar_methods = chosen; })
      ->delimiter(',')
      ->check(CLI::IsMember(known));
}

Tier tier_of(const Arguments& a) {
  Tier tier = a.choose(kSmoke, kSmall, kPaper);
  if (!a.patterns.empty()) {
    std::vector<PatternPlan> chosen;
    for (const std::string& pattern : a.patterns) {
      const auto known = std::find_if(tier.patterns.begin(), tier.patterns.end(),
                                      [&](const PatternPlan& one) { return one.pattern == pattern; });
      chosen.push_back(known != tier.patterns.end() ? *known
                                                    : PatternPlan{format_sparsity(parse_sparsity(pattern))});
    }
    tier.patterns = std::move(chosen);
  }
  if (a.seeds > 0) tier.cifar_seeds = a.seeds;
  for (PatternPlan& one : tier.patterns) {
    if (a.seeds > 0) one.seeds = one.control_seeds = a.seeds;
    if (a.time_seeds >= 0) one.time_seeds = a.time_seeds;
  }
  if (a.epochs > 0) tier.epochs = tier.cifar_epochs = a.epochs;
  return tier;
}

/// The units of work that processes share: what needs one another's dense networks or times stays together.
void work(RunFile& results, const std::vector<Plan>& plans, const bench::TableFlags& flags) {
  DenseCache dense;
  int unit = 0;
  const auto mine = [&] { return flags.mine(unit++); };
  for (const Plan& plan : plans)
    for (int seed = 0; seed < plan.seeds(); ++seed) {
      if (!plan.shares()) {  // nothing is shared
        if (mine()) run_one(results, dense, plan.subject, {"-", "dense", seed});
        for (const PatternPlan& pattern : plan.patterns)
          for (const Run& run : plan.of(seed, pattern))
            if (mine()) run_one(results, dense, plan.subject, run);
        continue;
      }
      if (!mine()) continue;
      run_one(results, dense, plan.subject, {"-", "dense", seed});
      for (const PatternPlan& pattern : plan.patterns)
        for (const Run& run : plan.of(seed, pattern)) run_one(results, dense, plan.subject, run);
    }
}

int run(const Arguments& arguments) {
  const Tier tier = tier_of(arguments);
  at::set_num_threads(arguments.threads);
  std::vector<Plan> plans;
  plans.push_back({.subject = {.name = "shapes, ResNet-8",
                               .train = bench::shapes_dataset(tier.train, 1),
                               .test = bench::shapes_dataset(tier.test, 2),
                               .epochs = tier.epochs,
                               .recipe_text = recipe_text(64, 2),
                               .recipe = recipe(64, 2, bench::shapes_preprocess(), arguments.threads),
                               .network =
                                   [](std::uint64_t seed) {
                                     return build_network({16, 32, 64}, 1, bench::kShapeSize, seed);
                                   }},
                   .patterns = tier.patterns,
                   .methods = arguments.methods});
  const fs::path folder = fs::path(arguments.data_root) / "cifar10";
  if (!arguments.data_root.empty() && fs::exists(folder / "train_25000.bin")) {
    const Preprocess preprocess{.mean = {0.4914, 0.4822, 0.4465}, .std = {0.2470, 0.2435, 0.2616}};
    const bool large = tier.cifar_resnet32;
    plans.push_back(
        {.subject = {.name = large ? "CIFAR-10, ResNet-32 x2" : "CIFAR-10, ResNet-8",
                     .train = seeded_subset(
                         open_dataset("cifar10:" + (folder / "train_25000.bin").string(), preprocess),
                         tier.cifar_train, 1),
                     .test = open_dataset("cifar10:" + (folder / "test_5000.bin").string(), preprocess),
                     .epochs = tier.cifar_epochs,
                     .recipe_text = recipe_text(large ? 256 : 64, 4),
                     .recipe = recipe(large ? 256 : 64, 4, preprocess, arguments.threads),
                     .network =
                         [large](std::uint64_t seed) {
                           return large ? build_network({32, 64, 128}, 5, 32, seed)
                                        : build_network({16, 32, 64}, 1, 32, seed);
                         }},
         .patterns = {{"1:16", tier.cifar_seeds, tier.cifar_seeds, 0}},
         .methods = arguments.cifar_methods});
  } else {
    fmt::print("no CIFAR-10 under --data-root or LITHE_DATA: that part is left out\n");
  }

  RunFile results(arguments.results, {"seconds", "spent"});
  work(results, plans, arguments);
  if (arguments.partial()) return 0;
  for (const Plan& plan : plans) print_table(results, plan);
  return check_orderings(results, plans[0]) ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  CLI::App app{"N:M methods side by side under one recipe", "sparsity_table"};
  add_flags(app, arguments);
  return bench::run_table(app, arguments, argc, argv, [&] { return run(arguments); });
}
