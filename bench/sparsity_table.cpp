// N:M methods side by side under one recipe, on a procedural data set and on CIFAR-10.
//   sparsity_table [--tier smoke|small|paper] [--results FILE] [--data-root DIR] [--threads N]
//                  [--seeds N] [--epochs N] [--patterns 2:4,1:16] [--methods a,b] [--shard I/N]
// Every finished run is one JSON line appended to FILE (default sparsity_<tier>.jsonl); a run that is there
// is not done again, so that the bench can be stopped and started at will, and several processes with
// different
// --shard can share the work. Table and checks come from the file.
//
// All methods of a seed share the initial weights, the order of the data and the augmentation, and train for
// equal epochs in all: ASP spends half of them on the dense network. "sr-ste, equal time" trains longer, for
// as many epochs as spre takes time. Accuracies are measured after batch norms were re-estimated under frozen
// masks. The intervals are Student's t over paired seeds.
//   DIR (default: the environment variable LITHE_DATA) holds cifar10/{train_25000,test_5000}.bin; without it
// that part is left out.
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "bench/shapes_data.h"
#include "bench/statistics.h"
#include "lithe/base/error.h"
#include "lithe/metrics/evaluate.h"
#include "lithe/models/builder.h"
#include "lithe/models/models.h"
#include "lithe/sparsify/sparsify.h"

namespace {

using namespace lithe;
using nlohmann::json;
namespace fs = std::filesystem;

struct Tier {
  int seeds;
  std::int64_t epochs, train, test;
  std::vector<std::string> patterns;
  int cifar_seeds;
  std::int64_t cifar_epochs, cifar_train;
  bool cifar_resnet32;  // else ResNet-8
};

const Tier kSmoke{1, 2, 600, 400, {"2:4", "1:16"}, 1, 1, 500, false};
const Tier kSmall{8, 12, 4000, 2500, {"2:4", "1:16"}, 1, 12, 20000, false};
const Tier kPaper{8, 60, 20000, 10000, {"2:4", "1:4", "1:16"}, 5, 300, 25000, true};

constexpr double kChance = 10;  // percent, of ten classes
const std::vector<std::string> kMethods{
    "one-shot", "asp", "sr-ste", "spre-faithful", "spre", "spre-everywhere", "spre-inverted", "sr-ste-time"};
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
  TrainOptions recipe;
  std::function<Graph(std::uint64_t)> network;
};

/// Finished runs, by key.
class Results {
 public:
  explicit Results(fs::path path) : path_(std::move(path)) {
    std::ifstream in(path_);
    for (std::string line; std::getline(in, line);) {
      const json one = json::parse(line, nullptr, false);
      if (one.is_object() && one.contains("key"))
        runs_[one.at("key")] = one;  // a line cut short is run again
    }
  }
  const json* find(const std::string& key) const {
    const auto found = runs_.find(key);
    return found == runs_.end() ? nullptr : &found->second;
  }
  void add(const json& run) {
    std::ofstream out(path_, std::ios::app);
    out << run.dump() + "\n" << std::flush;
    if (!out) fail_system("cannot append to {}", path_.string());
    runs_[run.at("key")] = run;
  }

 private:
  fs::path path_;
  std::map<std::string, json> runs_;
};

std::string key_of(const Subject& subject, const std::string& pattern, const std::string& method, int seed) {
  return fmt::format("{}|{} samples|{} epochs|{}|{}|seed {}", subject.name, subject.train->size(),
                     subject.epochs, pattern, method, seed);
}

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

Graph train_dense(const Subject& subject, int seed, std::int64_t epochs) {
  Progress silent;
  const TrainOptions options = recipe_of(subject, seed, epochs);
  Graph graph = train(subject.network(static_cast<std::uint64_t>(seed)), subject.train, options, silent).best;
  Executor executor(graph);
  reestimate_batch_norm(executor, subject.train, reestimate_options(options, 40));
  executor.store_constants(graph);
  return graph;
}

SparsifyOptions options_of(const Subject& subject, const std::string& pattern, const std::string& method,
                           int seed, std::int64_t epochs) {
  SparsifyOptions options{.layers = {.pattern = parse_sparsity(pattern)},
                          .train = recipe_of(subject, seed, epochs)};
  options.method = method == "one-shot"           ? SparsifyMethod::Magnitude
                   : method == "asp"              ? SparsifyMethod::Asp
                   : method.starts_with("sr-ste") ? SparsifyMethod::SrSte
                                                  : SparsifyMethod::SpRe;
  options.faithful = method == "spre-faithful";
  options.spatial = method == "spre-everywhere" ? SpatialChoice::Everywhere
                    : method == "spre-inverted" ? SpatialChoice::Inverted
                                                : SpatialChoice::Measured;
  return options;
}

/// Dense networks of one seed, trained once.
class DenseCache {
 public:
  const Graph& get(const Subject& subject, int seed, std::int64_t epochs) {
    const std::string key = fmt::format("{}|{}|{}", subject.name, seed, epochs);
    if (const auto found = cache_.find(key); found != cache_.end()) return found->second;
    if (cache_.size() > 2) cache_.clear();
    return cache_[key] = train_dense(subject, seed, epochs);
  }

 private:
  std::map<std::string, Graph> cache_;
};

/// Epochs for SR-STE in the time of spre, from the runs of this seed; nothing if they are not there.
std::optional<std::int64_t> epochs_of_equal_time(const Results& results, const Subject& subject,
                                                 const std::string& pattern, int seed) {
  const json *slow = results.find(key_of(subject, pattern, "spre", seed)),
             *fast = results.find(key_of(subject, pattern, "sr-ste", seed));
  if (!slow || !fast) return std::nullopt;
  const double ratio = slow->at("seconds").get<double>() / fast->at("seconds").get<double>();
  return std::max<std::int64_t>(subject.epochs, std::llround(static_cast<double>(subject.epochs) * ratio));
}

void run_one(Results& results, DenseCache& dense, const Subject& subject, const std::string& pattern,
             const std::string& method, int seed) {
  const std::string key = key_of(subject, pattern, method, seed);
  if (results.find(key)) return;
  json run{{"key", key}, {"data", subject.name}, {"pattern", pattern}, {"method", method}, {"seed", seed}};
  const auto start = std::chrono::steady_clock::now();
  if (method == "dense") {
    run["epochs"] = subject.epochs;
    run["top1"] = top1(dense.get(subject, seed, subject.epochs), subject);
  } else {
    std::int64_t epochs = subject.epochs, dense_epochs = 0;
    if (method == "one-shot") dense_epochs = epochs;
    if (method == "asp") {
      dense_epochs = epochs / 2;
      epochs -= dense_epochs;
    }
    if (method == "sr-ste-time") {
      const auto longer = epochs_of_equal_time(results, subject, pattern, seed);
      if (!longer) return;
      epochs = *longer;
    }
    const Graph source = dense_epochs > 0 ? dense.get(subject, seed, dense_epochs)
                                          : subject.network(static_cast<std::uint64_t>(seed));
    Progress silent;
    const Sparsified result =
        sparsify(source, subject.train, options_of(subject, pattern, method, seed, epochs), silent);
    std::vector<double> z;
    for (const SparsifiedLayer& layer : result.layers)
      if (layer.spatial) z.push_back(layer.spatial->noise_ratio);
    run["epochs"] = method == "one-shot" ? dense_epochs : epochs + dense_epochs;
    run["top1"] = top1(result.graph, subject);
    if (method == "one-shot")  // and with the statistics of the dense network
      run["stale_top1"] =
          top1(sparsify(source, nullptr, options_of(subject, pattern, method, seed, epochs), silent).graph,
               subject);
    run["z"] = bench::median(z);
    run["fold"] = result.fold_difference;
    if (!result.history.empty()) {
      double flips = 0;
      for (const EpochRecord& record : result.history)
        if (const auto found = record.extra.find("spatial_flips"); found != record.extra.end())
          flips += found->second / static_cast<double>(result.history.size());
      run["spatial_flips"] = flips;
    }
  }
  run["seconds"] = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  results.add(run);
  fmt::print("  {:<60} {:6.2f} %  {:6.1f} s\n", key, run.at("top1").get<double>(),
             run.at("seconds").get<double>());
  std::fflush(stdout);
}

/// Two-sided 95 % quantile of Student's t.
double t_quantile(std::size_t freedom) {
  static const std::vector<double> table{12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365,
                                         2.306,  2.262, 2.228, 2.201, 2.179, 2.160, 2.145,
                                         2.131,  2.120, 2.110, 2.101, 2.093, 2.086};
  return freedom == 0 ? 0 : freedom <= table.size() ? table[freedom - 1] : 1.96;
}

struct Moments {
  std::size_t n = 0;
  double mean = 0, deviation = 0;
  double interval() const {
    return n < 2 ? 0 : t_quantile(n - 1) * deviation / std::sqrt(static_cast<double>(n));
  }
};

Moments moments(const std::vector<double>& values) {
  Moments m{.n = values.size()};
  if (values.empty()) return m;
  m.mean = std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(m.n);
  for (const double v : values) m.deviation += (v - m.mean) * (v - m.mean);
  m.deviation = m.n < 2 ? 0 : std::sqrt(m.deviation / static_cast<double>(m.n - 1));
  return m;
}

/// Numbers of the runs that are there, by seed.
std::map<int, double> numbers(const Results& results, const Subject& subject, const std::string& pattern,
                              const std::string& method, const char* field, int seeds) {
  std::map<int, double> found;
  for (int seed = 0; seed < seeds; ++seed)
    if (const json* run = results.find(key_of(subject, pattern, method, seed)); run && run->contains(field))
      found[seed] = run->at(field);
  return found;
}

std::vector<double> values_of(const std::map<int, double>& by_seed) {
  std::vector<double> values;
  for (const auto& [seed, value] : by_seed) values.push_back(value);
  return values;
}

std::vector<double> paired(const std::map<int, double>& a, const std::map<int, double>& b) {
  std::vector<double> differences;
  for (const auto& [seed, value] : a)
    if (const auto other = b.find(seed); other != b.end()) differences.push_back(value - other->second);
  return differences;
}

std::string plus_minus(const Moments& m, double spread) {
  if (m.n == 0) return "-";
  return m.n == 1 ? fmt::format("{:+.2f}", m.mean) : fmt::format("{:+.2f} ± {:.2f}", m.mean, spread);
}

void print_table(const Results& results, const Subject& subject, const std::vector<std::string>& patterns,
                 const std::vector<std::string>& methods, int seeds) {
  fmt::print("\n{}: {} samples, {} test images, {} epochs in all, batch {}\n", subject.name,
             subject.train->size(), subject.test->size(), subject.epochs, subject.recipe.batch);
  fmt::print("{:<8}{:<18}{:>3}  {:>16}  {:>22}  {:>7}  {:>7}  {:>8}\n", "pattern", "method", "n",
             "top-1, % (sd)", "- sr-ste, 95 % interval", "epochs", "s", "median Z");
  const auto line = [&](const std::string& pattern, const std::string& method) {
    const auto scores = numbers(results, subject, pattern, method, "top1", seeds);
    if (scores.empty()) return;
    const Moments m = moments(values_of(scores));
    const Moments difference =
        moments(paired(scores, numbers(results, subject, pattern, "sr-ste", "top1", seeds)));
    const Moments seconds = moments(values_of(numbers(results, subject, pattern, method, "seconds", seeds)));
    const Moments epochs = moments(values_of(numbers(results, subject, pattern, method, "epochs", seeds)));
    const auto z = values_of(numbers(results, subject, pattern, method, "z", seeds));
    fmt::print("{:<8}{:<18}{:>3}  {:>16}  {:>22}  {:>7.1f}  {:>7.1f}  {:>8}\n", pattern, method, m.n,
               fmt::format("{:.2f} ({:.2f})", m.mean, m.deviation),
               method == "sr-ste" || method == "dense" ? "" : plus_minus(difference, difference.interval()),
               epochs.mean, seconds.mean, z.empty() ? "" : fmt::format("{:.2f}", bench::median(z)));
  };
  line("-", "dense");
  for (const std::string& pattern : patterns)
    for (const std::string& method : methods) line(pattern, method);
}

/// The orderings that must hold whatever the seeds; false if one does not.
bool check_orderings(const Results& results, const Subject& subject, const std::vector<std::string>& patterns,
                     const std::vector<std::string>& methods, int seeds, std::int64_t epochs) {
  bool good = true;
  const auto mean = [&](const std::string& pattern, const std::string& method) -> std::optional<double> {
    const auto scores = numbers(results, subject, pattern, method, "top1", seeds);
    if (scores.size() < 3) return std::nullopt;
    return moments(values_of(scores)).mean;
  };
  const auto require = [&](const std::string& what, std::optional<double> value, double least) {
    if (!value) {
      fmt::print("  open   {:<66} fewer than 3 seeds were run\n", what);
      return;
    }
    fmt::print("  {} {:<66} {:7.2f} (at least {:.1f})\n", *value >= least ? "holds " : "BROKEN", what, *value,
               least);
    good = good && *value >= least;
  };
  const auto minus = [](std::optional<double> a, std::optional<double> b) -> std::optional<double> {
    return a && b ? std::optional<double>(*a - *b) : std::nullopt;
  };
  fmt::print("\norderings\n");
  require("dense - sr-ste at 1:16", minus(mean("-", "dense"), mean("1:16", "sr-ste")), 10);
  require("sr-ste - one-shot at 1:16", minus(mean("1:16", "sr-ste"), mean("1:16", "one-shot")), 20);
  const auto stale = values_of(numbers(results, subject, "1:16", "one-shot", "stale_top1", seeds));
  require(
      "7 - distance of one-shot at 1:16 from chance, norms as they were",
      stale.size() < 3 ? std::nullopt : std::optional<double>(7 - std::abs(moments(stale).mean - kChance)),
      0);
  for (const std::string& method : methods)
    require("2:4 - 1:16, " + method, minus(mean("2:4", method), mean("1:16", method)), 0);
  if (epochs <= 12)  // the gap closes on longer schedules
    require("spre (branch scale 0) - spre-faithful at 1:16",
            minus(mean("1:16", "spre"), mean("1:16", "spre-faithful")), 4);
  double worst = 0;
  for (const std::string& pattern : patterns)
    for (const std::string& method : methods)
      for (const auto& [seed, fold] : numbers(results, subject, pattern, method, "fold", seeds))
        worst = std::max(worst, fold);
  fmt::print("  {} largest relative difference made by a fold: {:.1e} (at most 1e-5)\n",
             worst <= 1e-5 ? "holds " : "BROKEN", worst);
  return good && worst <= 1e-5;
}

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  std::stringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');) parts.push_back(part);
  return parts;
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

struct Arguments {
  Tier tier = kSmoke;
  std::string name = "smoke", results, data_root;
  std::vector<std::string> methods = kMethods, cifar_methods = kCifarMethods;
  int threads = 1, shard = 0, shards = 1;
};

Arguments parse(int argc, char** argv) {
  Arguments a;
  if (const char* root = std::getenv("LITHE_DATA")) a.data_root = root;
  std::map<std::string, std::string> given;
  for (int i = 1; i + 1 < argc; i += 2) given[argv[i]] = argv[i + 1];
  const auto take = [&](const char* flag, auto&& use) {
    if (const auto found = given.find(flag); found != given.end()) {
      use(found->second);
      given.erase(found);
    }
  };
  take("--tier", [&](const std::string& tier) {
    if (tier != "smoke" && tier != "small" && tier != "paper")
      fail("--tier {}: give smoke, small or paper", tier);
    a.name = tier;
    a.tier = tier == "small" ? kSmall : tier == "paper" ? kPaper : kSmoke;
  });
  take("--results", [&](const std::string& value) { a.results = value; });
  take("--data-root", [&](const std::string& value) { a.data_root = value; });
  take("--threads", [&](const std::string& value) { a.threads = std::stoi(value); });
  take("--seeds", [&](const std::string& value) { a.tier.seeds = a.tier.cifar_seeds = std::stoi(value); });
  take("--epochs",
       [&](const std::string& value) { a.tier.epochs = a.tier.cifar_epochs = std::stoll(value); });
  take("--patterns", [&](const std::string& value) { a.tier.patterns = split(value); });
  take("--methods", [&](const std::string& value) { a.methods = a.cifar_methods = split(value); });
  take("--shard", [&](const std::string& value) {
    if (std::sscanf(value.c_str(), "%d/%d", &a.shard, &a.shards) != 2 || a.shards < 1 || a.shard < 0 ||
        a.shard >= a.shards)
      fail("--shard {}: write I/N with I from 0 to N-1", value);
  });
  if (!given.empty() || argc % 2 == 0)
    fail("unknown or incomplete flag {}", given.empty() ? argv[argc - 1] : given.begin()->first);
  if (a.results.empty()) a.results = "sparsity_" + a.name + ".jsonl";
  for (const std::string& method : a.methods)
    if (method != "dense" && std::find(kMethods.begin(), kMethods.end(), method) == kMethods.end())
      fail("--methods: no method '{}'", method);
  return a;
}

int run(int argc, char** argv) {
  const Arguments arguments = parse(argc, argv);
  const Tier& tier = arguments.tier;
  at::set_num_threads(arguments.threads);
  Results results(arguments.results);
  DenseCache dense;
  const auto all_runs = [&](const Subject& subject, const std::vector<std::string>& patterns,
                            const std::vector<std::string>& methods, int seeds) {
    for (int seed = arguments.shard; seed < seeds; seed += arguments.shards) {
      run_one(results, dense, subject, "-", "dense", seed);
      for (const std::string& pattern : patterns)
        for (const std::string& method : methods) run_one(results, dense, subject, pattern, method, seed);
    }
  };

  const Subject shapes{.name = "shapes, ResNet-8",
                       .train = bench::shapes_dataset(tier.train, 1),
                       .test = bench::shapes_dataset(tier.test, 2),
                       .epochs = tier.epochs,
                       .recipe = recipe(64, 2, bench::shapes_preprocess(), arguments.threads),
                       .network = [](std::uint64_t seed) {
                         return build_network({16, 32, 64}, 1, bench::kShapeSize, seed);
                       }};
  all_runs(shapes, tier.patterns, arguments.methods, tier.seeds);

  const fs::path folder = fs::path(arguments.data_root) / "cifar10";
  std::optional<Subject> cifar;
  if (!arguments.data_root.empty() && fs::exists(folder / "train_25000.bin")) {
    const Preprocess preprocess{.mean = {0.4914, 0.4822, 0.4465}, .std = {0.2470, 0.2435, 0.2616}};
    cifar = Subject{
        .name = tier.cifar_resnet32 ? "CIFAR-10, ResNet-32 x2" : "CIFAR-10, ResNet-8",
        .train = seeded_subset(open_dataset("cifar10:" + (folder / "train_25000.bin").string(), preprocess),
                               tier.cifar_train, 1),
        .test = open_dataset("cifar10:" + (folder / "test_5000.bin").string(), preprocess),
        .epochs = tier.cifar_epochs,
        .recipe = recipe(tier.cifar_resnet32 ? 256 : 64, 4, preprocess, arguments.threads),
        .network = [&tier](std::uint64_t seed) {
          return tier.cifar_resnet32 ? build_network({32, 64, 128}, 5, 32, seed)
                                     : build_network({16, 32, 64}, 1, 32, seed);
        }};
    all_runs(*cifar, {"1:16"}, arguments.cifar_methods, tier.cifar_seeds);
  } else {
    fmt::print("no CIFAR-10 under --data-root or LITHE_DATA: that part is left out\n");
  }

  if (arguments.shards > 1) {
    fmt::print("shard {} of {} is done; run without --shard for the table\n", arguments.shard,
               arguments.shards);
    return 0;
  }
  print_table(results, shapes, tier.patterns, arguments.methods, tier.seeds);
  if (cifar) print_table(results, *cifar, {"1:16"}, arguments.cifar_methods, tier.cifar_seeds);
  return check_orderings(results, shapes, tier.patterns, arguments.methods, tier.seeds, tier.epochs) ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "sparsity_table: {}\n", error.what());
    return 2;
  }
}
