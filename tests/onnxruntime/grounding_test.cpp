// The grounding network, with its searches among points, in stock ONNX Runtime.
#include <gtest/gtest.h>

#include "lithe/base/file.h"
#include "lithe/graph/onnx.h"
#include "lithe/metrics/verify.h"
#include "lithe/models/grounding.h"
#include "onnxruntime/need.h"

namespace lithe {
namespace {

TEST(GroundingExport, AgreesWithTheEngine) {
  LITHE_NEED_ONNX_RUNTIME();
  const at::NoGradGuard no_grad;
  for (const bool nearest : {false, true}) {
    GroundingOptions options = small_grounding(40);
    options.abstraction = {{{64, 0.5f, 8, {16, 16, 32}},
                            {32, 0.9f, 8, {16, 16, 32}},
                            {16, 1.5f, 8, {16, 16, 32}},
                            {8, 2.5f, 8, {16, 16, 32}}}};
    options.queries = 8;
    options.nearest_seeds = nearest;
    options.superpoint_radius = 0.4f;
    options.layer_norm = nearest;
    options.dropout = options.head_dropout = 0.1;
    const Graph graph = build_grounding(options);
    const TemporaryFolder folder;
    const auto path = folder.path() / "grounding.onnx";
    write_onnx(graph, path);
    at::manual_seed(7);
    Feeds feeds;
    feeds["points"] = at::cat({at::rand({2, 300, 3}) * 3, at::rand({2, 300, 3}) - 0.5}, 2);
    feeds["tokens"] = at::randint(0, 40, {2, 6}, at::kLong);
    feeds["trigrams"] = at::randint(0, 512, {2, 6, 4}, at::kLong);
    feeds["token_mask"] = at::ones({2, 6});
    feeds["superpoint_ids"] = at::randint(0, 25, {2, 300}, at::kLong);
    Executor executor(read_onnx(path));
    const Verification verification = verify(executor, path, feeds, {.tolerance = 1e-3});
    EXPECT_TRUE(verification.pass);
    for (const auto& output : verification.outputs) EXPECT_LT(output.judged.max_abs, 1e-3) << output.name;
  }
}

}  // namespace
}  // namespace lithe
