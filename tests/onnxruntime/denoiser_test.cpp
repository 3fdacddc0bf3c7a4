// Noise predictors in stock ONNX Runtime, whole and with layers skipped.
#include <gtest/gtest.h>

#include "lithe/base/file.h"
#include "lithe/diffusion/skippable_layers.h"
#include "lithe/engine/random_inputs.h"
#include "lithe/graph/onnx.h"
#include "lithe/metrics/verify.h"
#include "lithe/models/models.h"
#include "lithe/train/initialise.h"
#include "onnxruntime/need.h"

namespace lithe {
namespace {

TEST(Denoiser, AgreesWithTheEngineWithoutLayersToo) {
  LITHE_NEED_ONNX_RUNTIME();
  const at::NoGradGuard no_grad;
  Graph graph = build_adm_unet({.heads = 2, .classes = 4});
  initialise(graph, 3);
  const auto layers = find_skippable_layers(graph);
  const TemporaryFolder folder;
  const auto path = folder.path() / "net.onnx";
  const Feeds feeds = random_inputs(graph, 5, {}, 4);
  for (const std::vector<int>& skipped :
       std::vector<std::vector<int>>{{}, {2, 4, 10, 16}, {0, 7, 8, 9, 19}}) {
    write_onnx(without_layers(graph, layers, skipped), path);
    Executor executor(read_onnx(path));
    const Verification verification = verify(executor, path, feeds, {.tolerance = 1e-4});
    EXPECT_TRUE(verification.pass) << verification.outputs[0].judged.max_abs;
  }
}

}  // namespace
}  // namespace lithe
