// Calibrated quantisation of real networks: ResNet-20 on CIFAR-10 and MobileNetV2 on ImageNet pictures, every
// method at 8, 4 and 2 bits, measured in the engine and in stock ONNX Runtime on the exported file.
//   ptq_real [--tier smoke|small] [--data-root DIR] [--threads N] [--only resnet|mobilenet]
// The data are not part of the project: DIR (default: the environment variable LITHE_DATA) holds
// models/resnet20_cifar10.onnx, cifar10/{train_25000,test_5000}.bin, models/mobilenet_v2_imagenet.onnx and
// imagenet/*.jpg with labels.tsv. What is absent is skipped with a message.
//
// Calibration samples are drawn by the seeds 1005, 1006, ...; all methods of one row group see the same
// samples, bits and test set. Numbers are mean and sample standard deviation over the seeds. MobileNetV2 is
// scored by agreement with the float network on pictures that calibration did not see: there are too few
// labelled ones for accuracies.
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/engine/executor.h"
#include "lithe/engine/onnxruntime.h"
#include "lithe/graph/onnx.h"
#include "lithe/metrics/evaluate.h"
#include "lithe/quantize/quantize.h"

namespace {

using namespace lithe;
namespace fs = std::filesystem;

struct Tier {
  int seeds;
  std::int64_t calibration, test;  // samples of CIFAR-10
  std::int64_t pictures;           // ImageNet pictures to calibrate on, and as many to test
  std::vector<std::pair<int, int>> bits;
  bool all_methods;  // also percentile, bias correction and equalisation
};

const Tier kSmoke{1, 64, 128, 8, {{8, 8}, {2, 4}}, false};
const Tier kSmall{3, 512, 1000, 48, {{8, 8}, {4, 4}, {2, 4}}, true};

struct Setting {
  std::string name;
  QuantizeMethod method;
  bool equalize = false, correct_bias = false;
};

struct Subject {
  std::string name, score;  // what is measured
  Graph graph;
  DatasetPtr calibration_pool, test;
  std::int64_t calibration;
  bool labelled;
  std::int64_t batch;
};

std::string mean_and_spread(const std::vector<double>& values) {
  if (values.empty()) return "-";
  double mean = 0, square = 0;
  for (const double v : values) mean += v / static_cast<double>(values.size());
  for (const double v : values) square += (v - mean) * (v - mean);
  if (values.size() == 1) return fmt::format("{:.2f}", mean);
  return fmt::format("{:.2f} ± {:.2f}", mean, std::sqrt(square / static_cast<double>(values.size() - 1)));
}

double score(const Subject& subject, const Graph& graph, const RunBatch& run, const RunBatch& original,
             const DatasetPtr& data, int threads) {
  const Evaluation result =
      evaluate(graph, run, data, {.batch = subject.batch, .threads = threads}, original);
  return 100 * (subject.labelled ? result.top1.value() : result.argmax_agreement.value());
}

void measure(const Subject& subject, const Tier& tier, bool with_runtime, int threads) {
  const TemporaryFolder folder;
  Executor original(subject.graph);
  const RunBatch exact = [&](const Feeds& feeds) { return original.run(feeds); };
  fmt::print("\n{}: {}, {} samples; calibration on {}, seeds 1005..{}\n", subject.name, subject.score,
             subject.test->size(), subject.calibration, 1004 + tier.seeds);
  fmt::print("float network: {:.2f}\n", score(subject, subject.graph, exact, exact, subject.test, threads));
  fmt::print("{:<10} {:<26} {:>16} {:>16} {:>10} {:>8}\n", "bits", "method", "engine", "ORT", "KB",
             "seconds");
  std::vector<Setting> settings{{"min-max", QuantizeMethod::MinMax}, {"mse", QuantizeMethod::Mse}};
  if (tier.all_methods) {
    settings.insert(settings.begin() + 1, {"percentile 99.99", QuantizeMethod::Percentile});
    settings.push_back({"mse + bias correction", QuantizeMethod::Mse, false, true});
    settings.push_back({"mse + equalisation", QuantizeMethod::Mse, true, false});
  }
  for (const auto& [weight_bits, activation_bits] : tier.bits)
    for (const Setting& setting : settings) {
      std::vector<double> engine_scores, runtime_scores;
      double bytes = 0, seconds = 0;
      for (int i = 0; i < tier.seeds; ++i) {
        const DatasetPtr calibration = seeded_subset(subject.calibration_pool, subject.calibration,
                                                     1005 + static_cast<std::uint64_t>(i));
        Progress silent;
        const auto start = std::chrono::steady_clock::now();
        const Quantized quantized =
            quantize(subject.graph, calibration,
                     {.method = setting.method,
                      .weight_bits = weight_bits,
                      .activation_bits = activation_bits,
                      .equalize = setting.equalize,
                      .correct_bias = setting.correct_bias,
                      .bias_samples = std::min<std::int64_t>(subject.calibration, 128),
                      .batch = subject.batch,
                      .threads = threads,
                      .report_samples = 0},
                     silent);
        seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        const fs::path file = folder.path() / "quantized.onnx";
        write_onnx(quantized.graph, file);
        bytes = static_cast<double>(fs::file_size(file));
        Executor engine(quantized.graph);
        const RunBatch run = [&](const Feeds& feeds) { return engine.run(feeds); };
        engine_scores.push_back(score(subject, quantized.graph, run, exact, subject.test, threads));
        if (!with_runtime) continue;
        OnnxRuntime session(file, {.threads = threads});
        const RunBatch stock = [&](const Feeds& feeds) { return session.run(feeds); };
        runtime_scores.push_back(score(subject, quantized.graph, stock, exact, subject.test, threads));
      }
      fmt::print("W{}A{:<7} {:<26} {:>16} {:>16} {:>10.0f} {:>8.1f}\n", weight_bits, activation_bits,
                 setting.name, mean_and_spread(engine_scores), mean_and_spread(runtime_scores), bytes / 1e3,
                 seconds / tier.seeds);
      std::fflush(stdout);
    }
}

/// Whether the files are there; says which are not.
bool present(const std::string& what, const std::vector<fs::path>& files) {
  for (const fs::path& file : files)
    if (!fs::exists(file)) {
      fmt::print("skipped {}: {} is not there (give --data-root or LITHE_DATA)\n", what, file.string());
      return false;
    }
  return true;
}

DatasetPtr first(const DatasetPtr& data, std::int64_t count) {
  return seeded_subset(data, count, 0);
}

std::optional<Subject> resnet(const fs::path& root, const Tier& tier) {
  const fs::path model = root / "models/resnet20_cifar10.onnx", train = root / "cifar10/train_25000.bin",
                 test = root / "cifar10/test_5000.bin";
  if (!present("ResNet-20", {model, train, test})) return std::nullopt;
  const Preprocess preprocess{.mean = {0.485, 0.456, 0.406}, .std = {0.229, 0.224, 0.225}};
  const DatasetPtr pool = open_dataset("cifar10:" + train.string(), preprocess),
                   held_out = open_dataset("cifar10:" + test.string(), preprocess);
  return Subject{"ResNet-20, CIFAR-10",
                 "top-1 %",
                 read_onnx(model),
                 pool,
                 first(held_out, tier.test),
                 tier.calibration,
                 true,
                 64};
}

std::optional<Subject> mobilenet(const fs::path& root, const Tier& tier) {
  const fs::path model = root / "models/mobilenet_v2_imagenet.onnx", pictures = root / "imagenet";
  if (!present("MobileNetV2", {model, pictures})) return std::nullopt;
  const Preprocess preprocess{
      .scale = 1 / 127.5, .mean = {1}, .std = {1}, .crop = PixelSize{224, 224}, .label_offset = 1};
  const DatasetPtr all = open_dataset("folder:" + pictures.string(), preprocess);
  const std::int64_t half = all->size() / 2;
  std::vector<std::int64_t> even, odd;
  for (std::int64_t i = 0; i < 2 * half; ++i) (i % 2 == 0 ? even : odd).push_back(i);
  const DatasetPtr test = first(subset(all, odd), tier.pictures);
  return Subject{"MobileNetV2, ImageNet pictures",
                 "same class as float, %",
                 read_onnx(model),
                 subset(all, even),
                 test,
                 tier.pictures,
                 false,
                 8};
}

}  // namespace

int main(int argc, char** argv) {
  Tier tier = kSmall;
  std::string only, root = std::getenv("LITHE_DATA") ? std::getenv("LITHE_DATA") : "";
  int threads = 2;
  try {
    for (int i = 1; i + 1 < argc; i += 2) {
      const std::string flag = argv[i], value = argv[i + 1];
      if (flag == "--tier" && (value == "smoke" || value == "small"))
        tier = value == "smoke" ? kSmoke : kSmall;
      else if (flag == "--data-root")
        root = value;
      else if (flag == "--threads" && std::atoi(value.c_str()) > 0)
        threads = std::atoi(value.c_str());
      else if (flag == "--only" && (value == "resnet" || value == "mobilenet"))
        only = value;
      else
        fail(
            "unknown: {} {}; usage: ptq_real [--tier smoke|small] [--data-root DIR] [--threads N] [--only "
            "resnet|mobilenet]",
            flag, value);
    }
    if (argc % 2 == 0) fail("'{}' needs a value", argv[argc - 1]);
    at::set_num_threads(threads);
    const at::NoGradGuard no_grad;
    std::string reason;
    const bool with_runtime = OnnxRuntime::available(&reason);
    if (!with_runtime) fmt::print("without ONNX Runtime: {}\n", reason);
    if (only != "mobilenet")
      if (const auto subject = resnet(root, tier)) measure(*subject, tier, with_runtime, threads);
    if (only != "resnet")
      if (const auto subject = mobilenet(root, tier)) measure(*subject, tier, with_runtime, threads);
  } catch (const Error& error) {
    fmt::print(stderr, "ptq_real: {}\n", error.what());
    return error.kind() == ErrorKind::Input ? 2 : 1;
  }
}
