// Networks whose activations are rounded to points of a table, in stock ONNX Runtime.
#include <gtest/gtest.h>

#include "lithe/engine/onnxruntime.h"
#include "lithe/graph/subset_function.h"
#include "lithe/models/models.h"
#include "lithe/quantize/dfsq/dfsq.h"
#include "onnxruntime/export_and_verify.h"
#include "onnxruntime/need.h"

namespace lithe {
namespace {

struct Case {
  SubsetStatistics statistics;
  SubsetWeights weights;
  int bits;
  std::int64_t opset;
};

class SubsetExport : public ::testing::TestWithParam<Case> {};

TEST_P(SubsetExport, AgreesWithTheEngine) {
  LITHE_NEED_ONNX_RUNTIME();
  const auto [statistics, weights, bits, opset] = GetParam();
  const Graph graph = build_edsr({.scale = 2, .channels = 8, .blocks = 2, .image_size = 16});
  QuantizeOptions options{.weight_bits = bits, .activation_bits = bits};
  options.opset = opset;
  options.report_samples = 0;
  options.dfsq = DfsqOptions{.statistics = statistics, .weights = weights};
  const Verification verification = export_and_verify(graph, options);
  EXPECT_TRUE(verification.pass);
  EXPECT_EQ(verification.codes.values, 4);
  // Where a float lies between two points, the order of summation decides, and that is the processor's.
  EXPECT_LE(verification.codes.differing, verification.codes.codes / 1000) << verification.codes.worst;
}

INSTANTIATE_TEST_SUITE_P(All, SubsetExport,
                         ::testing::Values(Case{SubsetStatistics::Static, SubsetWeights::Mse, 4, 13},
                                           Case{SubsetStatistics::Static, SubsetWeights::MinMax, 8, 17},
                                           Case{SubsetStatistics::Static, SubsetWeights::Mse, 3, 21},
                                           Case{SubsetStatistics::Static, SubsetWeights::MinMax, 4, 21},
                                           Case{SubsetStatistics::Dynamic, SubsetWeights::Mse, 4, 13},
                                           Case{SubsetStatistics::Dynamic, SubsetWeights::MinMax, 6, 21},
                                           Case{SubsetStatistics::Dynamic, SubsetWeights::MinMax, 2, 17}));

}  // namespace
}  // namespace lithe
