// Models for several bit-widths side by side under one recipe: MBQuant, one shared weight tensor with the
// same quantiser, the Any-Precision recipe, and dedicated LSQ models.
//   multibit_table [--tier smoke|small|paper] [--results FILE] [--data-root DIR] [--threads N] [--seeds N]
//                  [--epochs N] [--methods "a;b"] [--shard I/N]
// Every finished run is one JSON line appended to FILE (default multibit_<tier>.jsonl); a run that is there
// is not done again, so that the bench can be stopped and started at will, and several processes with
// different --shard can share the work. The table comes from the file.
//
// All methods of a seed see the same data in the same order and start stem and head from the same weights.
// "=time" trains for as many epochs as take the time of mbquant. lsq trains one network a bit-width for all
// epochs; its time is that of all of them. Times are of the processor. Accuracies are of test images that
// chose nothing. The tier small has 4,000 training images of CIFAR-10 at 16x16 pixels and 10 epochs, about an
// hour of one core in all; paper has ResNet-20, 25,000 images of 32x32 and 200 epochs.
//   DIR (default: the environment variable LITHE_DATA) holds cifar10/{train_25000,test_5000}.bin; without it,
// and in the tier smoke, a procedural data set of small shapes is used. The bench fails if mbquant does no
// better than chance at a bit-width.
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/processor_time.h"
#include "bench/run_file.h"
#include "bench/shapes_data.h"
#include "bench/statistics.h"
#include "bench/table_flags.h"
#include "lithe/base/error.h"
#include "lithe/models/builder.h"
#include "lithe/multibit/multibit.h"

namespace {

using namespace lithe;
using bench::BySeed;
using bench::moments;
using bench::Moments;
using bench::processor_seconds;
using bench::RunFile;
using nlohmann::json;
namespace fs = std::filesystem;

struct Tier {
  std::int64_t epochs, train, test, batch;
  std::vector<std::int64_t> widths;
  int blocks, seeds;
  bool cifar;
  std::int64_t size;  // of CIFAR-10's pictures
};

const Tier kSmoke{3, 600, 500, 32, {8, 16}, 1, 1, false, 16};
const Tier kSmall{10, 4000, 2000, 64, {8, 16, 32}, 1, 3, true, 16};
const Tier kPaper{200, 25000, 5000, 128, {16, 32, 64}, 3, 3, true, 32};

const std::string kTimed = " =time";
const std::vector<std::string> kMethods{"mbquant",
                                        "shared",
                                        "anyprecision",
                                        "lsq",
                                        "mbquant 2-8",
                                        "mbquant, naive",
                                        "mbquant, labels alone",
                                        "mbquant, sandwich",
                                        "shared =time",
                                        "anyprecision =time",
                                        "lsq =time"};
constexpr double kChance = 10;  // of ten classes, in %
const std::vector<int> kEven{2, 4, 6, 8}, kAll{2, 3, 4, 5, 6, 7, 8};

/// He et al., CVPR 2016, section 4.2, with 1x1 convolutions where size or channels change.
Graph build_network(const Tier& tier, std::int64_t size, std::uint64_t seed) {
  GraphBuilder net("resnet", seed);
  const auto conv = [&](const std::string& name, const std::string& x, std::int64_t channels,
                        std::int64_t stride, std::int64_t kernel) {
    return net.batch_norm(
        name + ".norm",
        net.conv(name, x, {.channels = channels, .kernel = kernel, .stride = stride, .bias = false}));
  };
  std::string x =
      net.relu("relu", conv("conv", net.input("input", {-1, 3, size, size}), tier.widths[0], 1, 3));
  for (std::size_t stage = 0; stage < tier.widths.size(); ++stage)
    for (int block = 0; block < tier.blocks; ++block) {
      const std::string name = fmt::format("stage{}.{}", stage + 1, block);
      const std::int64_t channels = tier.widths[stage], stride = stage > 0 && block == 0 ? 2 : 1;
      const std::string y =
          conv(name + ".conv2", net.relu(name + ".relu1", conv(name + ".conv1", x, channels, stride, 3)),
               channels, 1, 3);
      if (stride == 2) x = conv(name + ".shortcut", x, channels, 2, 1);
      x = net.relu(name + ".relu2", net.add(name + ".add", y, x));
    }
  x = net.flatten("flatten", net.global_average_pool("pool", x));
  net.output("logits", net.gemm("fc", x, tier.widths.back(), 10), {-1, 10});
  return net.finish();
}

struct Subject {
  std::string name;
  DatasetPtr train, test;
  Preprocess preprocess;
  std::int64_t size;
  int crop;
};

struct Bench {
  Tier tier;
  Subject subject;
  int threads = 1;
};

std::string key_of(const Bench& bench, const std::string& method, int seed) {
  return fmt::format("{}|{} samples|{} epochs|{}|seed {}", bench.subject.name, bench.subject.train->size(),
                     bench.tier.epochs, method, seed);
}

std::string plain(const std::string& method) {
  return method.ends_with(kTimed) ? method.substr(0, method.size() - kTimed.size()) : method;
}

MultibitOptions options_of(const Bench& bench, const std::string& method, int seed, std::int64_t epochs) {
  const std::string name = plain(method);
  MultibitOptions options{.bits = name == "mbquant 2-8" ? kAll : kEven, .from_scratch = true};
  if (name == "shared") options.method = MultibitMethod::Shared;
  if (name == "lsq") options.method = MultibitMethod::Lsq;
  if (name == "anyprecision") {
    options.method = MultibitMethod::AnyPrecision;
    options.teaching = Teaching::Recursive;
  }
  options.amortise = name != "mbquant, naive";
  options.sandwich = name == "mbquant, sandwich";
  if (name == "mbquant, labels alone") options.teaching = Teaching::None;
  TrainOptions& train = options.train;
  train.epochs = epochs;
  train.batch = bench.tier.batch;
  train.learning_rate = 0.1;
  train.weight_decay = 1e-4;
  train.decay_all = true;
  train.schedule = Schedule::CosinePerEpoch;
  train.augmentation.flip = true;
  train.augmentation.padded_crop = bench.subject.crop;
  train.preprocess = bench.subject.preprocess;
  train.seed = static_cast<std::uint64_t>(seed);
  train.threads = bench.threads;
  return options;
}

/// Trains and scores; accuracies by bit-width go to `line`.
void run_model(const Bench& bench, const MultibitOptions& options, int seed, json& line) {
  Progress silent;
  const Graph model = build_network(bench.tier, bench.subject.size, static_cast<std::uint64_t>(seed));
  const double start = processor_seconds();
  const MultibitTrained result = train_multibit(model, bench.subject.train, options, silent);
  line["seconds"] = line.value("seconds", 0.0) + processor_seconds() - start;
  const auto scores =
      evaluate_bits(result.branches.graph, options.bits, bench.subject.test, {.batch = 250, .threads = 1});
  for (std::size_t i = 0; i < scores.size(); ++i)
    line["top1"][std::to_string(options.bits[i])] = 100 * *scores[i].top1;
  std::int64_t weights = 0;
  for (const std::string& name : result.branches.weights)
    weights += result.branches.graph.constants.at(name).count();
  line["weights"] = line.value("weights", std::int64_t{0}) + weights;
  line["packed_bytes"] =
      line.value("packed_bytes", std::int64_t{0}) + bit_storage(result.branches.graph).weights;
  line["crossed"] = line.value("crossed", std::int64_t{0}) + result.crossed;
}

void run_one(RunFile& results, const Bench& bench, const std::string& method, int seed) {
  const std::string key = key_of(bench, method, seed);
  if (results.find(key)) return;
  std::int64_t epochs = bench.tier.epochs;
  if (method != plain(method)) {
    const json *slow = results.find(key_of(bench, "mbquant", seed)),
               *fast = results.find(key_of(bench, plain(method), seed));
    if (!slow || !fast) return;
    const double ratio = slow->at("seconds").get<double>() / fast->at("seconds").get<double>();
    epochs = std::max<std::int64_t>(1, std::llround(static_cast<double>(epochs) * ratio));
  }
  json line{{"key", key}, {"method", method}, {"seed", seed}, {"epochs", epochs}, {"top1", json::object()}};
  MultibitOptions options = options_of(bench, method, seed, epochs);
  if (options.method == MultibitMethod::Lsq) {
    for (const int bits : kEven) {
      options.bits = {bits};
      run_model(bench, options, seed, line);
    }
  } else {
    run_model(bench, options, seed, line);
  }
  results.add(line);
  fmt::print("  {:<70} {:7.1f} s  {}\n", key, line.at("seconds").get<double>(), line.at("top1").dump());
  std::fflush(stdout);
}

BySeed scores_of(const RunFile& results, const Bench& bench, const std::string& method, int bits) {
  BySeed found;
  for (int seed = 0; seed < bench.tier.seeds; ++seed)
    if (const json* line = results.find(key_of(bench, method, seed));
        line && line->at("top1").contains(std::to_string(bits)))
      found[seed] = line->at("top1").at(std::to_string(bits));
  return found;
}

void print_table(const RunFile& results, const Bench& bench, const std::vector<std::string>& methods) {
  fmt::print(
      "\n{}: {} samples, {} test images, {} epochs, batches of {}; top-1 in %, mean (deviation) over seeds\n",
      bench.subject.name, bench.subject.train->size(), bench.subject.test->size(), bench.tier.epochs,
      bench.tier.batch);
  fmt::print("{:<24}{:>3}{:>8}", "method", "n", "epochs");
  for (const int bits : kAll) fmt::print("{:>15}", fmt::format("{} bits", bits));
  fmt::print("{:>10}{:>12}{:>10}\n", "CPU s", "weights, k", "packed kB");
  for (const std::string& method : methods) {
    std::vector<double> seconds, epochs;
    json last;
    for (int seed = 0; seed < bench.tier.seeds; ++seed)
      if (const json* line = results.find(key_of(bench, method, seed))) {
        seconds.push_back(line->at("seconds"));
        epochs.push_back(line->at("epochs"));
        last = *line;
      }
    if (seconds.empty()) continue;
    fmt::print("{:<24}{:>3}{:>8.1f}", method, seconds.size(), moments(epochs).mean);
    for (const int bits : kAll) {
      const Moments m = moments(bench::values_of(scores_of(results, bench, method, bits)));
      fmt::print("{:>15}", m.n == 0   ? ""
                           : m.n == 1 ? fmt::format("{:.2f}", m.mean)
                                      : fmt::format("{:.2f} ({:.2f})", m.mean, m.deviation));
    }
    fmt::print("{:>10.0f}{:>12.1f}{:>10.1f}\n", moments(seconds).mean, last.at("weights").get<double>() / 1e3,
               last.at("packed_bytes").get<double>() / 1e3);
  }
  fmt::print("\nmbquant minus another method, mean and 95 % interval over paired seeds\n");
  for (const std::string& method : methods) {
    if (method == "mbquant") continue;
    std::string text;
    for (const int bits : kEven) {
      const Moments m = moments(
          bench::paired(scores_of(results, bench, "mbquant", bits), scores_of(results, bench, method, bits)));
      if (m.n > 0)
        text += m.n == 1 ? fmt::format("  {} bits {:+.2f}", bits, m.mean)
                         : fmt::format("  {} bits {:+.2f} ± {:.2f}", bits, m.mean, m.interval());
    }
    if (!text.empty()) fmt::print("  {:<24}{}\n", method, text);
  }
  double spent = 0;
  for (const std::string& method : methods)
    for (int seed = 0; seed < bench.tier.seeds; ++seed)
      if (const json* line = results.find(key_of(bench, method, seed)))
        spent += line->at("seconds").get<double>();
  fmt::print("all of it took {:.0f} minutes of one core\n", spent / 60);
  const double images = static_cast<double>(bench.subject.test->size());
  fmt::print("one test set of {} images alone has a standard error of about {:.1f} at 50 %\n",
             bench.subject.test->size(), 100 * std::sqrt(0.25 / images));
}

/// Whether what was trained is better than chance at every bit-width, whatever the seed.
bool learnt(const RunFile& results, const Bench& bench) {
  bool good = true;
  for (const int bits : kEven)
    for (const auto& [seed, top1] : scores_of(results, bench, "mbquant", bits))
      if (top1 < kChance + 2) {
        fmt::print("mbquant, seed {}: {:.1f} % at {} bits is no better than chance\n", seed, top1, bits);
        good = false;
      }
  return good;
}

Subject subject_of(const Tier& tier, const std::string& root) {
  const fs::path folder = fs::path(root) / "cifar10";
  if (tier.cifar && !root.empty() && fs::exists(folder / "train_25000.bin")) {
    const Preprocess preprocess{.mean = {0.4914, 0.4822, 0.4465},
                                .std = {0.2470, 0.2435, 0.2616},
                                .resize = PixelSize{tier.size, tier.size}};
    return {.name = fmt::format("CIFAR-10 at {}x{}", tier.size, tier.size),
            .train = seeded_subset(
                open_dataset("cifar10:" + (folder / "train_25000.bin").string(), preprocess), tier.train, 1),
            .test = seeded_subset(open_dataset("cifar10:" + (folder / "test_5000.bin").string(), preprocess),
                                  tier.test, 2),
            .preprocess = preprocess,
            .size = tier.size,
            .crop = static_cast<int>(tier.size / 8)};
  }
  if (tier.cifar) fmt::print("no CIFAR-10 under --data-root or LITHE_DATA: small shapes instead\n");
  return {.name = "shapes",
          .train = bench::shapes_dataset(tier.train, 1),
          .test = bench::shapes_dataset(tier.test, 2),
          .preprocess = bench::shapes_preprocess(),
          .size = bench::kShapeSize,
          .crop = 2};
}

struct Arguments : bench::TableFlags {
  std::int64_t epochs = 0;
  std::vector<std::string> methods = kMethods;
};

int run(const Arguments& arguments) {
  Bench bench{.tier = arguments.choose(kSmoke, kSmall, kPaper)};
  bench.threads = arguments.threads;
  if (arguments.seeds > 0) bench.tier.seeds = arguments.seeds;
  if (arguments.epochs > 0) bench.tier.epochs = arguments.epochs;
  at::set_num_threads(bench.threads);
  bench.subject = subject_of(bench.tier, arguments.data_root);

  RunFile results(arguments.results, {"seconds", "top1", "weights"});
  // A seed is one unit of work: what is timed by another run needs it.
  for (int seed = 0; seed < bench.tier.seeds; ++seed)
    if (arguments.mine(seed))
      for (const std::string& method : arguments.methods) run_one(results, bench, method, seed);
  if (arguments.partial()) return 0;
  print_table(results, bench, arguments.methods);
  return learnt(results, bench) ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  CLI::App app{"models for several bit-widths side by side", "multibit_table"};
  bench::add_table_flags(app, arguments);
  app.add_option("--epochs", arguments.epochs, "instead of the tier's")->check(CLI::PositiveNumber);
  app.add_option("--methods", arguments.methods)->delimiter(';')->check(CLI::IsMember(kMethods));
  return bench::run_table(app, arguments, argc, argv, [&] { return run(arguments); });
}
