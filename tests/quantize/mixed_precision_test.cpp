#include "lithe/quantize/mixed_precision.h"

#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "lithe/base/error.h"
#include "lithe/models/models.h"
#include "lithe/quantize/export_qdq.h"
#include "tests/quantize/helpers.h"

namespace lithe {
namespace {

using namespace testing_helpers;
using testing::HasSubstr;

struct Case {
  Graph graph = build_resnet20({.classes = 5, .image_size = 16, .width = 0.25, .batch_norm = false});
  std::vector<Layer> layers = find_layers(graph);
  DatasetPtr data = random_dataset({8, 3, 16, 16}, 1);
  Progress progress;

  Case() {
    at::set_num_threads(1);
    for (Layer& layer : layers) layer.weight_bits = layer.first || layer.last ? 8 : 4;
  }

  MixedPrecision choose(const BitBudget& budget, MixedPrecisionOptions options = {}) {
    options.budget = budget;
    options.sensitivity = {
        .bits = {2, 3, 4, 6, 8}, .weights = {.method = RangeMethod::MinMax}, .samples = 8, .batch = 8};
    options.fixed = [](const Layer& layer) { return layer.first || layer.last; };
    return choose_precision(graph, layers, data, options, progress);
  }

  double mean_bits() const {
    double bits = 0, weights = 0;
    for (const Layer& layer : layers) {
      const auto count = static_cast<double>(graph.constants.at(layer.weight).count());
      bits += count * layer.weight_bits;
      weights += count;
    }
    return bits / weights;
  }

  std::int64_t packed_bytes_of_all() const {
    std::int64_t bytes = 0;
    for (const auto& [name, data] : graph.constants) {
      const auto at = std::find_if(layers.begin(), layers.end(),
                                   [&name = name](const Layer& layer) { return layer.weight == name; });
      bytes += at == layers.end() ? static_cast<std::int64_t>(data.bytes().size())
                                  : packed_weight_bytes(at->weight_bits, data.count(), at->channels);
    }
    return bytes;
  }
};

TEST(ChoosePrecision, MeetsAMeanNumberOfBits) {
  Case one;
  const MixedPrecision result = one.choose({BitBudget::Kind::MeanBits, 4});
  EXPECT_EQ(result.sensitivities.size(), one.layers.size() - 2);
  EXPECT_LE(one.mean_bits(), 4 + 1e-9);
  EXPECT_GT(one.mean_bits(), 3.8);
  EXPECT_NEAR(one.mean_bits(), result.assignment.achieved.mean_bits, 1e-12);
  EXPECT_EQ(result.assignment.achieved.bytes, one.packed_bytes_of_all());
  EXPECT_EQ(one.layers.front().weight_bits, 8);
  EXPECT_EQ(one.layers.back().weight_bits, 8);
  // Better than 4 bits everywhere, of which the fixed layers would even exceed the budget.
  double uniform = 0;
  for (const WeightSensitivity& weight : result.sensitivities) uniform += weight.choices.choices[2].loss;
  EXPECT_LT(result.assignment.achieved.loss, uniform);
}

TEST(ChoosePrecision, MeetsAShareOfTheFloatSize) {
  Case one;
  const MixedPrecision result = one.choose({BitBudget::Kind::Share, 0.15});
  std::int64_t bytes = 0;
  for (const auto& [name, data] : one.graph.constants)
    bytes += static_cast<std::int64_t>(data.bytes().size());
  EXPECT_EQ(result.float_bytes, bytes);
  EXPECT_EQ(result.assignment.achieved.bytes, one.packed_bytes_of_all());
  EXPECT_LE(static_cast<double>(result.assignment.achieved.bytes), 0.15 * static_cast<double>(bytes));
  EXPECT_GT(static_cast<double>(result.assignment.achieved.bytes), 0.14 * static_cast<double>(bytes));
}

TEST(ChoosePrecision, CountsTheBytesOfTheFile) {
  // Files of opset 13 store every code in a byte: fewer bits save nothing, and the best are chosen.
  Case one;
  const auto stored = [](int bits, std::int64_t elements, std::int64_t scales) {
    return stored_bytes(bits, elements, scales, 13);
  };
  one.choose({BitBudget::Kind::Share, 0.9}, {.bytes = stored});
  EXPECT_GT(one.mean_bits(), 7);
  try {
    one.choose({BitBudget::Kind::Share, 0.2}, {.bytes = stored});
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("20% of the float size cannot be met"));
  }
}

TEST(ChoosePrecision, NeedsALayerToChooseFor) {
  Case one;
  MixedPrecisionOptions options{.budget = {BitBudget::Kind::MeanBits, 4}};
  options.fixed = [](const Layer&) { return true; };
  EXPECT_THROW(choose_precision(one.graph, one.layers, one.data, options, one.progress), Error);
}

}  // namespace
}  // namespace lithe
