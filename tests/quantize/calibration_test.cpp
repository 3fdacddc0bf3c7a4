#include "lithe/quantize/calibration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "helpers.h"
#include "lithe/base/error.h"

namespace lithe {
namespace {

using namespace testing_helpers;

ActivationStatistics seen(const std::vector<at::Tensor>& batches, ActivationStatistics::Options options) {
  ActivationStatistics statistics(options);
  for (const at::Tensor& batch : batches) statistics.add(batch, "v");
  return statistics;
}

at::Tensor golden() {
  return at::tensor(std::vector<float>{0, 0.1f, 0.25f, 0.4f, 0.8f, 1.1f, 1.9f, 3.2f});
}

TEST(Histogram, ShareBelowInvertsTheQuantile) {
  Histogram histogram;
  const at::Tensor x = random_tensor({5000}, 7);
  histogram.add(x);
  EXPECT_EQ(histogram.share_below(-100), 0);
  EXPECT_EQ(histogram.share_below(100), 1);
  for (const double edge : {-1.0, 0.0, 0.7}) {
    EXPECT_NEAR(histogram.share_below(edge), (x < edge).to(at::kDouble).mean().item<double>(), 1e-3);
    EXPECT_NEAR(histogram.quantile(histogram.share_below(edge)), edge, 1e-2);  // no value may lie in between
  }
}

TEST(Calibration, AveragedRangesAreTheGoldenOnes) {
  const ActivationStatistics statistics = seen({golden(), golden() * 1.5}, {.momentum = 0.9});
  EXPECT_NEAR(statistics.high(), 3.36, 1e-6);
  const Range range =
      choose_range(statistics, {.method = RangeMethod::MinMax}, Scheme::Asymmetric, asymmetric_codes(4));
  const Quantizer quantizer = quantizer_for_range(range, Scheme::Asymmetric, asymmetric_codes(4));
  EXPECT_NEAR(quantizer.scale.item<float>(), 0.224, 1e-6);
  EXPECT_EQ(quantizer.zero_point.item<float>(), 0);
}

TEST(Calibration, UnitedRangesCoverEverything) {
  const ActivationStatistics statistics = seen({golden(), golden() * -2}, {});
  EXPECT_FLOAT_EQ(static_cast<float>(statistics.low()), -6.4f);
  EXPECT_FLOAT_EQ(static_cast<float>(statistics.high()), 3.2f);
}

TEST(Calibration, HistogramsDoNotDependOnTheOrderOfBatches) {
  const at::Tensor small = random_tensor({1000}, 1) * 0.01, large = random_tensor({1000}, 2) * 100;
  const ActivationStatistics one = seen({small, large}, {.histogram = true}),
                             two = seen({large, small}, {.histogram = true});
  EXPECT_TRUE(at::equal(one.histogram().counts(), two.histogram().counts()));
  EXPECT_TRUE(at::equal(one.histogram().middles(), two.histogram().middles()));
  EXPECT_EQ(one.histogram().counts().sum().item<double>(), 2000);
  ActivationStatistics merged = seen({small}, {.histogram = true});
  merged.merge(seen({large}, {.histogram = true}));
  EXPECT_TRUE(at::equal(one.histogram().counts(), merged.histogram().counts()));
  EXPECT_EQ(merged.low(), one.low());
}

TEST(Calibration, HistogramKeepsSignsZeroAndEnds) {
  Histogram histogram;
  histogram.add(at::tensor(std::vector<float>{-8, -1, 0, 0, 0, 2, 8}));
  const at::Tensor negative = histogram.counts().masked_select(histogram.middles() < 0);
  EXPECT_EQ(negative.sum().item<double>(), 2);
  EXPECT_NEAR(histogram.quantile(1), 8, 0.01);
  EXPECT_NEAR(histogram.quantile(0.1), -8, 0.01);
  EXPECT_NEAR(histogram.quantile(0.5), 0, 0.01);
  Histogram zeros;
  zeros.add(at::zeros({5}));
  EXPECT_EQ(zeros.counts().sum().item<double>(), 5);
  zeros.add(at::ones({1}));
  EXPECT_NEAR(zeros.quantile(1), 1, 0.01);
}

TEST(Calibration, PercentileCutsOutliersOnBothSides) {
  at::Tensor x = at::linspace(-1, 1, 100001);
  x[0] = -50;
  x[1] = 70;
  const ActivationStatistics statistics = seen({x}, {.histogram = true});
  const auto range = [&](double percentile) {
    return choose_range(statistics, {.method = RangeMethod::Percentile, .percentile = percentile},
                        Scheme::Asymmetric, asymmetric_codes(8));
  };
  EXPECT_NEAR(range(99).high.item<float>(), 0.98, 0.03);
  EXPECT_NEAR(range(99).low.item<float>(), -0.98, 0.03);
  EXPECT_FLOAT_EQ(range(100).high.item<float>(), 70);
  EXPECT_NEAR(range(100).low.item<float>(), -50, 0.02);
}

TEST(Calibration, SearchOverTheHistogramFindsTheRangeOfTheExactSearch) {
  for (const int bits : {2, 3, 4, 6}) {
    const at::Tensor x = random_tensor({200000}, 11).relu();
    const CodeRange codes = asymmetric_codes(bits);
    const float exact = search_mse_range(x, -1, Scheme::Asymmetric, codes).high.item<float>();
    const float found =
        choose_range(seen({x}, {.histogram = true}), {.method = RangeMethod::Mse}, Scheme::Asymmetric, codes)
            .high.item<float>();
    EXPECT_NEAR(found, exact, 0.021 * x.max().item<float>()) << bits;  // two steps of the search
  }
}

Graph chain() {
  Graph graph;
  graph.inputs = {image("x", {-1, 4})};
  graph.outputs = {{.name = "y", .dtype = DType::Float32}};
  graph.nodes = {make("Relu", "r", {"x"}), make("Exp", "y", {"r"})};
  return graph;
}

TEST(Calibration, ObservesInputsAndInnerValuesOverAllBatches) {
  const Graph graph = chain();
  Executor executor(graph);
  const at::Tensor x = random_tensor({50, 4}, 3);
  Progress silent;
  const auto statistics =
      calibrate(executor, tensor_dataset({{"", x}}), {"x", "r"}, {.batch = 16, .threads = 1}, silent);
  EXPECT_FLOAT_EQ(static_cast<float>(statistics.at("x").low()), x.min().item<float>());
  EXPECT_FLOAT_EQ(static_cast<float>(statistics.at("x").high()), x.max().item<float>());
  EXPECT_EQ(statistics.at("r").low(), 0);
  EXPECT_FLOAT_EQ(static_cast<float>(statistics.at("r").high()), x.max().item<float>());
}

TEST(Calibration, BadDataAreNamed) {
  const Graph graph = chain();
  Executor executor(graph);
  Progress silent;
  const auto message = [&](const at::Tensor& x, const std::vector<std::string>& values) -> std::string {
    try {
      calibrate(executor, tensor_dataset({{"", x}}), values, {.threads = 1}, silent);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  at::Tensor bad = at::zeros({4, 4});
  bad[1][2] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(message(bad, {"r"}), testing::HasSubstr("'r'"));
  EXPECT_THAT(message(at::zeros({4, 4}), {"missing"}), testing::HasSubstr("'missing'"));
  EXPECT_NE(message(at::zeros({4, 5}), {"r"}), "");
  EXPECT_NE(message(at::zeros({0, 4}), {"r"}), "");
}

}  // namespace
}  // namespace lithe
