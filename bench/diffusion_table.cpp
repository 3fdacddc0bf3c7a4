// Searches of sampling schedules beside schedules made by hand, on the bundled noise predictor of 8x8 digits.
//   diffusion_table [--tier smoke|small|paper] [--results FILE] [--seeds N] [--threads N] [--shard I/N]
// Every finished run is one JSON line appended to FILE (default diffusion_table_<tier>.jsonl); a run that is
// there is not done again. Tables and gates come from the file.
//
// All methods of a seed share their noise and the schedules that they start from. "autodiffusion" is the
// published search with its defects mended; "random" and "climb" get as many evaluations as it; "racing" gets
// a fifth of its network calls. Of each search the five best are judged on 1,000 images of other noise, and
// the best of them goes on to the table, where everything is judged on noise that no search and no choice has
// seen: by the features of the searches, and by those of a second network.
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <map>
#include <string>
#include <vector>

#include "bench/run_file.h"
#include "bench/statistics.h"
#include "bench/table_flags.h"
#include "lithe/diffusion/search_schedule.h"
#include "lithe/engine/threads.h"
#include "lithe/graph/half_weights.h"
#include "lithe/graph/onnx.h"
#include "lithe/train/samples.h"

namespace {

using namespace lithe;
using bench::BySeed;
using bench::moments;
using bench::RunFile;
using nlohmann::json;

constexpr int kFirstSeed = 1005;
constexpr std::uint64_t kFinishNoise = 0x66696e69, kTableNoise = 0x7461626c;  // seen by no search
constexpr std::size_t kFinalists = 5;

struct Tier {
  int seeds = 1;
  std::vector<std::int64_t> steps{4};
  std::int64_t images = 100, final_images = 200;
  int population = 6, generations = 2, streams = 2;
};

struct Bench {
  Tier tier;
  int threads = 1;
  ImageTask task, judge;                  // of the search's features and of the second network's
  at::Tensor reference, judge_reference;  // features of the real digits
};

std::function<std::unique_ptr<FeatureNetwork>()> features(const std::string& name) {
  const auto graph = std::make_shared<Graph>(read_onnx(std::string(LITHE_EXAMPLES "/models/") + name));
  widen_weights(*graph);
  const Preprocess preprocess = preprocess_for("", *graph);
  return [graph, preprocess] { return std::make_unique<FeatureNetwork>(*graph, preprocess); };
}

Bench make_bench(const Tier& tier, int threads) {
  Bench bench{.tier = tier, .threads = threads};
  auto graph = std::make_shared<Graph>(read_onnx(LITHE_EXAMPLES "/models/digits_unet.onnx"));
  widen_weights(*graph);
  bench.task.make_denoiser = [graph] { return std::make_unique<GraphDenoiser>(graph); };
  bench.task.sampler.batch = 50;
  bench.task.shape = {1, 8, 8};
  bench.task.make_features = features("digits_features_a.onnx");
  bench.judge = bench.task;
  bench.judge.make_features = features("digits_features_b.onnx");
  const Preprocess preprocess{.mean = {0.5},
                              .std = {0.5},
                              .resize = PixelSize{8, 8},
                              .interpolation = Interpolation::Area,
                              .colour = ColourOrder::Gray};
  const at::Tensor pixels =
      load_pixels(open_dataset("sheet:" LITHE_EXAMPLES "/digits/digits.png,cell=20x20", preprocess));
  const auto of = [&](const ImageTask& task) {
    const auto network = task.make_features();
    return features_of(*network, pixels);
  };
  bench.reference = of(bench.task);
  bench.judge_reference = of(bench.judge);
  return bench;
}

/// The distance of each candidate's images on each stream, by one network's features.
std::vector<std::vector<double>> distances(const Bench& bench, const ImageTask& task,
                                           const at::Tensor& reference,
                                           const std::vector<Candidate>& candidates, std::int64_t images,
                                           const std::vector<std::uint64_t>& streams) {
  const ImageReference real(reference);
  FeatureCache cache;
  Evaluator evaluator({.make_fitness = [&] { return std::make_unique<ImageFitness>(task, real, cache); },
                       .threads = bench.threads});
  std::vector<std::vector<double>> out(candidates.size());
  Progress silent;
  for (const std::uint64_t stream : streams) {
    std::vector<EvaluationRequest> requests;
    for (const Candidate& one : candidates)
      requests.push_back({.candidate = one, .images = images, .stream = stream});
    const std::vector<double> scores = evaluator(requests, silent);
    for (std::size_t i = 0; i < scores.size(); ++i) out[i].push_back(scores[i]);
  }
  return out;
}

/// What stands in the table: the same streams for all.
json judged(const Bench& bench, const Candidate& candidate) {
  std::vector<std::uint64_t> streams;
  for (int i = 0; i < bench.tier.streams; ++i)
    streams.push_back(seed_for(kTableNoise, static_cast<std::uint64_t>(i)));
  const auto of = [&](const ImageTask& task, const at::Tensor& reference) {
    return distances(bench, task, reference, {candidate}, bench.tier.final_images, streams)[0];
  };
  return {{"steps", steps_of(candidate)},
          {"distance", of(bench.task, bench.reference)},
          {"second", of(bench.judge, bench.judge_reference)}};
}

struct Method {
  std::string name;
  SearchMethod method;
};
const std::vector<Method> kMethods{{"autodiffusion", SearchMethod::Evolution},
                                   {"random", SearchMethod::Random},
                                   {"climb", SearchMethod::Climb},
                                   {"racing", SearchMethod::Racing},
                                   {"gits", SearchMethod::Gits}};

ScheduleSearchOptions options_of(const Bench& bench, SearchMethod method, std::int64_t steps, int seed) {
  const Tier& tier = bench.tier;
  ScheduleSearchOptions options{.method = method, .steps = steps};
  options.images = tier.images;
  options.seed = static_cast<std::uint64_t>(seed);
  options.threads = bench.threads;
  options.final_streams = 0;
  options.evolution = {.population = tier.population,
                       .parents = std::max(1, tier.population / 4),
                       .mutations = tier.population / 2,
                       .crossovers = tier.population * 3 / 10,
                       .generations = tier.generations};
  const int evaluations = tier.population * tier.generations;
  options.evaluations = evaluations;
  options.racing.rounds = 1000;
  options.racing.images = {tier.images / 6 / 50 * 50 > 0 ? tier.images / 6 / 50 * 50 : tier.images / 2,
                           tier.images};
  const double full = static_cast<double>(evaluations) * static_cast<double>(tier.images * steps);
  // A round may go beyond the bound by what it costs itself, about this much.
  options.racing.children = 8;
  const double round = static_cast<double>(steps * (options.racing.children * options.racing.images[0] +
                                                    2 * (tier.images - options.racing.images[0])));
  options.racing.most_calls = std::max(1.0, 0.2 * full - round);
  return options;
}

json search(const Bench& bench, const Method& method, std::int64_t steps, int seed) {
  Progress silent;
  const std::clock_t start = std::clock();
  const ScheduleSearchResult found = search_schedule(bench.task, bench.reference, ImageMetric::Frechet, {},
                                                     options_of(bench, method.method, steps, seed), silent);
  std::vector<Candidate> finalists;
  for (std::size_t i = 0; i < std::min(kFinalists, found.search.best.size()); ++i)
    finalists.push_back(found.search.best[i].candidate);
  const auto finish = distances(bench, bench.task, bench.reference, finalists, bench.tier.final_images,
                                {seed_for(static_cast<std::uint64_t>(seed), kFinishNoise)});
  const auto best = std::min_element(finish.begin(), finish.end()) - finish.begin();
  json run = judged(bench, finalists[static_cast<std::size_t>(best)]);
  run["calls"] = found.search_calls;
  run["evaluations"] = found.evaluations;
  run["seconds"] = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  return run;
}

std::string key(const std::string& method, std::int64_t steps, int seed) {
  return fmt::format("{}/{}/{}", method, steps, seed);
}

void run_all(const Bench& bench, RunFile& runs, const bench::TableFlags& flags) {
  const auto record = [&](json run, const std::string& name, const std::string& method, std::int64_t steps) {
    run["key"] = name;
    run["method"] = method;
    run["k"] = steps;
    runs.add(run);
    fmt::print("  {:<28} {:>9.2f} {:>9.2f}  steps {}\n", name, moments(run["distance"]).mean,
               moments(run["second"]).mean, run["steps"].dump());
    std::fflush(stdout);
  };
  int piece = 0;
  for (const std::int64_t steps : bench.tier.steps) {
    if (flags.mine(piece++))
      for (const auto& [name, candidate] : schedules_by_hand(bench.task, steps))
        if (!runs.find(key(name, steps, 0)))
          record(judged(bench, candidate), key(name, steps, 0), name, steps);
    for (int s = 0; s < bench.tier.seeds; ++s) {
      if (!flags.mine(piece++)) continue;
      for (const Method& method : kMethods)
        if (const std::string name = key(method.name, steps, kFirstSeed + s); !runs.find(name))
          record(search(bench, method, steps, kFirstSeed + s), name, method.name, steps);
    }
  }
}

/// Mean over the streams, by seed (0 for schedules by hand).
BySeed levels(const Bench& bench, const RunFile& runs, const std::string& method, std::int64_t steps,
              const char* what) {
  BySeed out;
  for (int s = 0; s <= bench.tier.seeds; ++s) {
    const int seed = s == 0 ? 0 : kFirstSeed + s - 1;
    if (const json* run = runs.find(key(method, steps, seed))) out[seed] = moments(run->at(what)).mean;
  }
  return out;
}

/// Differences to a schedule by hand, stream by stream, over all seeds.
std::vector<double> against(const Bench& bench, const RunFile& runs, const std::string& method,
                            const std::string& hand, std::int64_t steps, const char* what) {
  std::vector<double> out;
  const json* other = runs.find(key(hand, steps, 0));
  for (int s = 0; other && s <= bench.tier.seeds; ++s)
    if (const json* run = runs.find(key(method, steps, s == 0 ? 0 : kFirstSeed + s - 1))) {
      const std::vector<double> a = run->at(what), b = other->at(what);
      double mean = 0;
      for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i)
        mean += (a[i] - b[i]) / static_cast<double>(a.size());
      out.push_back(mean);
    }
  return out;
}

void print_tables(const Bench& bench, const RunFile& runs) {
  for (const std::int64_t steps : bench.tier.steps) {
    fmt::print(
        "\n{} steps: distance (mean over seeds, deviation), less that of centred; by the second network\n",
        steps);
    std::vector<std::string> names;
    for (const auto& [name, candidate] : schedules_by_hand(bench.task, steps)) names.push_back(name);
    for (const Method& method : kMethods) names.push_back(method.name);
    for (const std::string& name : names) {
      const auto level = moments(bench::values_of(levels(bench, runs, name, steps, "distance")));
      if (level.n == 0) continue;
      const auto second = moments(bench::values_of(levels(bench, runs, name, steps, "second")));
      const auto lead = moments(against(bench, runs, name, "centred", steps, "distance"));
      const auto lead2 = moments(against(bench, runs, name, "centred", steps, "second"));
      double calls = 0;
      for (int s = 0; s < bench.tier.seeds; ++s)
        if (const json* run = runs.find(key(name, steps, kFirstSeed + s)))
          calls += run->at("calls").get<double>() / static_cast<double>(level.n);
      fmt::print(
          "  {:<20} {:8.2f} ({:5.2f})  {:+7.2f} +- {:4.2f}   {:8.3f} ({:5.3f})  {:+7.3f} +- {:5.3f}  "
          "{:>9.0f} calls\n",
          name, level.mean, level.deviation, lead.mean, lead.interval(), second.mean, second.deviation,
          lead2.mean, lead2.interval(), calls);
    }
  }
}

void print_gates(const Bench& bench, const RunFile& runs) {
  fmt::print("\ngates\n");
  for (const std::int64_t steps : bench.tier.steps) {
    const BySeed racing = levels(bench, runs, "racing", steps, "distance");
    const BySeed published = levels(bench, runs, "autodiffusion", steps, "distance");
    int ahead = 0;
    double dearest = 0;
    for (const auto& [seed, value] : racing) {
      const auto other = published.find(seed);
      if (other == published.end()) continue;
      ahead += value <= other->second;
      dearest =
          std::max(dearest, runs.find(key("racing", steps, seed))->at("calls").get<double>() /
                                runs.find(key("autodiffusion", steps, seed))->at("calls").get<double>());
    }
    fmt::print(
        "  {:>2} steps: racing no worse than the published search in {} of {} seeds, with at most {:.1f} % "
        "of its calls: {}\n",
        steps, ahead, racing.size(), 100 * dearest,
        racing.size() < 5              ? "needs 5 seeds"
        : ahead >= 4 && dearest <= 0.2 ? "holds"
                                       : "DOES NOT HOLD");
  }
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Searches of sampling schedules beside schedules made by hand", "diffusion_table");
  bench::TableFlags flags;
  bench::add_table_flags(app, flags);
  return bench::run_table(app, flags, argc, argv, [&] {
    set_threads(1);
    const Tier small{.seeds = 5,
                     .steps = {4, 6, 10},
                     .images = 300,
                     .final_images = 1000,
                     .population = 20,
                     .generations = 6,
                     .streams = 4};
    Tier paper = small;
    paper.images = 1000;
    paper.final_images = 5000;
    paper.population = 50;
    paper.generations = 10;
    paper.streams = 8;
    Tier tier = flags.choose(Tier{}, small, paper);
    if (flags.seeds > 0) tier.seeds = flags.seeds;
    const Bench bench = make_bench(tier, flags.threads);
    RunFile runs(flags.results, {"distance", "second", "steps"});
    run_all(bench, runs, flags);
    if (flags.partial()) return 0;
    print_tables(bench, runs);
    print_gates(bench, runs);
    return 0;
  });
}
