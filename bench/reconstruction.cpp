// Steps of reconstruction: the fused engine against the same steps out of plain LibTorch operators, unit by
// unit, and against the time of the convolutions alone.
//   reconstruction [--only resnet20|mobilenet|edsr] [--methods a,b] [--steps N] [--rounds N] [--threads N]
//                  [--units 0|1]
// Networks have random weights, inputs are noise, all layers 4 bits; batch 32 (edsr: 8). Both sides run the
// same engine at equal steps and threads, in alternating rounds. "plain" are fake quantisers, drops, soft
// weights, regulariser and Adam as a framework's user would write them (ReconstructOptions::composed), on
// channels-last images with cached inputs as well: what is compared is the fusion alone. "floor" is the time
// of the forward and backward passes of the unit's convolutions and matrix products alone, with gradients for
// their weights and, behind the unit's first layers, for their inputs.
//
// Times are of the processor over all threads (the machine may be shared), per step, medians over parts of 10
// steps of all rounds, without the first 10 steps of a unit. mrecg merges across stages here, since noise
// says nothing about where losses drop. Exits with 0 whatever comes out: ratios are goals, not tests.
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <malloc.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <ctime>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "bench/statistics.h"
#include "lithe/base/error.h"
#include "lithe/engine/executor.h"
#include "lithe/models/models.h"
#include "lithe/quantize/quantize.h"

namespace {

using namespace lithe;

double processor_milliseconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return 1e3 * static_cast<double>(now.tv_sec) + 1e-6 * static_cast<double>(now.tv_nsec);
}

using Times = std::map<std::string, std::vector<double>>;  // milliseconds a step, by slice

/// Takes the time between one report of a slice and the next.
class Meter : public Progress {
 public:
  explicit Meter(Times& times) : times_(times) {}

 protected:
  void show(const State& state, bool /*finished*/) override {
    const double now = processor_milliseconds();
    const auto end = state.note.rfind(", loss");
    const std::string slice = end == std::string::npos ? std::string() : state.note.substr(0, end);
    if (!slice.empty() && slice == slice_ && state.done > done_)
      times_[slice].push_back((now - before_) / static_cast<double>(state.done - done_));
    slice_ = slice;
    done_ = state.done;
    before_ = processor_milliseconds();
  }

 private:
  Times& times_;
  std::string slice_;
  std::int64_t done_ = 0;
  double before_ = 0;
};

struct Subject {
  std::string name;
  Graph graph;
  std::vector<std::int64_t> image;
  std::int64_t batch;
};

Quantized reconstructed(const Subject& subject, ReconstructMethod method, bool composed, std::int64_t steps,
                        Times& times) {
  ReconstructOptions options = reconstruct_options(method, Effort::Balanced);
  set_steps(options, steps);
  options.batch = subject.batch;
  options.composed = composed;
  if (method == ReconstructMethod::Mrecg) options.grouping.selector = Grouping::Stage;
  at::manual_seed(1);
  std::vector<std::int64_t> shape{2 * subject.batch};
  shape.insert(shape.end(), subject.image.begin(), subject.image.end());
  Meter meter(times);
  return quantize(subject.graph, tensor_dataset({{"", at::randn(shape)}}),
                  {.method = QuantizeMethod::MinMax,
                   .weight_bits = 4,
                   .activation_bits = 4,
                   .first_last = FirstLast::Same,
                   .profile = Profile::Exact,
                   .reduce_range = ReduceRange::Off,
                   .reconstruct = options,
                   .batch = subject.batch,
                   .threads = 1,
                   .report_samples = 0},
                  meter);
}

/// The convolutions and matrix products of a network, one at a time.
class Floor {
 public:
  Floor(const Graph& graph, const Subject& subject) : index_(graph), executor_(graph) {
    std::set<std::string> wanted;
    for (const Layer& layer : find_layers(graph)) {
      layers_.emplace(static_cast<int>(layer.node), layer);
      wanted.insert({layer.input, layer.output});
    }
    std::vector<std::int64_t> shape{subject.batch};
    shape.insert(shape.end(), subject.image.begin(), subject.image.end());
    const at::NoGradGuard no_grad;
    executor_.run({{graph.required_inputs().at(0)->name, at::randn(shape)}}, {},
                  [&](const std::string& name, const at::Tensor& value) {
                    if (wanted.contains(name)) values_.emplace(name, value);
                  });
  }

  /// Milliseconds of a step of these units.
  double of(const std::vector<Unit>& units, const std::vector<int>& group, int repeats) {
    std::set<int> inside;
    for (const int unit : group)
      inside.insert(units[static_cast<std::size_t>(unit)].nodes.begin(),
                    units[static_cast<std::size_t>(unit)].nodes.end());
    double sum = 0;
    for (const int unit : group)
      for (const int node : units[static_cast<std::size_t>(unit)].layers) {
        const Layer& layer = layers_.at(node);
        sum += time(layer, inside.contains(index_.producer(layer.input)), repeats);
      }
    return sum;
  }

 private:
  double time(const Layer& layer, bool inner, int repeats) {
    const at::Tensor x = values_.at(layer.input).detach().requires_grad_(inner);
    const at::Tensor weight = executor_.constant(layer.weight).detach().requires_grad_(true);
    const at::Tensor gradient = at::randn_like(values_.at(layer.output));
    std::vector<double> times;
    for (int i = 0; i <= repeats; ++i) {
      const double start = processor_milliseconds();
      const at::AutoGradMode grad(true);
      const at::Tensor y =
          executor_.run({{layer.input, x}, {layer.weight, weight}}, {layer.output}).at(layer.output);
      torch::autograd::backward({y}, {gradient});
      if (i > 0) times.push_back(processor_milliseconds() - start);  // not the first
      weight.mutable_grad() = at::Tensor();
      x.mutable_grad() = at::Tensor();
    }
    return bench::median(times);
  }

  GraphIndex index_;
  Executor executor_;
  std::map<int, Layer> layers_;
  std::map<std::string, at::Tensor> values_;
};

double geometric_mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += std::log(value);
  return std::exp(sum / static_cast<double>(values.size()));
}

struct Settings {
  std::int64_t steps = 40;
  int rounds = 3, threads = 1;
  bool units = true;
  std::vector<std::string> methods{"adaround", "brecq", "qdrop", "mrecg"};
  std::string only;
};

/// Ratios plain / fused of all units.
std::vector<double> measure(const Subject& subject, ReconstructMethod method, const Settings& settings) {
  Times fused, plain;
  Quantized last;
  for (int round = 0; round < settings.rounds; ++round) {
    last = reconstructed(subject, method, false, settings.steps, fused);
    reconstructed(subject, method, true, settings.steps, plain);
  }
  const Reconstruction& learnt = *last.reconstruction;
  Floor floor(last.reference, subject);
  std::vector<double> ratios, over_floor;
  double fused_sum = 0, plain_sum = 0, floor_sum = 0;
  const std::string name(reconstruct_method_name(method));
  for (std::size_t s = 0; s < learnt.slices.size(); ++s) {
    const SliceResult& slice = learnt.slices[s];
    if (!fused.contains(slice.name) || !plain.contains(slice.name)) continue;  // nothing to learn
    const double one = bench::median(fused.at(slice.name)), other = bench::median(plain.at(slice.name));
    const double least = floor.of(learnt.units, slice.units, 5 * settings.rounds);
    ratios.push_back(other / one);
    over_floor.push_back(one / least);
    fused_sum += one;
    plain_sum += other;
    floor_sum += least;
    if (settings.units)
      fmt::print("  {:<9} {:<34.34} {:>8.2f} {:>8.2f} {:>8.2f} {:>7.2f}x {:>8.0f}\n", name, slice.name, one,
                 other, least, other / one, 1e3 / one);
  }
  fmt::print("  {:<9} {:<34} {:>8.2f} {:>8.2f} {:>8.2f} {:>7.2f}x {:>8.0f}\n", name,
             fmt::format("all {} units together", ratios.size()), fused_sum, plain_sum, floor_sum,
             plain_sum / fused_sum, 1e3 * static_cast<double>(ratios.size()) / fused_sum);
  fmt::print("  {:<9} geometric mean over units: plain / fused {:.2f}x, fused / floor {:.2f}\n", name,
             geometric_mean(ratios), geometric_mean(over_floor));
  std::fflush(stdout);
  return ratios;
}

Settings parse(int argc, char** argv) {
  Settings settings;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string flag = argv[i], value = argv[i + 1];
    const int number = std::atoi(value.c_str());
    if (flag == "--steps" && number >= 30)
      settings.steps = number;
    else if (flag == "--rounds" && number > 0)
      settings.rounds = number;
    else if (flag == "--threads" && number > 0)
      settings.threads = number;
    else if (flag == "--units" && (value == "0" || value == "1"))
      settings.units = number == 1;
    else if (flag == "--only" && (value == "resnet20" || value == "mobilenet" || value == "edsr"))
      settings.only = value;
    else if (flag == "--methods") {
      settings.methods.clear();
      std::stringstream stream(value);
      for (std::string one; std::getline(stream, one, ',');) settings.methods.push_back(one);
    } else
      fail(
          "unknown: {} {}; usage: reconstruction [--only resnet20|mobilenet|edsr] [--methods a,b] [--steps "
          "N (at least 30)] [--rounds N] [--threads N] [--units 0|1]",
          flag, value);
  }
  if (argc % 2 == 0) fail("'{}' needs a value", argv[argc - 1]);
  return settings;
}

ReconstructMethod method_of(const std::string& name) {
  for (const ReconstructMethod method : {ReconstructMethod::AdaRound, ReconstructMethod::Brecq,
                                         ReconstructMethod::QDrop, ReconstructMethod::Mrecg})
    if (reconstruct_method_name(method) == name) return method;
  fail("--methods: no method '{}'; there are adaround, brecq, qdrop, mrecg", name);
}

void run(const Settings& settings) {
  at::set_num_threads(settings.threads);
  std::map<std::string, std::vector<double>> ratios;
  const auto subject = [&](const char* key, const Subject& one) {
    if (!settings.only.empty() && settings.only != key) return;
    fmt::print("\n{}, batch {}, {} threads: CPU ms a step\n", one.name, one.batch, settings.threads);
    fmt::print("  {:<9} {:<34} {:>8} {:>8} {:>8} {:>8} {:>8}\n", "method", "unit", "fused", "plain", "floor",
               "ratio", "steps/s");
    for (const std::string& name : settings.methods) {
      const auto more = measure(one, method_of(name), settings);
      ratios[name].insert(ratios[name].end(), more.begin(), more.end());
    }
  };
  subject("resnet20", {"ResNet-20, 32x32", build_resnet20(), {3, 32, 32}, 32});
  subject("mobilenet", {"MobileNetV2 x0.5, 32x32",
                        build_mobilenet_v2_small_images({.classes = 10, .image_size = 32, .width = 0.5}),
                        {3, 32, 32},
                        32});
  subject("edsr", {"EDSR, one block, 24x24", build_edsr({.blocks = 1, .image_size = 24}), {3, 24, 24}, 8});
  fmt::print("\nplain / fused, geometric mean over all units\n");
  for (const std::string& name : settings.methods) {
    const double goal =
        method_of(name) == ReconstructMethod::AdaRound || method_of(name) == ReconstructMethod::Brecq ? 1.5
                                                                                                      : 2;
    const double mean = geometric_mean(ratios.at(name));
    fmt::print("  {:<9} {:.2f}x over {} units   goal {:.1f}x: {}\n", name, mean, ratios.at(name).size(), goal,
               mean >= goal ? "reached" : "missed");
  }
}

}  // namespace

int main(int argc, char** argv) {
  ::mallopt(M_MMAP_THRESHOLD, 1 << 30);  // as `lithe` does
  ::mallopt(M_TRIM_THRESHOLD, 1 << 30);
  try {
    run(parse(argc, argv));
  } catch (const Error& error) {
    fmt::print(stderr, "reconstruction: {}\n", error.what());
    return error.kind() == ErrorKind::Input ? 2 : 1;
  }
}
