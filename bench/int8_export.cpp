// What the int8 export is worth in stock ONNX Runtime: the quantised file against the float one, run in turn
// in the same minutes, medians of the paired ratios.
//   build/bench/bin/bench/int8_export [--rounds 7] [model.onnx ...]
#include <fmt/format.h>

#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "bench/statistics.h"
#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/engine/onnxruntime.h"
#include "lithe/engine/random_inputs.h"
#include "lithe/graph/onnx.h"
#include "lithe/models/models.h"
#include "lithe/quantize/quantize.h"

namespace {

using namespace lithe;
namespace fs = std::filesystem;

struct Subject {
  std::string name;
  Graph graph;
};

void measure(const Subject& subject, const fs::path& folder, int rounds) {
  Progress silent;
  const Feeds calibration = random_inputs(subject.graph, 1, {}, 8);
  const Quantized quantized = quantize(subject.graph, tensor_dataset(calibration),
                                       {.method = QuantizeMethod::MinMax, .report_samples = 0}, silent);
  const fs::path before = folder / "float.onnx", after = folder / "int8.onnx";
  write_onnx(subject.graph, before);
  write_onnx(quantized.graph, after);
  for (const int threads : {1, 2}) {
    OnnxRuntime floats(before, {.threads = threads}), integers(after, {.threads = threads});
    for (const std::int64_t batch : {1, 16}) {
      const Feeds feeds = random_inputs(subject.graph, 2, {}, batch);
      std::vector<double> slow, fast, ratios;
      for (int round = 0; round < rounds; ++round) {
        slow.push_back(bench::median(floats.time(feeds, 1, 3)));
        fast.push_back(bench::median(integers.time(feeds, 1, 3)));
        ratios.push_back(slow.back() / fast.back());
      }
      fmt::print("{:<16} {:>7} {:>6} {:>10.2f} ms {:>10.2f} ms {:>8.2f}x\n", subject.name, threads, batch,
                 1e3 * bench::median(slow), 1e3 * bench::median(fast), bench::median(ratios));
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  int rounds = 7;
  std::vector<Subject> subjects;
  try {
    for (int i = 1; i < argc; ++i) {
      if (std::strcmp(argv[i], "--rounds") == 0 && i + 1 < argc)
        rounds = std::max(1, std::atoi(argv[++i]));
      else
        subjects.push_back({fs::path(argv[i]).stem().string(), read_onnx(argv[i])});
    }
    if (subjects.empty()) {
      subjects.push_back({"ResNet-18", build_resnet18()});
      subjects.push_back({"MobileNetV2", build_mobilenet_v2()});
    }
    const TemporaryFolder folder;
    fmt::print("{:<16} {:>7} {:>6} {:>13} {:>13} {:>9}\n", "model", "threads", "batch", "float32", "int8",
               "speed-up");
    for (const Subject& subject : subjects) measure(subject, folder.path(), rounds);
  } catch (const Error& error) {
    fmt::print(stderr, "int8_export: {}\n", error.what());
    return 2;
  }
}
