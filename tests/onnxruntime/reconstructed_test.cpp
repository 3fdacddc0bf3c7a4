// Files of learnt roundings and scales in stock ONNX Runtime against the engine, to the same bounds as
// others.
#include <gtest/gtest.h>

#include "lithe/models/models.h"
#include "onnxruntime/export_and_verify.h"
#include "onnxruntime/need.h"

namespace lithe {
namespace {

ReconstructOptions quick(ReconstructMethod method) {
  ReconstructOptions options = reconstruct_options(method, Effort::Fast);
  set_steps(options, 10);
  options.survey_steps = 2;
  options.batch = 8;
  return options;
}

Graph residual() {
  return build_resnet20({.classes = 10, .image_size = 32, .width = 0.5});
}
Graph mobile() {
  return build_mobilenet_v2({.classes = 10, .image_size = 64, .width = 0.25});
}

TEST(ReconstructedInOnnxRuntime, ExactFilesOfTwoAndFourBitsHaveEqualCodes) {
  LITHE_NEED_ONNX_RUNTIME();
  for (const ReconstructMethod method : {ReconstructMethod::Brecq, ReconstructMethod::QDrop})
    for (const Graph& graph : {residual(), mobile()}) {
      const Verification result = export_and_verify(graph, {.weight_bits = 2,
                                                            .activation_bits = 4,
                                                            .profile = Profile::Exact,
                                                            .reconstruct = quick(method),
                                                            .report_samples = 0});
      EXPECT_GT(result.codes.codes, 10000) << graph.name;
      EXPECT_LE(result.codes.largest_step, 1) << graph.name << " " << result.codes.worst;
      EXPECT_LE(result.codes.differing, result.codes.codes / 100000)
          << graph.name << " " << result.codes.worst;
      EXPECT_TRUE(result.pass) << graph.name << " " << result.codes.worst;
    }
}

TEST(ReconstructedInOnnxRuntime, IntegerFilesOfFourBitWeightsDifferOnlyOnEdges) {
  LITHE_NEED_ONNX_RUNTIME();
  for (const std::int64_t opset : {13, 21})
    for (const Graph& graph : {residual(), mobile()}) {
      ReconstructOptions learning = quick(ReconstructMethod::Mrecg);
      learning.learn_weight_scales = true;
      const Verification result = export_and_verify(graph, {.weight_bits = 4,
                                                            .profile = Profile::Int8,
                                                            .opset = opset,
                                                            .reconstruct = learning,
                                                            .report_samples = 0});
      EXPECT_LE(result.codes.largest_step, 1) << graph.name << " " << result.codes.worst;
      EXPECT_LT(result.codes.differing, result.codes.codes / 1000) << graph.name;
      EXPECT_TRUE(result.pass) << graph.name << " " << result.codes.worst;
    }
}

/// Layers of different bits, containers of 4 and of 8 bits beside each other.
TEST(ReconstructedInOnnxRuntime, MixedBitsUnderABudget) {
  LITHE_NEED_ONNX_RUNTIME();
  const Verification result =
      export_and_verify(residual(), {.budget = BitBudget{BitBudget::Kind::MeanBits, 4},
                                     .budget_bits = {2, 4, 6},
                                     .opset = 21,
                                     .reconstruct = quick(ReconstructMethod::Brecq),
                                     .report_samples = 0});
  EXPECT_LE(result.codes.largest_step, 1) << result.codes.worst;
  EXPECT_TRUE(result.pass) << result.codes.worst;
}

}  // namespace
}  // namespace lithe
