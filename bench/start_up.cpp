// How long a user waits before anything happens: `lithe --help`, and `lithe inspect` on a model of 47 MB.
//   build/bench/bin/bench/start_up <path of lithe> [runs]
#include <fmt/format.h>

#include <chrono>
#include <cstdlib>
#include <string>

#include "bench/statistics.h"
#include "lithe/base/file.h"
#include "lithe/graph/onnx.h"
#include "lithe/models/models.h"

namespace {

double median_seconds(const std::string& command, int runs) {
  std::vector<double> seconds;
  for (int i = 0; i < runs + 1; ++i) {
    const auto start = std::chrono::steady_clock::now();
    if (std::system((command + " > /dev/null").c_str()) != 0) {
      fmt::print(stderr, "start_up: '{}' failed\n", command);
      std::exit(1);
    }
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    if (i > 0) seconds.push_back(elapsed.count());  // the first run reads the program from disk
  }
  return lithe::bench::median(seconds);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    fmt::print(stderr, "usage: start_up <path of lithe> [runs]\n");
    return 2;
  }
  const std::string program = argv[1];
  const int runs = argc > 2 ? std::max(1, std::atoi(argv[2])) : 9;
  const lithe::TemporaryFolder folder;
  const auto model = folder.path() / "resnet18.onnx";
  lithe::write_onnx(lithe::build_resnet18(), model);
  fmt::print("{:<42} {:>10} {:>8}\n", "command", "median", "goal");
  fmt::print("{:<42} {:>7.0f} ms {:>8}\n", "lithe --help", 1e3 * median_seconds(program + " --help", runs),
             "100 ms");
  fmt::print("{:<42} {:>7.0f} ms {:>8}\n",
             fmt::format("lithe inspect (ResNet-18, {:.0f} MB)", static_cast<double>(file_size(model)) / 1e6),
             1e3 * median_seconds(program + " inspect " + model.string(), runs), "1000 ms");
}
