// DFSQ beside uniform quantisers on super-resolution networks, over bits and calibration seeds.
//
//   dfsq_table [--tier smoke|small|paper] [--data-root DIR] [--model FILE] [--scale N]
//              [--value-range 1|255] [--results FILE] [--shard I/N] [--seeds N]
//              [--bits 8,6,4,3,2] [--methods a,b] [--sets Set5,Set14] [--steps N] [--patches N]
//
// Every finished run is one JSON line appended to FILE (default dfsq_<tier>.jsonl); a run that is there is
// not done again, so that the bench can be stopped and started at will, and several processes with different
// --shard can share the work. Tables and checks come from the file.
//
// DIR (default: the environment variable LITHE_DATA) holds sr/<set>/x<scale> with pairs of pictures,
// models/imdn_x2.onnx (the network unless --model names another) and imagenet/*.jpg. Networks are calibrated
// on random 48x48 patches of the latter, shrunk by the scale; the set "held-out" is 20 more of these
// pictures, which decides between variants: the others are only reported. NAME-centre is the set NAME cut to
// the middle 112x112 pixels of the inputs, where whole pictures would take too long. A seed (1005, 1006, ...)
// chooses the patches, and where K-means begins.
//
// All methods quantise the layers that DFSQ chooses, weights and inputs to the same bits; others stay in
// float.
//   minmax, percentile (99.9), mse: one uniform scale an input by that range, weights likewise
//   channel: one uniform range of least squared error a channel of the input, folded into weights
//   published: DFSQ as published (dynamic statistics, K-means, weights by min-max)
//   dynamic, static: exact points, weights by mse
//   learnt: static, then roundings learnt block by block (at up to 4 bits: nothing is lost above)
// PSNR and SSIM on luma, a border of the scale left out, outputs rounded to 8 bits.
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <malloc.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/processor_time.h"
#include "bench/run_file.h"
#include "bench/statistics.h"
#include "bench/table_flags.h"
#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/base/hash.h"
#include "lithe/data/loader.h"
#include "lithe/data/patches.h"
#include "lithe/engine/executor.h"
#include "lithe/graph/onnx.h"
#include "lithe/metrics/evaluate.h"
#include "lithe/quantize/dfsq/quantize_dfsq.h"

namespace {

using namespace lithe;
using bench::BySeed;
using bench::moments;
using bench::Moments;
using bench::processor_seconds;
using bench::RunFile;
using nlohmann::json;
namespace fs = std::filesystem;

constexpr int kFirstSeed = 1005;
constexpr std::int64_t kPatch = 48, kHeldOut = 20, kCentre = 112;
constexpr int kMostLearntBits = 4;
constexpr double kNoise = 0.02;  // dB that calibration alone can move
const std::vector<std::string> kMethods{"minmax",    "percentile", "mse",    "channel",
                                        "published", "dynamic",    "static", "learnt"};

struct Tier {
  int seeds = 1;
  std::vector<int> bits;
  std::vector<std::string> methods;
  std::vector<std::string> sets;
  std::int64_t patches = 32, steps = 250, learn_patches = 128;
};

const Tier kSmoke{1, {4}, {"minmax", "mse", "published", "static"}, {"Set5"}, 8, 50, 32};
// Without what decided between variants, and little of it whole: about an hour of one core.
const Tier kSmall{3,
                  {8, 6, 4, 3, 2},
                  {"minmax", "percentile", "mse", "channel", "published", "static", "learnt"},
                  {"Set5", "Set14-centre"},
                  32,
                  40,
                  64};
const Tier kPaper{3, {8, 6, 4, 3, 2}, kMethods, {"Set5", "Set14", "held-out"}, 32, 5000, 512};

struct Subject {
  std::string name;
  std::uint64_t hash = 0;
  std::int64_t scale = 2;
  Graph graph;
  Preprocess preprocess;
  DatasetPtr pool;
  std::map<std::string, DatasetPtr> sets;
};

struct Run {
  int bits;
  std::string method;
  int seed;

  std::string key(const Subject& subject, const Tier& tier, const std::string& set) const {
    const std::string schedule =
        method == "learnt" ? fmt::format("{} steps, {} patches", tier.steps, tier.learn_patches) : "ranges";
    return fmt::format("{} {:016x}|{}|{} patches|{}|{} bits|{}|seed {}", subject.name, subject.hash, set,
                       tier.patches, schedule, bits, method, seed);
  }
};

/// The middle of every picture and of its target.
class Centres : public Dataset {
 public:
  Centres(DatasetPtr dataset, std::int64_t scale) : dataset_(std::move(dataset)), scale_(scale) {}
  std::int64_t size() const override { return dataset_->size(); }
  Sample get(std::int64_t index) const override {
    Sample sample = dataset_->get(index);
    at::Tensor& picture = sample.inputs.begin()->second;
    const std::int64_t height = std::min(kCentre, picture.size(1)),
                       width = std::min(kCentre, picture.size(2));
    const std::int64_t top = (picture.size(1) - height) / 2, left = (picture.size(2) - width) / 2;
    picture = picture.narrow(1, top, height).narrow(2, left, width);
    sample.target =
        sample.target.narrow(1, scale_ * top, scale_ * height).narrow(2, scale_ * left, scale_ * width);
    return sample;
  }

 private:
  DatasetPtr dataset_;
  std::int64_t scale_;
};

Evaluation score(const Graph& graph, const Subject& subject, const std::string& set) {
  const at::NoGradGuard no_grad;
  Executor executor(graph);
  return evaluate(executor, subject.sets.at(set),
                  {.batch = 1, .threads = 1, .preprocess = subject.preprocess});
}

Quantized quantized_by(const Subject& subject, const Tier& tier, const Run& run) {
  const auto seed = static_cast<std::uint64_t>(run.seed);
  const bool learns = run.method == "learnt";
  // Decoded and shrunk once, not in every pass.
  const DatasetPtr calibration = tensor_dataset(
      load_all(random_patches(subject.pool, kPatch, learns ? tier.learn_patches : tier.patches, seed), -1, 1)
          .inputs);
  QuantizeOptions options{.weight_bits = run.bits, .activation_bits = run.bits};
  options.dfsq = DfsqOptions{.seed = seed};
  options.batch = 8;
  options.threads = 1;
  options.report_samples = 0;
  Progress silent;
  if (run.method == "minmax" || run.method == "percentile" || run.method == "mse") {
    const QuantizationPlan plan = plan_dfsq(subject.graph, options);
    options = uniform_counterpart(options, plan.layers,
                                  run.method == "minmax"       ? QuantizeMethod::MinMax
                                  : run.method == "percentile" ? QuantizeMethod::Percentile
                                                               : QuantizeMethod::Mse);
    options.percentile = 99.9;
  } else if (run.method == "channel") {
    options.dfsq->points = PointMethod::Uniform;
  } else if (run.method == "published") {
    options.dfsq->statistics = SubsetStatistics::Dynamic;
    options.dfsq->points = PointMethod::KMeans;
    options.dfsq->weights = SubsetWeights::MinMax;
  } else if (run.method == "dynamic") {
    options.dfsq->statistics = SubsetStatistics::Dynamic;
  } else if (learns) {
    options.reconstruct = reconstruct_options(ReconstructMethod::Brecq, Effort::Fast);
    set_steps(*options.reconstruct, tier.steps);
    options.reconstruct->seed = seed;
    options.reconstruct->batch = 8;
  }
  return quantize(subject.graph, calibration, options, silent);
}

void run_one(RunFile& results, const Subject& subject, const Tier& tier, const Run& run) {
  if (run.method == "learnt" && run.bits > kMostLearntBits) return;
  std::vector<std::string> open;
  for (const std::string& set : tier.sets)
    if (!results.find(run.key(subject, tier, set))) open.push_back(set);
  if (open.empty()) return;
  const double start = processor_seconds();
  const Quantized quantized = quantized_by(subject, tier, run);
  const double seconds = processor_seconds() - start;
  for (const std::string& set : open) {
    const double begun = processor_seconds();
    const Evaluation result = score(quantized.graph, subject, set);
    results.add({{"key", run.key(subject, tier, set)},
                 {"network", subject.name},
                 {"set", set},
                 {"bits", run.bits},
                 {"method", run.method},
                 {"seed", run.seed},
                 {"psnr", *result.psnr_y},
                 {"ssim", result.ssim_y.value_or(0)},
                 {"seconds", seconds},
                 {"spent", processor_seconds() - begun + seconds / static_cast<double>(open.size())}});
    fmt::print("  {} bits {:<11}seed {}  {:<9}{:7.3f} dB  {:6.1f} s to quantise\n", run.bits, run.method,
               run.seed, set, *result.psnr_y, seconds);
    std::fflush(stdout);
  }
}

class Table {
 public:
  Table(const RunFile& results, const Subject& subject, const Tier& tier)
      : results_(results), subject_(subject), tier_(tier) {
    for (const std::string& set : tier.sets) floats_[set] = score(subject.graph, subject, set);
  }

  BySeed numbers(int bits, const std::string& method, const std::string& set,
                 const char* field = "psnr") const {
    BySeed found;
    for (int seed = kFirstSeed; seed < kFirstSeed + tier_.seeds; ++seed)
      if (const json* line = results_.find(Run{bits, method, seed}.key(subject_, tier_, set)))
        found[seed] = line->at(field);
    return found;
  }

  void print() const {
    double spent = 0;
    for (const std::string& set : tier_.sets) {
      const Evaluation& plain = floats_.at(set);
      fmt::print("\n{}, {}: float {:.3f} dB, bicubic {:.3f} dB; {} patches of {}x{}, seeds {}..{}\n",
                 subject_.name, set, *plain.psnr_y, plain.bicubic_psnr_y.value_or(0), tier_.patches, kPatch,
                 kPatch, kFirstSeed, kFirstSeed + tier_.seeds - 1);
      fmt::print("{:<12}", "PSNR, dB");
      for (const int bits : tier_.bits) fmt::print("{:>18}", fmt::format("W{}A{}", bits, bits));
      fmt::print("\n");
      for (const std::string& method : tier_.methods) {
        fmt::print("{:<12}", method);
        for (const int bits : tier_.bits) {
          const Moments m = moments(bench::values_of(numbers(bits, method, set)));
          fmt::print("{:>18}", m.n == 0   ? "-"
                               : m.n == 1 ? fmt::format("{:.3f}", m.mean)
                                          : fmt::format("{:.3f} ± {:.3f}", m.mean, m.deviation));
          for (const double one : bench::values_of(numbers(bits, method, set, "spent"))) spent += one;
        }
        fmt::print("\n");
      }
    }
    fmt::print("± is the deviation over seeds; all of it took {:.0f} minutes of one core\n", spent / 60);
  }

  /// What must hold on every set, and what an EDSR of 6 blocks and 32 channels reached besides, which is
  /// reported; false if something that must hold does not.
  bool check() const {
    bool good = true;
    for (const std::string& set : tier_.sets) {
      fmt::print(
          "\n{}: required, dB (means over seeds, paired; at least {} and beyond their 95 % interval)\n", set,
          kNoise);
      const auto require = [&](const std::string& what, const Moments& m) {
        if (m.n < static_cast<std::size_t>(tier_.seeds)) {
          fmt::print("  open   {:<50} not all seeds were run\n", what);
          return;
        }
        const bool holds = m.mean >= kNoise && m.mean > m.interval();
        good = good && holds;
        fmt::print("  {} {:<50}{:+8.3f} ± {:.3f}\n", holds ? "holds " : "BROKEN", what, m.mean, m.interval());
      };
      const auto psnr = [&](int bits, const char* method) { return numbers(bits, method, set); };
      for (const int bits : tier_.bits) {
        if (bits != 3 && bits != 4) continue;
        for (const auto& [better, base] : {std::pair{"percentile", "minmax"}, std::pair{"mse", "minmax"},
                                           std::pair{"channel", "percentile"}, std::pair{"channel", "mse"},
                                           std::pair{"static", "channel"}, std::pair{"static", "published"}})
          if (has(better) && has(base))
            require(fmt::format("{} bits: {} - {}", bits, better, base),
                    moments(bench::paired(psnr(bits, better), psnr(bits, base))));
        if (bits == 4 && has("published") && has("mse"))
          require("4 bits: published - mse", moments(bench::paired(psnr(4, "published"), psnr(4, "mse"))));
        if (bits == 4 && has("static") && has("mse"))
          require("4 bits: half the loss of mse - that of static", half_loss_left(set));
      }
      fmt::print("{}: expected, not required\n", set);
      const auto expect = [&](int bits, const char* method, double most) {
        const std::vector<double> found = bench::values_of(psnr(bits, method));
        if (found.empty()) return;
        const double loss = *floats_.at(set).psnr_y - moments(found).mean;
        fmt::print("  {} {} bits: loss of {:<8}{:8.3f} (at most {})\n", loss <= most ? "holds " : "missed",
                   bits, method, loss, most);
      };
      for (const char* method : {"static", "learnt"}) {
        expect(8, method, 0.01);
        expect(6, method, 0.03);
        expect(4, method, 0.15);
      }
    }
    return good;
  }

 private:
  bool has(const std::string& method) const {
    return std::find(tier_.methods.begin(), tier_.methods.end(), method) != tier_.methods.end();
  }

  /// By how much DFSQ loses less than half of what mse loses, by seed.
  Moments half_loss_left(const std::string& set) const {
    const double plain = *floats_.at(set).psnr_y;
    const BySeed ours = numbers(4, "static", set), mse = numbers(4, "mse", set);
    std::vector<double> left;
    for (const auto& [seed, value] : ours)
      if (const auto other = mse.find(seed); other != mse.end())
        left.push_back((plain - other->second) / 2 - (plain - value));
    return moments(left);
  }

  const RunFile& results_;
  const Subject& subject_;
  const Tier& tier_;
  std::map<std::string, Evaluation> floats_;  // of the network before anything, by set
};

struct Arguments : bench::TableFlags {
  std::string model;
  std::int64_t scale = 2, steps = 0, patches = 0;
  double value_range = 1;
  std::vector<int> bits;
  std::vector<std::string> methods, sets;
};

void add_flags(CLI::App& app, Arguments& a) {
  bench::add_table_flags(app, a);
  app.add_option("--model", a.model, "another super-resolution network")->check(CLI::ExistingFile);
  app.add_option("--scale", a.scale, "its scale")->check(CLI::Range(1, 16));
  app.add_option("--value-range", a.value_range, "the value of white, for example 1 or 255")
      ->check(CLI::PositiveNumber);
  app.add_option("--steps", a.steps, "steps a block, instead of the tier's")->check(CLI::PositiveNumber);
  app.add_option("--patches", a.patches, "patches to calibrate on, instead of the tier's")
      ->check(CLI::PositiveNumber);
  app.add_option("--bits", a.bits, "instead of the tier's")->delimiter(',')->check(CLI::Range(2, 8));
  app.add_option("--methods", a.methods)->delimiter(',')->check(CLI::IsMember(kMethods));
  app.add_option("--sets", a.sets, "for example Set5,Set14-centre,held-out")->delimiter(',');
}

Tier tier_of(const Arguments& a) {
  Tier tier = a.choose(kSmoke, kSmall, kPaper);
  if (a.seeds > 0) tier.seeds = a.seeds;
  if (a.steps > 0) tier.steps = a.steps;
  if (a.patches > 0) tier.patches = a.patches;
  if (!a.bits.empty()) tier.bits = a.bits;
  if (!a.methods.empty()) tier.methods = a.methods;
  if (!a.sets.empty()) tier.sets = a.sets;
  return tier;
}

Subject open_subject(const Arguments& arguments, const Tier& tier, const fs::path& file) {
  Subject subject{.name = file.stem().string(), .scale = arguments.scale};
  subject.hash = fnv1a(MappedFile(file).bytes());
  subject.graph = read_onnx(file);
  subject.preprocess = preprocess_for(file, subject.graph);
  if (arguments.value_range != 1) subject.preprocess.scale = arguments.value_range / 255;
  const std::string pictures = fmt::format(
      "pairs:{},scale={}", (fs::path(arguments.data_root) / "imagenet").string(), arguments.scale);
  const DatasetPtr all = open_dataset(pictures, subject.preprocess);
  std::vector<std::int64_t> pool, held_out;
  for (std::int64_t i = 0; i < all->size(); ++i) {
    const bool apart = i % 5 == 0;
    if (apart && static_cast<std::int64_t>(held_out.size()) < kHeldOut) held_out.push_back(i);
    if (!apart) pool.push_back(i);
  }
  subject.pool = subset(all, pool);
  for (const std::string& set : tier.sets) {
    if (set == "held-out") {
      subject.sets[set] = subset(all, held_out);
      continue;
    }
    const std::string folder = set.substr(0, set.find("-centre"));
    const fs::path pairs =
        fs::path(arguments.data_root) / "sr" / folder / fmt::format("x{}", arguments.scale);
    subject.sets[set] = open_dataset(pairs.string(), subject.preprocess);
    if (folder != set) subject.sets[set] = std::make_shared<Centres>(subject.sets[set], arguments.scale);
  }
  return subject;
}

int run(const Arguments& arguments) {
  const Tier tier = tier_of(arguments);
  at::set_num_threads(1);
  const fs::path root = arguments.data_root;
  const fs::path model = arguments.model.empty() ? root / "models/imdn_x2.onnx" : fs::path(arguments.model);
  for (const fs::path& file : {model, root / "imagenet", root / "sr"})
    if (root.empty() || !fs::exists(file)) {
      fmt::print("skipped: no {} (give --data-root or LITHE_DATA)\n", file.string());
      return 0;
    }
  const Subject subject = open_subject(arguments, tier, model);
  RunFile results(arguments.results, {"psnr", "seconds", "spent"});
  int cell = 0;
  for (int seed = kFirstSeed; seed < kFirstSeed + tier.seeds; ++seed)
    for (const int bits : tier.bits)
      for (const std::string& method : tier.methods)
        if (arguments.mine(cell++)) run_one(results, subject, tier, {bits, method, seed});
  if (arguments.partial()) return 0;
  const Table table(results, subject, tier);
  table.print();
  return table.check() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  ::mallopt(M_MMAP_THRESHOLD, 1 << 30);  // as `lithe` does
  ::mallopt(M_TRIM_THRESHOLD, 1 << 30);
  Arguments arguments;
  CLI::App app{"DFSQ beside uniform quantisers on super-resolution networks", "dfsq_table"};
  add_flags(app, arguments);
  return bench::run_table(app, arguments, argc, argv, [&] { return run(arguments); });
}
