#include "lithe/quantize/dfsq/statistics.h"

#include <gtest/gtest.h>

#include <malloc.h>
#include <sys/resource.h>

#include <atomic>
#include <cstdlib>

#include "lithe/graph/onnx.h"
#include "lithe/models/builder.h"
#include "quantize/dfsq/helpers.h"

namespace lithe {
namespace {

using namespace testing_helpers;

/// Counts the samples that are read.
class Counting : public Dataset {
 public:
  explicit Counting(DatasetPtr dataset) : dataset_(std::move(dataset)) {}
  std::int64_t size() const override { return dataset_->size(); }
  Sample get(std::int64_t index) const override {
    ++reads;
    return dataset_->get(index);
  }
  mutable std::atomic<std::int64_t> reads{0};

 private:
  DatasetPtr dataset_;
};

// Memory for a single channel at a time takes more passes and gives the same.
TEST(Dfsq, MemoryChangesNothing) {
  const at::NoGradGuard no_grad;
  const Graph graph = build_edsr(small_network());
  for (const PointMethod points : {PointMethod::KMeans, PointMethod::Exact})
    for (const SubsetStatistics statistics : {SubsetStatistics::Static, SubsetStatistics::Dynamic}) {
      Progress silent;
      const auto made = [&](std::int64_t memory, std::int64_t& reads) {
        const auto data = std::make_shared<Counting>(smooth_images(8, 3));
        QuantizeOptions options{.weight_bits = 4, .activation_bits = 4};
        options.batch = 1;  // which memory would bound too, and sums round differently
        options.dfsq = DfsqOptions{.statistics = statistics, .points = points, .memory = memory};
        options.report_samples = 0;
        Quantized result = quantize(graph, data, options, silent);
        reads = data->reads;
        return result;
      };
      std::int64_t few = 0, many = 0;
      const Quantized a = made(std::int64_t{1} << 30, few), b = made(1, many);
      // Four values of eight channels.
      EXPECT_EQ(many - few, 8 * (4 * 8 - 1));
      EXPECT_EQ(serialize_onnx(a.graph), serialize_onnx(b.graph));
      const at::Tensor x = random_tensor({1, 3, 16, 16}, 4);
      EXPECT_TRUE(at::equal(run(a.graph, x), run(b.graph, x)));
    }
}

/// Megabytes that this process has held at most.
double peak_megabytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1e3;
}

/// Observes thirty values of 17 MB each, 500 MB in all, and ends the process: with 0 if that took no more
/// than a few of them beside what the network itself takes.
[[noreturn]] void observe_a_chain() {
  ::mallopt(M_MMAP_THRESHOLD, 1 << 20);  // what is freed is given back at once
  GraphBuilder net("chain", 1);
  std::string x = net.input("input", {-1, 3, 512, 512});
  std::vector<ObservedValue> values;
  for (int i = 0; i < 30; ++i) {
    x = net.conv(fmt::format("conv{}", i), x, {.channels = 16, .kernel = 1});
    values.push_back({.name = x, .centre = true});
  }
  net.output("output", net.conv("tail", x, {.channels = 3, .kernel = 1}), {-1, 3, 512, 512});
  const at::Tensor image = at::ones({1, 3, 512, 512});
  Executor executor(net.finish());
  const at::NoGradGuard no_grad;
  executor.run({{"input", image}});
  const double alone = peak_megabytes();
  Progress silent;
  const bool all =
      observe_ranges(executor, tensor_dataset({{"", image}}), values, {.batch = 1, .threads = 1}, silent)
          .size() == values.size();
  const double more = peak_megabytes() - alone;
  fmt::print(stderr, "{:.0f} MB more than the {:.0f} MB of the network alone\n", more, alone);
  std::_Exit(all && more < 250 ? 0 : 1);
}

// In a process of its own, whose peak is not that of other tests.
TEST(DfsqDeathTest, ObservingKeepsNoValues) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(observe_a_chain(), ::testing::ExitedWithCode(0), "more than");
}

}  // namespace
}  // namespace lithe
