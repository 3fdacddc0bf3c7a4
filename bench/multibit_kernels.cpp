// Time of one image by bit-width: the integer session, against float32 and int8 of stock ONNX Runtime in the
// same run.
//   multibit_kernels [--network resnet20|resnet18|...] [--width X] [--size N] [--repeats N] [--layers yes|no]
// One thread everywhere. Weights are random: time does not depend on them. Per line the least of the repeats.
// With --layers yes also single convolutions, with every instruction set that this processor has.
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <string>
#include <vector>

#include "lithe/base/clock.h"
#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/base/random.h"
#include "lithe/data/dataset.h"
#include "lithe/engine/onnxruntime.h"
#include "lithe/engine/random_inputs.h"
#include "lithe/graph/onnx.h"
#include "lithe/kernels/two_bit_conv.h"
#include "lithe/models/registry.h"
#include "lithe/multibit/deploy.h"
#include "lithe/multibit/multibit.h"
#include "lithe/multibit/session.h"
#include "lithe/quantize/quantize.h"

namespace {

using namespace lithe;

double milliseconds(const std::vector<double>& seconds) {
  return 1e3 * *std::min_element(seconds.begin(), seconds.end());
}

/// A convolution 3x3 of 64 to 64 channels and the like, by target.
void time_layers(int repeats) {
  struct Shape {
    std::int64_t channels, size, kernel;
  };
  fmt::print("\none convolution, ms (GMAC/s)\n{:<28}", "channels, size, kernel");
  for (const TwoBitTarget target : {TwoBitTarget::Portable, TwoBitTarget::Avx2, TwoBitTarget::Vnni})
    if (two_bit_target_supported(target)) fmt::print("{:>22}", two_bit_target_name(target));
  fmt::print("\n");
  Rng rng(1);
  for (const Shape& s :
       {Shape{64, 56, 3}, Shape{128, 28, 3}, Shape{256, 14, 3}, Shape{256, 14, 1}, Shape{16, 32, 3}}) {
    const std::int64_t taps = s.kernel * s.kernel;
    std::vector<std::uint8_t> codes(static_cast<std::size_t>(s.channels * s.channels * taps)),
        image(static_cast<std::size_t>(s.size * s.size * s.channels));
    for (auto& code : codes) code = static_cast<std::uint8_t>(rng.below(4));
    for (auto& code : image) code = static_cast<std::uint8_t>(rng.below(256));
    const TwoBitPlane plane = pack_plane(codes.data(), s.channels, s.channels, taps);
    const TwoBitConv conv{.plane = &plane,
                          .outputs = s.channels,
                          .inputs = s.channels,
                          .height = s.size,
                          .width = s.size,
                          .out_height = s.size,
                          .out_width = s.size,
                          .kernel_height = s.kernel,
                          .kernel_width = s.kernel,
                          .pad_top = s.kernel / 2,
                          .pad_left = s.kernel / 2};
    std::vector<std::int32_t> sums(static_cast<std::size_t>(s.size * s.size * conv.output_stride()));
    std::vector<std::uint8_t> patches(static_cast<std::size_t>(conv.patch_bytes()));
    std::vector<std::int8_t> weights(static_cast<std::size_t>(conv.weight_bytes()));
    fmt::print("{:<28}", fmt::format("{}, {}x{}, {}x{}", s.channels, s.size, s.size, s.kernel, s.kernel));
    for (const TwoBitTarget target : {TwoBitTarget::Portable, TwoBitTarget::Avx2, TwoBitTarget::Vnni}) {
      if (!two_bit_target_supported(target)) continue;
      std::vector<double> seconds;
      for (int i = 0; i < repeats; ++i) {
        const auto start = Clock::now();
        two_bit_conv(conv, image.data(), sums.data(), patches.data(), weights.data(), target);
        seconds.push_back(seconds_since(start));
      }
      const double ms = milliseconds(seconds);
      const double macs = static_cast<double>(s.channels * s.channels * taps * s.size * s.size);
      fmt::print("{:>22}", fmt::format("{:.3f} ({:.1f})", ms, macs / ms / 1e6));
    }
    fmt::print("\n");
  }
}

int run(int argc, char** argv) {
  std::map<std::string, std::string> given{
      {"--network", "resnet20"}, {"--size", "32"}, {"--repeats", "30"}, {"--layers", "yes"}};
  if (argc % 2 == 0) fail("the flag {} lacks its value", argv[argc - 1]);
  for (int i = 1; i + 1 < argc; i += 2) {
    if (!given.contains(argv[i])) fail("unknown flag {}", argv[i]);
    given[argv[i]] = argv[i + 1];
  }
  at::set_num_threads(1);
  const int repeats = std::stoi(given["--repeats"]);
  const Graph model = build_network(given["--network"], {.image_size = std::stoll(given["--size"])});
  const std::vector<int> bits{2, 3, 4, 5, 6, 7, 8};
  // Norms get statistics and quantisers bounds; nothing is learnt.
  const DatasetPtr data = tensor_dataset(random_inputs(model, 1, {}, 16), at::zeros({16}, at::kLong));
  MultibitOptions options{.bits = bits, .from_scratch = true, .norm_batches = 1};
  options.train.epochs = 1;
  options.train.batch = 8;
  options.train.threads = 1;
  options.train.learning_rate = 1e-6;
  Progress silent;
  const Graph graph = train_multibit(model, data, options, silent).branches.graph;
  MultibitSession session(graph);

  const TemporaryFolder folder;
  const auto path = folder.path() / "model.onnx";
  std::optional<OnnxRuntime> runtime;
  const auto time_ort = [&](const Graph& what, const Feeds& feeds) {
    write_onnx(what, path);
    if (runtime)
      runtime->load(path);
    else
      runtime.emplace(path, OnnxRuntimeOptions{.threads = 1});
    return milliseconds(runtime->time(feeds, 3, repeats));
  };
  const Feeds image = random_inputs(model, 2, {}, 1);
  const bool ort = OnnxRuntime::available();
  fmt::print("{} at {}x{}, one image, one thread, ms; kernels: {}\n", given["--network"], given["--size"],
             given["--size"], two_bit_target_name(session.target()));
  double plain = 0;
  if (ort) {
    plain = time_ort(model, image);
    const double int8 =
        time_ort(quantize(model, data, {.weight_bits = 8, .activation_bits = 8}, silent).graph, image);
    fmt::print("stock ONNX Runtime: float32 {:.3f}, int8 (QDQ) {:.3f}\n", plain, int8);
  } else {
    fmt::print("no ONNX Runtime here: its lines are left out\n");
  }
  fmt::print("{:<6}{:>12}{:>12}{:>14}{:>18}{:>16}\n", "bits", "MACs, M", "session", "of float32",
             "ORT, exact", "ORT, fast");
  for (const int one : bits) {
    session.set_bits(one);
    const double ms = 1e3 * session.seconds_an_image(repeats);
    const double exact = ort ? time_ort(deploy_static(graph, one), image) : 0,
                 fast = ort ? time_ort(deploy_fast(graph, one), image) : 0;
    fmt::print("{:<6}{:>12.1f}{:>12.3f}{:>14}{:>18}{:>16}\n", one,
               static_cast<double>(bit_cost(graph, one).macs) / 1e6, ms,
               ort ? fmt::format("{:.2f}", ms / plain) : "", ort ? fmt::format("{:.3f}", exact) : "",
               ort ? fmt::format("{:.3f}", fast) : "");
    std::fflush(stdout);
  }
  if (given["--layers"] == "yes") time_layers(repeats);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "multibit_kernels: {}\n", error.what());
    return 2;
  }
}
