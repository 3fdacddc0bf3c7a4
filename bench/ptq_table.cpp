// Methods of post-training quantisation side by side on small classifiers of CIFAR-10: calibrated ranges
// (minmax, mse) and learnt roundings (adaround, brecq, qdrop, mrecg), over bits and paired seeds.
//   ptq_table [--tier smoke|small|paper] [--data-root DIR] [--model FILE] [--results FILE] [--shard I/N]
//             [--seeds N] [--steps N] [--test N] [--bits W4A4,W2A4] [--methods a,b]
// Every finished run is one JSON line appended to FILE (default ptq_<tier>.jsonl); a run that is there is not
// done again, so that the bench can be stopped and started at will, and several processes of one thread each
// with different --shard can share the work. Tables and checks come from the file.
//
// DIR (default: the environment variable LITHE_DATA) holds cifar10/{train_25000,test_5000}.bin and
// models/resnet20_cifar10.onnx, the network unless --model names another; without it the tier smoke takes the
// bundled classifier and sheet of digits, the others say so and end. --model takes any classifier of CIFAR-10
// whose preprocessing stands beside it or in its metadata.
//
// A seed (1005, 1006, ...) chooses the calibration sample out of the training file, the minibatches and what
// is dropped. All methods of a seed share that sample; those that learn also share batch, steps a unit,
// rates, the way samples are drawn (without replacement within a step) and the regulariser, which is
// verified, so that they differ by their idea alone. Before anything is grouped, mrecg measures the loss of
// every unit in a shorter run: that is extra work, and in its seconds. Scores are of the exported graph on
// held-out images. First and last layer have 8 bits. Times are of the processor, not of the clock: the
// machine may be shared.
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <malloc.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bench/processor_time.h"
#include "bench/run_file.h"
#include "bench/statistics.h"
#include "bench/table_flags.h"
#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/base/hash.h"
#include "lithe/engine/executor.h"
#include "lithe/graph/onnx.h"
#include "lithe/metrics/evaluate.h"
#include "lithe/quantize/quantize.h"
#include "lithe/quantize/reconstruct/oscillation.h"

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

constexpr int kFirstSeed = 1005;
constexpr std::int64_t kBatch = 32, kScoreBatch = 100;

struct Bits {
  int weights, activations;
  std::string name() const { return fmt::format("W{}A{}", weights, activations); }
};

struct Tier {
  int seeds;
  std::int64_t steps, calibration, test;
  std::vector<Bits> bits;
  bool published_rates;  // also rounds 8-bit weights, and surveys with all steps
};

const Tier kSmoke{1, 60, 256, 500, {{2, 4}}, false};
const Tier kSmall{5, 250, 512, 2000, {{2, 4}, {3, 3}, {4, 4}, {8, 8}}, false};
const Tier kPaper{5, 20000, 1024, 5000, {{2, 4}, {3, 3}, {4, 4}, {8, 8}}, true};

const std::vector<ReconstructMethod> kLearning{ReconstructMethod::AdaRound, ReconstructMethod::Brecq,
                                               ReconstructMethod::QDrop, ReconstructMethod::Mrecg};
const std::vector<std::string> kMethods{"minmax", "mse", "adaround", "brecq", "qdrop", "mrecg"};

std::optional<ReconstructMethod> learning_method(const std::string& name) {
  for (const ReconstructMethod method : kLearning)
    if (reconstruct_method_name(method) == name) return method;
  return std::nullopt;
}

struct Subject {
  std::string name;
  bool resnet20 = false;  // the network whose orderings are known
  std::uint64_t hash = 0;
  Graph graph;
  DatasetPtr pool, test;
};

/// The dataset decoded once.
DatasetPtr resident(const DatasetPtr& data) {
  std::vector<at::Tensor> images;
  std::vector<std::int64_t> labels;
  for (std::int64_t i = 0; i < data->size(); ++i) {
    const Sample sample = data->get(i);
    images.push_back(sample.inputs.begin()->second);
    labels.push_back(sample.label);
  }
  return tensor_dataset({{"", at::stack(images)}}, at::tensor(labels, at::kLong));
}

double top1(const Graph& graph, const Subject& subject) {
  const at::NoGradGuard no_grad;
  Executor executor(graph);
  return 100 * *evaluate(executor, subject.test, {.batch = kScoreBatch, .threads = 1}).top1;
}

struct Run {
  Bits bits;
  std::string method;
  int seed = kFirstSeed;

  std::string key(const Subject& subject, const Tier& tier) const {
    const std::string schedule =
        learning_method(method) ? fmt::format("{} steps of {}", tier.steps, kBatch) : "ranges";
    return fmt::format("{} {:016x}|{} samples|{} test|{}|{}|{}|seed {}", subject.name, subject.hash,
                       tier.calibration, tier.test, schedule, bits.name(), method, seed);
  }
};

/// The method under the schedule that all share.
ReconstructOptions learning_options(ReconstructMethod method, const Tier& tier, int seed) {
  ReconstructOptions options =
      reconstruct_options(method, tier.published_rates ? Effort::Paper : Effort::Balanced);
  set_steps(options, tier.steps);
  options.batch = kBatch;
  options.draw = Draw::Distinct;
  options.seed = static_cast<std::uint64_t>(seed);
  options.survey_steps = tier.published_rates ? 0 : std::max<std::int64_t>(60, tier.steps / 4);
  return options;
}

/// What must not differ between methods that are compared.
void require_equal_terms(const Tier& tier, int seed) {
  const ReconstructOptions first = learning_options(kLearning.front(), tier, seed);
  for (const ReconstructMethod method : kLearning) {
    const ReconstructOptions other = learning_options(method, tier, seed);
    const bool equal = other.batch == first.batch && other.schedule.steps == first.schedule.steps &&
                       other.schedule.warmup == first.schedule.warmup && other.draw == first.draw &&
                       other.rounding_rate == first.rounding_rate && other.scale_rate == first.scale_rate &&
                       other.rounding_weight == first.rounding_weight && other.scales == first.scales &&
                       other.round_eight_bits == first.round_eight_bits && other.fisher == first.fisher &&
                       other.learn_weight_scales == first.learn_weight_scales && other.seed == first.seed;
    if (!equal)
      fail("{} and {} would not learn on equal terms", reconstruct_method_name(kLearning.front()),
           reconstruct_method_name(method));
  }
}

/// As the tool counts them: of more than a twentieth, and not into the output.
int falls(const std::vector<double>& losses) {
  Oscillation seen = describe_oscillation(losses, {}, kLeastFall);
  forget_fall_into_output(seen, losses.size());
  return static_cast<int>(seen.edges.size());
}

/// What the run of a learning method tells; refuses one that saw other data or learnt for longer.
void describe(const Reconstruction& learnt, const Tier& tier, json& line) {
  if (learnt.samples != tier.calibration)
    fail("{} samples were learnt from instead of {}", learnt.samples, tier.calibration);
  std::vector<double> losses, relative;
  for (const SliceResult& slice : learnt.slices) {
    if (slice.weights > 0 && slice.steps != tier.steps)
      fail("'{}' learnt for {} steps instead of {}", slice.name, slice.steps, tier.steps);
    losses.push_back(slice.loss_after);
    relative.push_back(slice.power > 0 ? slice.loss_after / slice.power : 0);
  }
  line["losses"] = losses;
  line["relative"] = relative;
  line["last_loss"] = losses.back();
  line["falls"] = falls(losses);
  line["relative_falls"] = falls(relative);
  line["merges"] = learnt.units.size() - learnt.groups.size();
  line["groups"] = format_groups(learnt.groups);
  if (learnt.survey.empty()) return;
  std::vector<double> survey;
  for (const SliceResult& slice : learnt.survey) survey.push_back(slice.loss_after);
  line["survey"] = survey;
  line["survey_falls"] = falls(survey);
}

void run_one(RunFile& results, const Subject& subject, const Tier& tier, const Run& run) {
  const std::string key = run.key(subject, tier);
  if (results.find(key)) return;
  const DatasetPtr calibration =
      seeded_subset(subject.pool, tier.calibration, static_cast<std::uint64_t>(run.seed));
  // One profile for all bits, so that the rows of 8 bits are comparable with the others.
  QuantizeOptions options{.method = run.method == "minmax" ? QuantizeMethod::MinMax : QuantizeMethod::Mse,
                          .weight_bits = run.bits.weights,
                          .activation_bits = run.bits.activations,
                          .profile = Profile::Exact,
                          .reduce_range = ReduceRange::Off,
                          .batch = kBatch,
                          .threads = 1,
                          .report_samples = 0};
  if (const auto method = learning_method(run.method))
    options.reconstruct = learning_options(*method, tier, run.seed);
  Progress silent;
  const double start = processor_seconds();
  const Quantized quantized = quantize(subject.graph, calibration, options, silent);
  json line{{"key", key},           {"network", subject.name}, {"bits", run.bits.name()},
            {"method", run.method}, {"seed", run.seed},        {"seconds", processor_seconds() - start}};
  if (quantized.reconstruction) describe(*quantized.reconstruction, tier, line);
  line["top1"] = top1(quantized.graph, subject);
  line["spent"] = processor_seconds() - start;
  results.add(line);
  fmt::print("  {:<6}{:<10}seed {}  {:6.2f} %  {:7.1f} s\n", run.bits.name(), run.method, run.seed,
             line.at("top1").get<double>(), line.at("seconds").get<double>());
  std::fflush(stdout);
}

/// Reads the runs that are there.
class Table {
 public:
  Table(const RunFile& results, const Subject& subject, const Tier& tier, std::vector<std::string> methods)
      : results_(results), subject_(subject), tier_(tier), methods_(std::move(methods)) {}

  const std::vector<std::string>& methods() const { return methods_; }
  const Tier& tier() const { return tier_; }
  const Subject& subject() const { return subject_; }

  BySeed numbers(const Bits& bits, const std::string& method, const char* field) const {
    BySeed found;
    for (int seed = kFirstSeed; seed < kFirstSeed + tier_.seeds; ++seed)
      if (const json* line = results_.find(Run{bits, method, seed}.key(subject_, tier_));
          line && line->contains(field))
        found[seed] = line->at(field);
    return found;
  }
  Moments of(const Bits& bits, const std::string& method, const char* field) const {
    return moments(values_of(numbers(bits, method, field)));
  }
  /// Of accuracies, over paired seeds.
  Moments difference(const Bits& bits, const std::string& a, const std::string& b) const {
    return moments(bench::paired(numbers(bits, a, "top1"), numbers(bits, b, "top1")));
  }

 private:
  const RunFile& results_;
  const Subject& subject_;
  const Tier& tier_;
  std::vector<std::string> methods_;
};

std::string plus_minus(const Moments& m) {
  if (m.n == 0) return "-";
  return m.n == 1 ? fmt::format("{:+.2f}", m.mean) : fmt::format("{:+.2f} ± {:.2f}", m.mean, m.interval());
}

std::string number(const Moments& m, const char* unit = "") {
  return m.n == 0 ? "-" : fmt::format("{:.1f}{}", m.mean, unit);
}

void print_table(const Table& table, double float_top1) {
  const Tier& tier = table.tier();
  fmt::print("\n{}: top-1 of {} held-out images; in float {:.2f} %\n", table.subject().name, tier.test,
             float_top1);
  fmt::print(
      "schedule: {} steps a unit of {} images out of {}, seeds {}..{}, first and last layer with 8 bits; "
      "mrecg measures with {} steps a unit before\n",
      tier.steps, kBatch, tier.calibration, kFirstSeed, kFirstSeed + tier.seeds - 1,
      tier.published_rates ? tier.steps : std::max<std::int64_t>(60, tier.steps / 4));
  fmt::print("{:<6}{:<10}{:>3}  {:>16}  {:>24}  {:>8}  {:>10}  {:>8}\n", "bits", "method", "n",
             "top-1, % (sd)", "- brecq, 95 % interval", "CPU s", "last loss", "merges");
  double spent = 0;
  for (const Bits& bits : tier.bits)
    for (const std::string& method : table.methods()) {
      const Moments score = table.of(bits, method, "top1");
      if (score.n == 0) continue;
      fmt::print("{:<6}{:<10}{:>3}  {:>16}  {:>24}  {:>8}  {:>10}  {:>8}\n", bits.name(), method, score.n,
                 score.n == 1 ? fmt::format("{:.2f}", score.mean)
                              : fmt::format("{:.2f} ({:.2f})", score.mean, score.deviation),
                 method == "brecq" ? "" : plus_minus(table.difference(bits, method, "brecq")),
                 number(table.of(bits, method, "seconds")), number(table.of(bits, method, "last_loss")),
                 method == "mrecg" ? number(table.of(bits, method, "merges")) : "");
      for (const double one : values_of(table.numbers(bits, method, "spent"))) spent += one;
    }
  fmt::print("all of it took {:.0f} minutes of one core\n", spent / 60);

  fmt::print(
      "\noscillation: edges between units behind which the loss falls, mean over seeds (in brackets: of the "
      "loss relative to the power of the output)\n");
  for (const Bits& bits : tier.bits) {
    const Moments brecq = table.of(bits, "brecq", "falls"), qdrop = table.of(bits, "qdrop", "falls");
    if (brecq.n + qdrop.n == 0) continue;
    fmt::print("  {:<6}brecq {} ({})   qdrop {} ({})   survey of mrecg {}, it merges {}\n", bits.name(),
               number(brecq), number(table.of(bits, "brecq", "relative_falls")), number(qdrop),
               number(table.of(bits, "qdrop", "relative_falls")),
               number(table.of(bits, "mrecg", "survey_falls")), number(table.of(bits, "mrecg", "merges")));
  }
}

/// Orderings that hold whatever the seeds.
class Checks {
 public:
  explicit Checks(const Table& table) : table_(table) {}

  bool run() {
    const bool smoke = table_.tier().seeds < 2;
    const bool resnet = table_.subject().resnet20;
    fmt::print("\norderings of means, required{}\n",
               resnet ? "" : " (of a network other than ResNet-20: the weaker ones)");
    for (const Bits& bits : table_.tier().bits) {
      if (bits.weights > 3) continue;  // ranges alone come close
      // On one seed and few images chance plays a part; where both are near chance, on other networks too.
      // Which ranges are better at so few bits depends on the network.
      if (resnet) require(bits, "mse", "minmax", smoke ? -3 : 0);
      const double gap = !resnet ? 5 : bits.weights == 2 ? 40 : 5;
      for (const ReconstructMethod method : kLearning)
        require(bits, std::string(reconstruct_method_name(method)), "mse", gap);
      if (!resnet || bits.weights != 2 || bits.activations != 4) continue;
      for (const ReconstructMethod method : kLearning) {
        const std::string name(reconstruct_method_name(method));
        const Moments score = table_.of(bits, name, "top1");
        judge(fmt::format("{} {}", bits.name(), name), score, table_.tier().steps < 250 ? 75 : 85);
      }
    }
    fmt::print("\npublished order, reported and not required (paired mean and 95 % interval)\n");
    for (const Bits& bits : table_.tier().bits)
      for (const auto& [better, base] : {std::pair<const char*, const char*>{"brecq", "adaround"},
                                         {"qdrop", "brecq"},
                                         {"mrecg", "qdrop"},
                                         {"mrecg", "brecq"}}) {
        const Moments m = table_.difference(bits, better, base);
        if (m.n == 0) continue;
        const bool clear = m.n > 1 && std::abs(m.mean) > m.interval();
        fmt::print("  {:<6}{:<10} - {:<10}{:>18}   {}\n", bits.name(), better, base, plus_minus(m),
                   m.n < 2      ? "one seed tells nothing"
                   : !clear     ? "no difference seen"
                   : m.mean > 0 ? "better"
                                : "worse");
      }
    return good_;
  }

 private:
  void require(const Bits& bits, const std::string& a, const std::string& b, double least) {
    judge(fmt::format("{} {} - {}", bits.name(), a, b), table_.difference(bits, a, b), least);
  }
  void judge(const std::string& what, const Moments& m, double least) {
    if (m.n == 0) return fmt::print("  open   {:<28} not run\n", what);
    const bool holds = m.mean >= least;
    fmt::print("  {} {:<28}{:8.2f} (at least {:.0f}; {} seeds)\n", holds ? "holds " : "BROKEN", what, m.mean,
               least, m.n);
    good_ = good_ && holds;
  }

  const Table& table_;
  bool good_ = true;
};

struct Arguments : bench::TableFlags {
  std::string model;
  std::vector<std::string> methods = kMethods, bits;
  std::int64_t steps = 0, test = 0;
  bool smoke() const { return tier == "smoke" && model.empty(); }  // which may do with the bundled digits
};

void add_flags(CLI::App& app, Arguments& a) {
  bench::add_table_flags(app, a);
  app.add_option("--model", a.model, "another classifier of CIFAR-10")->check(CLI::ExistingFile);
  app.add_option("--steps", a.steps, "steps a unit, instead of the tier's")->check(CLI::PositiveNumber);
  app.add_option("--test", a.test, "held-out images, instead of the tier's")->check(CLI::PositiveNumber);
  app.add_option("--bits", a.bits, "for example W4A4,W2A4, instead of the tier's")->delimiter(',');
  app.add_option("--methods", a.methods)->delimiter(',')->check(CLI::IsMember(kMethods));
}

Tier tier_of(const Arguments& a) {
  Tier tier = a.choose(kSmoke, kSmall, kPaper);
  if (a.seeds > 0) tier.seeds = a.seeds;
  if (a.steps > 0) tier.steps = a.steps;
  if (a.test > 0) tier.test = a.test;
  if (!a.bits.empty()) tier.bits.clear();
  for (const std::string& one : a.bits) {
    Bits bits{};
    if (std::sscanf(one.c_str(), "W%dA%d", &bits.weights, &bits.activations) != 2)
      fail("--bits {}: write W2A4", one);
    tier.bits.push_back(bits);
  }
  return tier;
}

Subject open_subject(const Arguments& arguments, const Tier& tier, const fs::path& train,
                     const fs::path& test) {
  const bool own = !arguments.model.empty();
  const fs::path file =
      own ? fs::path(arguments.model) : fs::path(arguments.data_root) / "models/resnet20_cifar10.onnx";
  Subject subject{.name = own ? file.stem().string() : "ResNet-20, CIFAR-10", .resnet20 = !own};
  subject.hash = fnv1a(MappedFile(file).bytes());
  subject.graph = read_onnx(file);
  Preprocess preprocess{.mean = {0.485, 0.456, 0.406}, .std = {0.229, 0.224, 0.225}};
  if (own) {
    if (!preprocess_is_known(file, subject.graph, {}))
      fail("'{}': nothing says how it wants its images; put {}.preprocess.json beside it", file.string(),
           file.stem().string());
    preprocess = preprocess_for(file, subject.graph);
  }
  subject.pool = open_dataset("cifar10:" + train.string(), preprocess);
  subject.test = resident(seeded_subset(open_dataset("cifar10:" + test.string(), preprocess), tier.test, 0));
  return subject;
}

/// The bundled net, calibrated and measured on digits that it was not trained on.
Subject open_digits(const Tier& tier) {
  const fs::path folder = LITHE_EXAMPLES, file = folder / "models/digits.onnx";
  Subject subject{.name = "digits"};
  subject.hash = fnv1a(MappedFile(file).bytes());
  subject.graph = read_onnx(file);
  const Preprocess preprocess = preprocess_for(file, subject.graph);
  const std::string sheet = "sheet:" + (folder / "digits/digits.png").string() + ",cell=20x20,columns=";
  subject.pool = open_dataset(sheet + "70:80", preprocess);
  subject.test = resident(seeded_subset(open_dataset(sheet + "80:100", preprocess), tier.test, 0));
  return subject;
}

int run(const Arguments& arguments) {
  const Tier tier = tier_of(arguments);
  at::set_num_threads(1);
  const fs::path root = arguments.data_root, train = root / "cifar10/train_25000.bin",
                 test = root / "cifar10/test_5000.bin";
  const bool there = !root.empty() && fs::exists(train) && fs::exists(test);
  if (!there && !arguments.smoke()) {
    fmt::print("skipped: no {} or {} (give --data-root or LITHE_DATA)\n", train.string(), test.string());
    return 0;
  }
  const Subject subject = there ? open_subject(arguments, tier, train, test) : open_digits(tier);
  for (int seed = kFirstSeed; seed < kFirstSeed + tier.seeds; ++seed) require_equal_terms(tier, seed);

  RunFile results(arguments.results, {"top1", "seconds", "spent"});
  int cell = 0;
  for (int seed = kFirstSeed; seed < kFirstSeed + tier.seeds; ++seed)
    for (const Bits& bits : tier.bits)
      for (const std::string& method : arguments.methods)
        if (arguments.mine(cell++)) run_one(results, subject, tier, {bits, method, seed});
  if (arguments.partial()) return 0;
  const Table table(results, subject, tier, arguments.methods);
  print_table(table, top1(subject.graph, subject));
  return Checks(table).run() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  ::mallopt(M_MMAP_THRESHOLD, 1 << 30);  // as `lithe` does
  ::mallopt(M_TRIM_THRESHOLD, 1 << 30);
  Arguments arguments;
  CLI::App app{"methods of post-training quantisation side by side", "ptq_table"};
  add_flags(app, arguments);
  return bench::run_table(app, arguments, argc, argv, [&] { return run(arguments); });
}
