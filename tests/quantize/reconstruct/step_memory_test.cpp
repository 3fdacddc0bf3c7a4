#include "lithe/quantize/reconstruct/step_memory.h"

#include <gmock/gmock.h>

#include "lithe/graph/shape_inference.h"
#include "message_of.h"
#include "tests/quantize/helpers.h"

namespace lithe {
namespace {

using namespace testing_helpers;
using test::message_of;
using testing::HasSubstr;

/// Two matrix products: 4 -> 100 -> 2.
Graph chain() {
  Graph graph;
  graph.header.opsets[""] = 13;
  graph.inputs = {image("x", {-1, 4})};
  graph.outputs = {image("y", {-1, 2})};
  graph.constants["v"] = random_data({4, 100}, 1);
  graph.constants["w"] = random_data({100, 2}, 2);
  graph.nodes = {make("MatMul", "h", {"x", "v"}), make("MatMul", "y", {"h", "w"})};
  infer_shapes(graph, concrete_input_shapes(graph));
  return graph;
}

struct Measured {
  Graph graph = chain();
  std::vector<Unit> units{make_unit(graph, {0}), make_unit(graph, {1})};
  StepMemory step{graph, units, 1};
  std::vector<std::vector<int>> singles{{0}, {1}}, whole{{0, 1}};
};

TEST(StepMemory, CountsValuesForEachSampleAndWeightsOnce) {
  const Measured m;
  EXPECT_EQ(m.step.bytes(0, 0, 1), 4 * (3 * 100 + 6 * 400));
  EXPECT_EQ(m.step.bytes(0, 0, 5), 4 * (5 * 3 * 100 + 6 * 400));
  EXPECT_EQ(m.step.bytes(0, 1, 2), 4 * (2 * 3 * 102 + 6 * 600));
}

TEST(StepMemory, TakesTheMostSamplesThatHalfTheMemoryHolds) {
  const Measured m;
  const auto samples = [&](std::int64_t memory, std::int64_t unit_batch = 1) {
    return choose_step_batch(m.step, m.units, m.singles, 12, unit_batch, memory).samples;
  };
  EXPECT_EQ(samples(0), 12);
  EXPECT_EQ(samples(2 * m.step.bytes(0, 0, 12)), 12);
  EXPECT_EQ(samples(2 * m.step.bytes(0, 0, 12) - 2), 6);
  EXPECT_EQ(samples(2 * m.step.bytes(0, 0, 5)), 4);     // a divisor of 12
  EXPECT_EQ(samples(2 * m.step.bytes(0, 0, 5), 3), 3);  // and a multiple of 3
  EXPECT_EQ(samples(m.step.bytes(0, 0, 1)), 1);         // rather all of the memory than nothing
}

TEST(StepMemory, NamesTheUnitThatDoesNotFit) {
  const Measured m;
  EXPECT_THAT(message_of([&] { choose_step_batch(m.step, m.units, m.singles, 12, 1, 10'000); }),
              HasSubstr("a step of unit '" + m.units[0].name + "' on a single sample holds 0.0 MB"));
  EXPECT_THAT(message_of([&] { choose_step_batch(m.step, m.units, m.whole, 12, 3, 10'000); }),
              testing::AllOf(HasSubstr("3 samples"), HasSubstr("leave out --polish")));
}

}  // namespace
}  // namespace lithe
