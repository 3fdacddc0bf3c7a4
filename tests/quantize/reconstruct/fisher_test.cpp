#include "lithe/quantize/reconstruct/fisher.h"

#include <gtest/gtest.h>

#include "tests/quantize/helpers.h"

namespace lithe {
namespace {

using namespace testing_helpers;

/// x [n, 3] -> h = Relu(x) -> y = h w, four classes.
Graph classifier() {
  Graph graph;
  graph.header.opsets[""] = 13;
  graph.inputs = {image("x", {-1, 3})};
  graph.outputs = {image("y", {-1, 4})};
  graph.constants["w"] = random_data({3, 4}, 1);
  graph.nodes = {make("Relu", "h", {"x"}), make("MatMul", "y", {"h", "w"})};
  return graph;
}

SampleCachePtr cached(CacheArena& arena, const at::Tensor& values) {
  auto cache = std::make_shared<SampleCache>(arena, "value", values.size(0));
  cache->append(values, values.size(0));
  return cache;
}

// d KL(p || softmax(h w)) / d h = (softmax(h w) - p) w' / samples of a step.
TEST(Fisher, IsTheGradientOfTheMeanOverAStepHoweverManyRun) {
  const Graph graph = classifier();
  Executor network(graph);
  CacheArena arena({});
  const at::Tensor h = random_tensor({8, 3}, 2).abs(), truth = random_tensor({8, 4}, 3),
                   w = to_tensor(graph.constants.at("w"));
  const CacheMap values{{"h", cached(arena, h)}};
  const SampleCachePtr logits = cached(arena, truth);
  for (const std::int64_t step : {4, 8}) {
    const at::Tensor wanted =
        ((at::softmax(h.mm(w), 1) - at::softmax(truth, 1)).mm(w.t()) / static_cast<double>(step)).abs() + 1;
    EXPECT_GT((wanted - 1).max().item<double>(), 1e-3);
    for (const std::int64_t run : {1, 2, 4}) {
      const auto importance = fisher_importance(network, values, *logits, {"h"}, 8, run, step, arena);
      EXPECT_LT(largest_gap(importance.at("h")->range(0, 8), wanted), 1e-6) << step << " " << run;
    }
  }
}

}  // namespace
}  // namespace lithe
