// Forward passes in float32: Lithe's engine against stock ONNX Runtime, side by side in alternating rounds.
//   build/bench/bin/bench/engine_forward [--rounds N] [--quick] [model.onnx[:batch,...]...]
// Without models: ResNet-18 and DeiT-Tiny shapes at 224 x 224, and examples/models/digits.onnx where it is.
#include <fmt/format.h>
#include <malloc.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "bench/statistics.h"
#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/engine/executor.h"
#include "lithe/engine/onnxruntime.h"
#include "lithe/engine/random_inputs.h"
#include "lithe/engine/threads.h"
#include "lithe/graph/onnx.h"
#include "lithe/models/models.h"

namespace {

using namespace lithe;

struct Options {
  int rounds = 5;
  double seconds_per_round = 0.6;
  std::vector<std::pair<std::string, std::filesystem::path>> models;
};

std::vector<double> time_engine(Executor& executor, const Feeds& feeds, int warmup, int repeats) {
  std::vector<double> seconds;
  for (int i = 0; i < warmup + repeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    executor.run(feeds);
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    if (i >= warmup) seconds.push_back(elapsed.count());
  }
  return seconds;
}

void compare(const std::string& name, const std::filesystem::path& path, const Options& options) {
  const Graph graph = read_onnx(path);
  for (const int threads : {1, 2}) {
    set_threads(threads);
    OnnxRuntime judge(path, {.threads = threads});
    Executor executor(graph);
    for (const std::int64_t batch : {1, 16}) {
      const Feeds feeds = random_inputs(graph, 0, {}, batch);
      const double once = time_engine(executor, feeds, 2, 1)[0];
      const int repeats = std::clamp(static_cast<int>(options.seconds_per_round / once), 1, 200);
      std::vector<double> ours, theirs, ratios;
      for (int round = 0; round < options.rounds; ++round) {
        const double a = bench::median(time_engine(executor, feeds, 1, repeats));
        const double b = bench::median(judge.time(feeds, 1, repeats));
        ours.push_back(a);
        theirs.push_back(b);
        ratios.push_back(b / a);
      }
      const double images = static_cast<double>(batch);
      fmt::print("{:<14} {:>7} {:>6} {:>9.2f} ms {:>9.2f} ms {:>10.1f} {:>10.1f} {:>7.2f}\n", name, threads,
                 batch, 1e3 * bench::median(ours), 1e3 * bench::median(theirs), images / bench::median(ours),
                 images / bench::median(theirs), bench::median(ratios));
      std::fflush(stdout);
    }
  }
}

}  // namespace

int main(int argc, char** argv) try {
  // Large buffers come back to the heap instead of the system: their pages need not be made anew in every
  // layer.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  // As the lithe program does; OpenMP reads its environment when the program is loaded, so start over.
  if (!std::getenv("OMP_WAIT_POLICY")) {
    setenv("OMP_WAIT_POLICY", "PASSIVE", 1);
    setenv("GOMP_SPINCOUNT", "20000", 0);
    execv("/proc/self/exe", argv);
  }
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--rounds" && i + 1 < argc)
      options.rounds = std::max(1, std::atoi(argv[++i]));
    else if (argument == "--quick")
      options.seconds_per_round = 0.1;
    else
      options.models.emplace_back(std::filesystem::path(argument).stem().string(), argument);
  }
  std::string reason;
  if (!OnnxRuntime::available(&reason)) {
    fmt::print("engine_forward: skipped, {}\n", reason);
    return 0;
  }
  const TemporaryFolder folder;
  if (options.models.empty()) {
    write_onnx(build_resnet18(), folder.path() / "resnet18.onnx");
    write_onnx(build_vit(), folder.path() / "vit.onnx");
    options.models = {{"resnet18", folder.path() / "resnet18.onnx"},
                      {"deit-tiny", folder.path() / "vit.onnx"}};
    if (std::filesystem::exists("examples/models/digits.onnx"))
      options.models.emplace_back("digits", "examples/models/digits.onnx");
  }
  const at::NoGradGuard no_grad;
  fmt::print("{:<14} {:>7} {:>6} {:>12} {:>12} {:>10} {:>10} {:>7}\n", "model", "threads", "batch", "Lithe",
             "ORT", "Lithe/s", "ORT/s", "ratio");
  for (const auto& [name, path] : options.models) compare(name, path, options);
} catch (const std::exception& error) {
  fmt::print(stderr, "engine_forward: {}\n", error.what());
  return 1;
}
