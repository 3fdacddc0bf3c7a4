#include "lithe/metrics/tiled.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "lithe/base/error.h"
#include "lithe/base/random.h"
#include "lithe/engine/executor.h"
#include "open_edsr.h"

namespace lithe {
namespace {

TEST(Tiled, EqualsTheWholeImage) {
  const at::NoGradGuard no_grad;
  at::set_num_threads(1);
  const Graph graph = test::open_edsr();
  Executor executor(graph);
  const RunBatch run = [&](const Feeds& feeds) { return executor.run(feeds); };
  at::manual_seed(3);
  for (const auto& [height, width] : {std::pair{40, 53}, {17, 9}}) {
    const Feeds feeds{{"input", at::rand({2, 3, height, width})}};
    const at::Tensor whole = run(feeds).at("output");
    for (const std::int64_t side : {7, 16, 32, 64}) {
      const at::Tensor parts = tiled(graph, run, find_tiling(graph), side)(feeds).at("output");
      ASSERT_EQ(parts.sizes(), whole.sizes());
      EXPECT_LT((parts - whole).abs().max().item<double>(), 1e-5) << side;
    }
  }
  EXPECT_THROW(tiled(graph, run, find_tiling(graph), 0), Error);
}

// One pixel of overlap less is seen.
TEST(Tiled, NeedsAllOfTheOverlap) {
  const at::NoGradGuard no_grad;
  at::manual_seed(4);
  const Graph graph = test::open_edsr();
  Executor executor(graph);
  const RunBatch run = [&](const Feeds& feeds) { return executor.run(feeds); };
  Tiling narrow = find_tiling(graph);
  narrow.overlap = 2;
  const Feeds feeds{{"input", at::rand({1, 3, 40, 40})}};
  const at::Tensor whole = run(feeds).at("output"), parts = tiled(graph, run, narrow, 16)(feeds).at("output");
  EXPECT_GT((parts - whole).abs().max().item<double>(), 1e-4);
}

}  // namespace
}  // namespace lithe
