// Exported quantised models in stock ONNX Runtime, as users run it, against the engine.
#include <gtest/gtest.h>

#include "lithe/models/models.h"
#include "onnxruntime/export_and_verify.h"
#include "onnxruntime/need.h"

namespace lithe {
namespace {

class QuantizedInOnnxRuntime : public testing::TestWithParam<int> {};

/// The exact profile simulates its bits to the last code, but for sums that lie on an edge within float
/// rounding.
TEST_P(QuantizedInOnnxRuntime, ExactProfileGivesEqualCodes) {
  LITHE_NEED_ONNX_RUNTIME();
  const int bits = GetParam();
  const Verification result = export_and_verify(
      build_resnet20(),
      {.weight_bits = bits, .activation_bits = bits, .profile = Profile::Exact, .report_samples = 0});
  EXPECT_GT(result.codes.codes, 100000);
  EXPECT_LE(result.codes.largest_step, 1) << result.codes.worst;
  EXPECT_LE(result.codes.differing, result.codes.codes / 100000) << result.codes.worst;
  for (const OutputComparison& output : result.outputs) EXPECT_LT(output.judged.max_rel, 1e-5);
  EXPECT_TRUE(result.pass);
}
INSTANTIATE_TEST_SUITE_P(Bits, QuantizedInOnnxRuntime, testing::Values(2, 3, 4, 5, 6, 7, 8));

/// Integer kernels for Add and pools round in another order than the float simulation: codes on an edge may
/// differ by one.
TEST(QuantizedProfiles, Int8ProfileDiffersOnlyOnEdges) {
  LITHE_NEED_ONNX_RUNTIME();
  const ClassifierOptions small{.classes = 10, .image_size = 64, .width = 0.5};
  for (const Graph& graph : {build_resnet20(), build_mobilenet_v2(small), build_resnet18(small)})
    for (const int weight_bits : {8, 4}) {
      const Verification result = export_and_verify(
          graph, {.weight_bits = weight_bits, .profile = Profile::Int8, .report_samples = 0});
      EXPECT_LE(result.codes.largest_step, 1) << graph.name << " " << result.codes.worst;
      EXPECT_LT(result.codes.differing, result.codes.codes / 1000) << graph.name;
      EXPECT_TRUE(result.pass) << graph.name << " " << result.codes.worst;
    }
}

TEST(QuantizedProfiles, FourBitStorageGivesTheSameOutputs) {
  LITHE_NEED_ONNX_RUNTIME();
  const Verification result = export_and_verify(build_resnet20(), {.weight_bits = 4,
                                                                   .activation_bits = 8,
                                                                   .opset = 21,
                                                                   .weight_scheme = Scheme::Symmetric,
                                                                   .report_samples = 0});
  EXPECT_TRUE(result.pass) << result.codes.worst;
}

// Layers of 8-bit and of 4-bit containers side by side: no integer operator takes both.
TEST(QuantizedModel, FourBitActivationsBesideWiderWeightsLoad) {
  LITHE_NEED_ONNX_RUNTIME();
  const Graph graph = build_resnet20({.classes = 10, .image_size = 16, .width = 0.25});
  for (const char* rule : {"*=5", "*=8", "layer2*=8"}) {
    QuantizeOptions options{.weight_bits = 4, .activation_bits = 4, .opset = 21, .report_samples = 0};
    options.bits_for.push_back(parse_bits_rule(rule));
    const Verification result = export_and_verify(graph, options);
    EXPECT_TRUE(result.pass) << rule;
  }
}

}  // namespace
}  // namespace lithe
