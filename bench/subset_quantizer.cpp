// Rounding to points of a table, and choosing the points: how fast.
//
//   subset_quantizer                 the tables below
//   subset_quantizer --print-data    one channel's numbers, for bench/published_kmeans.py
//
// Lookup: the kernel (normalising, rounding and restoring in one pass) against the scalar reference and
// against copying as many bytes, single-threaded, for buffers in cache and in memory. Selection: exact and
// K-means, by the size of the data of a channel, for normal values and for what a Relu leaves of them; exact
// selection works from counts, so that its own time does not grow and that of counting is linear. The last
// lines are what a network of 32 layers of 64 channels takes.
//
// The same selection in plain Python, on the same numbers:
//   subset_quantizer --print-data | python3 bench/published_kmeans.py
#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "bench/processor_time.h"
#include "bench/statistics.h"
#include "lithe/base/random.h"
#include "lithe/kernels/subset_lookup.h"
#include "lithe/quantize/dfsq/select_points.h"

namespace {

using namespace lithe;
using bench::processor_seconds;

constexpr double kMostOfACopy = 1.3;  // of the lookup at 4 bits, for buffers in memory
// Floats; copies between places that are whole pages apart are slow on some processors.
constexpr std::size_t kApart = 272;
constexpr std::int64_t kPatches = 32 * 48 * 48;

template <typename Work>
double median_seconds(const Work& work, int repeats = 9) {
  std::vector<double> seconds;
  work();
  for (int i = 0; i < repeats; ++i) {
    const double start = processor_seconds();
    work();
    seconds.push_back(processor_seconds() - start);
  }
  return bench::median(seconds);
}

/// Normal values with largest magnitude 1, or what a Relu leaves of them.
std::vector<float> numbers(std::int64_t count, std::uint64_t seed, bool rectified = false) {
  Rng rng(seed);
  std::vector<float> values(static_cast<std::size_t>(count));
  float most = 0;
  for (float& value : values) {
    value = static_cast<float>(rectified ? std::max(0.0, rng.normal()) : rng.normal());
    most = std::max(most, std::abs(value));
  }
  for (float& value : values) value /= most;
  return values;
}

void lookups() {
  fmt::print("{:>12}{:>6}{:>12}{:>12}{:>12}{:>14}{:>14}\n", "floats", "bits", "copy, ns", "kernel, ns",
             "scalar, ns", "kernel/copy", "scalar/kernel");
  for (const std::int64_t count : {std::int64_t{1} << 14, std::int64_t{1} << 20, std::int64_t{1} << 24}) {
    const std::vector<float> x = numbers(count, 1);
    std::vector<float> buffer(x.size() + kApart);
    float* const y = buffer.data() + kApart;
    const int inner = static_cast<int>((std::int64_t{1} << 24) / count);
    const auto each = [&](const auto& work) {
      return median_seconds([&] {
               for (int i = 0; i < inner; ++i) work();
             }) /
             static_cast<double>(inner * count) * 1e9;
    };
    const double copy = each([&] { std::memcpy(y, x.data(), x.size() * sizeof(float)); });
    SubsetHistogram histogram;
    histogram.add(x);
    for (const int bits : {2, 4, 6, 8}) {
      const SubsetTable table(select_points_exactly(histogram, 1 << bits).points);
      const SubsetTransform transform{0.01f, 1.1f, true};
      const double kernel = each([&] { subset_lookup(x.data(), y, count, table, transform); });
      const double scalar =
          median_seconds([&] { subset_lookup_reference(x.data(), y, count, table, transform); }, 3) /
          static_cast<double>(count) * 1e9;
      fmt::print("{:>12}{:>6}{:>12.3f}{:>12.3f}{:>12.3f}{:>14.2f}{:>14.1f}\n", count, bits, copy, kernel,
                 scalar, kernel / copy, scalar / kernel);
      if (bits == 4 && count == std::int64_t{1} << 24)
        fmt::print("{:>12} 4 bits in memory: {:.2f} times a copy, goal {}: {}\n", "", kernel / copy,
                   kMostOfACopy, kernel / copy <= kMostOfACopy ? "met" : "missed");
    }
  }
}

/// Milliseconds for one channel of 32 patches of 48x48 at 4 bits.
struct ChannelTimes {
  double count = 0, exact = 0, means = 0;
};

ChannelTimes selections(bool rectified) {
  fmt::print("\n{}\n{:>12}{:>8}{:>14}{:>14}{:>14}{:>14}{:>16}\n",
             rectified ? "behind a Relu" : "normal values", "numbers", "points", "count, ms", "exact, ms",
             "all pairs, ms", "K-means, ms", "loss K-m./exact");
  ChannelTimes times;
  for (const std::int64_t count : {kPatches / 4, kPatches, 4 * kPatches}) {
    const std::vector<float> values = numbers(count, 2, rectified);
    const double counting = median_seconds([&] { SubsetHistogram().add(values); }, 5);
    SubsetHistogram histogram;
    histogram.add(values);
    for (const int points : {4, 16, 64, 256}) {
      PointSelection exact, means;
      const double fast = median_seconds([&] { exact = select_points_exactly(histogram, points); }, 5);
      const double full = median_seconds([&] { select_points_exactly(histogram, points, {}, true); }, 1);
      const double lloyd =
          median_seconds([&] { means = select_points_by_kmeans(SortedValues(values), points, 1); }, 3);
      fmt::print("{:>12}{:>8}{:>14.3f}{:>14.3f}{:>14.3f}{:>14.3f}{:>16.3f}\n", count, points, counting * 1e3,
                 fast * 1e3, full * 1e3, lloyd * 1e3, means.loss / exact.loss);
      if (count == kPatches && points == 16)
        times = {.count = counting * 1e3, .exact = fast * 1e3, .means = lloyd * 1e3};
    }
  }
  return times;
}

void networks() {
  constexpr double kChannels = 32 * 64;
  for (const bool rectified : {false, true}) {
    const ChannelTimes times = selections(rectified);
    fmt::print(
        "32 layers of 64 channels, 32 patches of 48x48, 4 bits, one thread: exact {:.2f} s (counting {:.2f} "
        "s), "
        "K-means with 5 starts {:.1f} s\n",
        kChannels * (times.count + times.exact) / 1e3, kChannels * times.count / 1e3,
        kChannels * times.means / 1e3);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::string(argv[1]) == "--print-data") {
    for (const float value : numbers(kPatches, 2)) fmt::print("{}\n", value);
    return 0;
  }
  if (argc > 1) {
    fmt::print(stderr, "subset_quantizer: unknown flag {}; give none, or --print-data\n", argv[1]);
    return 2;
  }
  lookups();
  networks();
}
