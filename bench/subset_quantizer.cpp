// Rounding to points of a table, and choosing the points: how fast.
//   subset_quantizer
// Lookup: the kernel (normalising, rounding and restoring in one pass) against the scalar reference and
// against copying as many bytes, single-threaded, for buffers in cache and in memory. Selection: exact and
// K-means, by the size of the data of a channel; exact selection works from counts, so that its own time does
// not grow and that of counting is linear. The last lines are what a network of 32 layers of 64 channels
// takes.
#include <fmt/format.h>

#include <time.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "bench/statistics.h"
#include "lithe/base/random.h"
#include "lithe/kernels/subset_lookup.h"
#include "lithe/quantize/dfsq/select_points.h"

namespace {

using namespace lithe;

/// Of this thread, not of the clock: the machine may be shared.
double processor_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

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

std::vector<float> numbers(std::int64_t count, std::uint64_t seed) {
  Rng rng(seed);
  std::vector<float> values(static_cast<std::size_t>(count));
  float most = 0;
  for (float& value : values) {
    value = static_cast<float>(rng.normal());
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
    std::vector<float> y(x.size());
    const int inner = static_cast<int>((std::int64_t{1} << 24) / count);
    const auto each = [&](const auto& work) {
      return median_seconds([&] {
               for (int i = 0; i < inner; ++i) work();
             }) /
             static_cast<double>(inner * count) * 1e9;
    };
    const double copy = each([&] { std::memcpy(y.data(), x.data(), x.size() * sizeof(float)); });
    SubsetHistogram histogram;
    histogram.add(x);
    for (const int bits : {2, 4, 6, 8}) {
      const SubsetTable table(select_points_exactly(histogram, 1 << bits).points);
      const SubsetTransform transform{0.01f, 1.1f, true};
      const double kernel = each([&] { subset_lookup(x.data(), y.data(), count, table, transform); });
      const double scalar =
          median_seconds([&] { subset_lookup_reference(x.data(), y.data(), count, table, transform); }, 3) /
          static_cast<double>(count) * 1e9;
      fmt::print("{:>12}{:>6}{:>12.3f}{:>12.3f}{:>12.3f}{:>14.2f}{:>14.1f}\n", count, bits, copy, kernel,
                 scalar, kernel / copy, scalar / kernel);
    }
  }
}

void selections() {
  fmt::print("\n{:>12}{:>8}{:>14}{:>14}{:>14}{:>14}{:>16}\n", "numbers", "points", "count, ms", "exact, ms",
             "all pairs, ms", "K-means, ms", "loss K-m./exact");
  double count_ms = 0, exact_ms = 0, means_ms = 0;
  for (const std::int64_t count : {18432, 73728, 294912}) {
    const std::vector<float> values = numbers(count, 2);
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
      if (count == 73728 && points == 16) {
        count_ms = counting * 1e3;
        exact_ms = fast * 1e3;
        means_ms = lloyd * 1e3;
      }
    }
  }
  constexpr double kChannels = 32 * 64;
  fmt::print(
      "\n32 layers of 64 channels, 32 patches of 48x48, 4 bits, one thread: exact {:.2f} s (counting {:.2f} "
      "s), "
      "K-means with 5 starts {:.1f} s\n",
      kChannels * (count_ms + exact_ms) / 1e3, kChannels * count_ms / 1e3, kChannels * means_ms / 1e3);
}

}  // namespace

int main() {
  lookups();
  selections();
}
