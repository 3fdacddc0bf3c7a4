// Ways to thin out tokens side by side at equal multiply-accumulates, with frozen weights, on small
// transformers that are trained here.
//   tokens_table [--tier smoke|small|paper] [--data-root DIR] [--results FILE] [--seeds N] [--threads N]
//                [--budgets 0.6,0.45] [--shard I/N]
//   tokens_table --model FILE --train DATA --test DATA [--mean M --std S] [--first-block] ...
// Every finished run is one JSON line appended to FILE (default tokens_<tier>.jsonl); a run that is there is
// not done again. The networks are kept beside it. Tables and gates come from the file.
//
// Without DIR (and without the environment variable LITHE_DATA) the images are a procedural set of gratings
// in discs; the tier paper needs DIR/cifar10/{train_25000,test_5000}.bin. A seed draws the network's weights
// and its training, and the search. All methods of a seed share the network, the held-out images and the
// budget, which each meets from below to within a token. "learned" is DiffRate with the budget met by its
// multiplier and the repair.
//
// --model takes a trained network instead; seeds then draw only the images of the search and their order, so
// that methods without a search (evit, tome, fraction, count, random) are equal at all seeds.
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "bench/gratings.h"
#include "bench/run_file.h"
#include "bench/statistics.h"
#include "bench/table_flags.h"
#include "lithe/graph/onnx.h"
#include "lithe/models/models.h"
#include "lithe/tokens/tokens.h"

namespace {

using namespace lithe;
using bench::BySeed;
using bench::moments;
using bench::RunFile;
using nlohmann::json;
namespace fs = std::filesystem;

constexpr int kFirstSeed = 1005;

struct Tier {
  std::string name = "smoke";
  int seeds = 1, random_schedules = 2;
  VitOptions net{.image_size = 32, .patch = 4, .dim = 32, .depth = 4, .heads = 2, .classes = 10};
  std::int64_t train = 2000, test = 300, epochs = 3, search = 160, search_epochs = 2, repair = 32;
  std::vector<double> budgets{0.6};
  std::string data;    // "": gratings
  bool every = false;  // all methods, not one of each kind
};

Tier tier_of(const std::string& name) {
  if (name == "smoke") return {};
  const VitOptions net{.image_size = 32, .patch = 4, .dim = 48, .depth = 6, .heads = 4, .classes = 10};
  Tier tier{.name = "small",
            .seeds = 5,
            .random_schedules = 6,
            .net = net,
            .train = 10000,
            .test = 1500,
            .epochs = 5,
            .search = 960,
            .search_epochs = 3,
            .repair = 128,
            .budgets = {0.6, 0.45},
            .every = true};
  if (name == "paper") {
    tier.name = name;
    tier.random_schedules = 100;
    tier.net.dim = 128;
    tier.net.depth = 8;
    tier.test = 5000;
    tier.repair = 256;
    tier.budgets = {0.6, 0.45, 0.35};
    tier.epochs = 40;
    tier.search = 10000;
    tier.search_epochs = 3;
  } else if (name != "small") {
    fail("--tier {}: give smoke, small or paper", name);
  }
  return tier;
}

struct Bench {
  Tier tier;
  int threads = 1;
  fs::path results, root;
  DatasetPtr train, test;
  std::string model;         // "": networks are trained here
  bool first_block = false;  // it may remove tokens too
};

DatasetPtr cifar(const fs::path& file) {
  return open_dataset("cifar10:" + file.string(),
                      {.mean = {0.4914, 0.4822, 0.4465}, .std = {0.2470, 0.2435, 0.2616}});
}

Graph trained_network(const Bench& bench, int seed) {
  if (!bench.model.empty()) return read_onnx(bench.model);
  const fs::path path = fs::path(bench.results).replace_extension() / fmt::format("net_{}.onnx", seed);
  if (fs::exists(path)) return read_onnx(path);
  fs::create_directories(path.parent_path());
  VitOptions net = bench.tier.net;
  net.seed = static_cast<std::uint64_t>(seed);
  TrainOptions options{.epochs = bench.tier.epochs,
                       .batch = 64,
                       .optimiser = AdamW{},
                       .learning_rate = 2e-3,
                       .warmup_epochs = 0.1 * static_cast<double>(bench.tier.epochs),
                       .weight_decay = 0.05};
  options.clip_norm = 1;
  options.seed = static_cast<std::uint64_t>(seed);
  options.threads = bench.threads;
  if (!bench.tier.data.empty()) options.augmentation = {.flip = true, .padded_crop = 4};
  Progress silent;
  Graph graph = train(build_vit(net), bench.train, options, silent).best;
  write_onnx(graph, path);
  return graph;
}

json scored(const Bench& bench, const Graph& graph, const std::string& key, int seed,
            const std::string& method, double budget, double macs) {
  const at::NoGradGuard no_grad;
  Executor executor(graph);
  const Evaluation score = evaluate(executor, bench.test, {.batch = 100, .threads = bench.threads});
  return {{"key", key},       {"seed", seed}, {"method", method},
          {"budget", budget}, {"macs", macs}, {"top1", score.top1.value_or(0)}};
}

struct Method {
  std::string name;
  TokensOptions options;
};

std::vector<Method> methods_of(const Tier& tier) {
  std::vector<Method> methods{{"learned both", {.method = TokenMethod::DiffRate}},
                              {"evit", {.method = TokenMethod::Evit}},
                              {"tome", {.method = TokenMethod::Tome}},
                              {"fraction both", {.method = TokenMethod::Fixed}},
                              {"count both", {.method = TokenMethod::Fixed, .fall = TokenFall::Count}}};
  const std::vector<Method> more{
      {"learned prune", {.method = TokenMethod::DiffRate, .kind = TokenKind::Prune}},
      {"learned merge", {.method = TokenMethod::DiffRate, .kind = TokenKind::Merge}},
      {"fraction prune", {.method = TokenMethod::Fixed, .kind = TokenKind::Prune}},
      {"fraction merge", {.method = TokenMethod::Fixed, .kind = TokenKind::Merge}},
      {"count prune", {.method = TokenMethod::Fixed, .kind = TokenKind::Prune, .fall = TokenFall::Count}},
      {"count merge", {.method = TokenMethod::Fixed, .kind = TokenKind::Merge, .fall = TokenFall::Count}}};
  if (tier.every) methods.insert(methods.end(), more.begin(), more.end());
  for (int i = 0; i < tier.random_schedules; ++i)
    methods.push_back({fmt::format("random {}", i),
                       {.method = TokenMethod::Random, .seed = static_cast<std::uint64_t>(i)}});
  return methods;
}

void run_all(const Bench& bench, RunFile& runs, const bench::TableFlags& flags) {
  for (int s = 0; s < bench.tier.seeds; ++s) {
    if (!flags.mine(s)) continue;
    const int seed = kFirstSeed + s;
    std::optional<Graph> graph;
    const auto network = [&]() -> const Graph& {
      if (!graph) graph = trained_network(bench, seed);
      return *graph;
    };
    const auto record = [&](const json& run, double seconds) {
      json line = run;
      line["seconds"] = seconds;
      runs.add(line);
      fmt::print("{:<28} seed {} budget {:.2f}: top-1 {:.2f} % at {:.4f}, {:.0f} s\n",
                 line["method"].get<std::string>(), seed, line["budget"].get<double>(),
                 100 * line["top1"].get<double>(), line["macs"].get<double>(), seconds);
      std::fflush(stdout);
    };
    const std::string dense_key = fmt::format("dense/{}", seed);
    if (!runs.find(dense_key)) record(scored(bench, network(), dense_key, seed, "dense", 1, 1), 0);
    for (const double budget : bench.tier.budgets)
      for (const Method& method : methods_of(bench.tier)) {
        const std::string key = fmt::format("{}/{}/{}", method.name, budget, seed);
        if (runs.find(key)) continue;
        const std::clock_t start = std::clock();
        TokensOptions options = method.options;
        options.share = budget;
        options.first_block = bench.first_block;
        if (options.method != TokenMethod::Random) options.seed = static_cast<std::uint64_t>(seed);
        options.train.epochs = bench.tier.search_epochs;
        options.repair_samples = bench.tier.repair;
        options.train.threads = bench.threads;
        options.train.seed = static_cast<std::uint64_t>(seed);
        Progress silent;
        try {
          const TokensResult result = reduce_model_tokens(
              network(), seeded_subset(bench.train, bench.tier.search, static_cast<std::uint64_t>(seed)),
              options, silent);
          json run = scored(bench, result.graph, key, seed, method.name, budget,
                            static_cast<double>(result.macs) / static_cast<double>(result.macs_before));
          run["prune"] = result.schedule.prune;
          run["merge"] = result.schedule.merge;
          record(run, static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC);
        } catch (const Error& error) {
          if (error.kind() != ErrorKind::Input ||
              std::string(error.what()).find("cannot be reached") == std::string::npos)
            throw;
          fmt::print("{:<28} seed {} budget {:.2f}: {}\n", method.name, seed, budget, error.what());
        }
      }
  }
}

BySeed top1(const Bench& bench, const RunFile& runs, const std::string& method, double budget) {
  BySeed result;
  for (int s = 0; s < bench.tier.seeds; ++s)
    if (const json* run = runs.find(fmt::format("{}/{}/{}", method, budget, kFirstSeed + s)))
      result[kFirstSeed + s] = 100 * run->at("top1").get<double>();
  return result;
}

void print_tables(const Bench& bench, const RunFile& runs) {
  std::vector<double> dense;
  for (int s = 0; s < bench.tier.seeds; ++s)
    if (const json* run = runs.find(fmt::format("dense/{}", kFirstSeed + s)))
      dense.push_back(100 * run->at("top1").get<double>());
  fmt::print("\nall tokens: {:.2f} ({:.2f})\n", moments(dense).mean, moments(dense).deviation);
  for (const double budget : bench.tier.budgets) {
    fmt::print(
        "\nat most {:.2f} of the multiply-accumulates, top-1 in % (mean over seeds, deviation), learned both "
        "less it "
        "(paired, 95 %)\n",
        budget);
    const BySeed learned = top1(bench, runs, "learned both", budget);
    for (const Method& method : methods_of(bench.tier)) {
      if (method.name.starts_with("random ") && method.name != "random 0") continue;
      const BySeed own = top1(bench, runs, method.name, budget);
      if (own.empty()) {
        fmt::print("  {:<28} does not come down to it\n", method.name);
        continue;
      }
      const auto level = moments(bench::values_of(own)), lead = moments(bench::paired(learned, own));
      fmt::print("  {:<28} {:6.2f} ({:.2f})   {:+.2f} +- {:.2f}\n", method.name, level.mean, level.deviation,
                 lead.mean, lead.interval());
    }
  }
}

constexpr std::size_t kSeedsOfGates = 5;

/// `runs` are those that the number comes from; without a condition it is only reported.
void gate(const char* text, std::size_t runs, std::optional<bool> held, double number) {
  fmt::print("  {:<72} {:>8.2f}  {}\n", text, number,
             runs == 0 ? "no runs"
             : !held   ? "reported"
             : runs < kSeedsOfGates
                 ? (*held ? "would hold, but needs 5 seeds" : "would not hold, but needs 5 seeds")
             : *held ? "holds"
                     : "DOES NOT HOLD");
}

void print_gates(const Bench& bench, const RunFile& runs) {
  fmt::print("\ngates\n");
  double worst = 0;
  std::size_t met = 0;
  for (const double budget : bench.tier.budgets) {
    for (int s = 0; s < bench.tier.seeds; ++s)
      if (const json* run = runs.find(fmt::format("learned both/{}/{}", budget, kFirstSeed + s)))
        worst = std::max(worst, std::abs(budget - run->at("macs").get<double>())), ++met;
    const auto lead = [&](const char* method) {
      return bench::paired(top1(bench, runs, "learned both", budget), top1(bench, runs, method, budget));
    };
    const auto mean = [](const std::vector<double>& values) { return moments(values).mean; };
    fmt::print(" budget {:.2f}\n", budget);
    if (budget <= 0.45) {
      gate("learned ahead of a constant count by 1 point or more", lead("count both").size(),
           mean(lead("count both")) >= 1, mean(lead("count both")));
      const auto ahead = lead("fraction both");
      const auto wins = std::count_if(ahead.begin(), ahead.end(), [](double x) { return x >= 0; });
      gate("learned not behind a constant fraction in 4 of 5 seeds (seeds)", ahead.size(),
           5 * wins >= 4 * static_cast<std::int64_t>(ahead.size()), static_cast<double>(wins));
      const auto pruned = bench::paired(top1(bench, runs, "learned both", budget),
                                        top1(bench, runs, "learned prune", budget));
      gate("both ahead of pruning alone by 0.5 points or more", pruned.size(), mean(pruned) >= 0.5,
           mean(pruned));
    }
    std::vector<double> places;
    for (int s = 0; s < bench.tier.seeds; ++s) {
      const auto learned = top1(bench, runs, "learned both", budget);
      const auto own = learned.find(kFirstSeed + s);
      int below = 0, all = 0;
      for (int i = 0; i < bench.tier.random_schedules && own != learned.end(); ++i) {
        const auto other = top1(bench, runs, fmt::format("random {}", i), budget);
        if (const auto found = other.find(own->first); found != other.end()) {
          ++all;
          below += found->second <= own->second ? 1 : 0;
        }
      }
      if (all > 0) places.push_back(100.0 * below / all);
    }
    gate("learned at or above 90 % of random schedules (mean percentile)", places.size(), mean(places) >= 90,
         mean(places));
    const auto merged =
        bench::paired(top1(bench, runs, "learned both", budget), top1(bench, runs, "learned merge", budget));
    gate("both against merging alone, points", merged.size(), std::nullopt, mean(merged));
  }
  std::vector<double> means;
  for (const double budget : bench.tier.budgets)
    means.push_back(moments(bench::values_of(top1(bench, runs, "learned both", budget))).mean);
  gate("accuracy does not rise as the budget falls (largest rise)", met / bench.tier.budgets.size(),
       std::is_sorted(means.rbegin(), means.rend()), [&] {
         double rise = 0;
         for (std::size_t i = 1; i < means.size(); ++i) rise = std::max(rise, means[i] - means[i - 1]);
         return rise;
       }());
  gate("budget met to 0.5 % (worst, in % of the dense cost)", met / bench.tier.budgets.size(), worst <= 0.005,
       100 * worst);
}

struct Arguments : bench::TableFlags {
  std::vector<double> budgets;
  std::string model, train, test;
  PreprocessFlags preprocess;
  bool first_block = false;
};

int run(const Arguments& arguments) {
  Bench bench{.tier = tier_of(arguments.tier),
              .threads = arguments.threads,
              .results = arguments.results,
              .root = arguments.data_root};
  if (arguments.seeds > 0) bench.tier.seeds = arguments.seeds;
  if (!arguments.budgets.empty()) bench.tier.budgets = arguments.budgets;
  at::set_num_threads(bench.threads);
  if (!arguments.model.empty()) {
    if (arguments.train.empty() || arguments.test.empty())
      fail("--model {}: give --train and --test, the images of the search and those of the table",
           arguments.model);
    bench.model = arguments.model;
    bench.first_block = arguments.first_block;
    const Preprocess preprocess = apply_flags({}, arguments.preprocess);
    bench.train = open_dataset(arguments.train, preprocess);
    bench.test = open_dataset(arguments.test, preprocess);
  } else if (arguments.tier == "paper") {
    if (bench.root.empty()) {
      fmt::print(
          "tokens_table: the tier paper needs CIFAR-10; give its folder by --data-root or LITHE_DATA\n");
      return 0;
    }
    bench.tier.data = (bench.root / "cifar10").string();
    bench.train = cifar(bench.root / "cifar10/train_25000.bin");
    bench.test = cifar(bench.root / "cifar10/test_5000.bin");
  } else {
    bench.train = bench::gratings(bench.tier.train, 1);
    bench.test = bench::gratings(bench.tier.test, 2);
  }
  RunFile runs(bench.results, {"seed", "method", "budget", "macs", "top1"});
  run_all(bench, runs, arguments);
  if (arguments.partial()) return 0;
  print_tables(bench, runs);
  print_gates(bench, runs);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  CLI::App app{"ways to thin out tokens side by side at equal multiply-accumulates", "tokens_table"};
  bench::add_table_flags(app, arguments);
  app.add_option("--budgets", arguments.budgets, "shares of multiply-accumulates, instead of the tier's")
      ->delimiter(',')
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--model", arguments.model, "a trained network, instead of those trained here");
  app.add_option("--train", arguments.train,
                 "with --model: images of the search, as docs/data.md names them");
  app.add_option("--test", arguments.test, "with --model: labelled images of the table");
  app.add_option("--mean", arguments.preprocess.mean, "with --model: as `lithe eval` takes it");
  app.add_option("--std", arguments.preprocess.std, "with --model: as `lithe eval` takes it");
  app.add_flag("--first-block", arguments.first_block, "with --model: block 1 may remove tokens too");
  return bench::run_table(app, arguments, argc, argv, [&] { return run(arguments); });
}
